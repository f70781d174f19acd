"""Lock files and folders against other processes.

The lock of the controller makes sure that only one gpufan sets the fans.
"""

import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from gpufan.errors import GpufanError, NoPermission

_log = logging.getLogger(__name__)


class LockHeld(Exception):
    """Another process holds the lock. The text of the error is the number of that process, or `unknown`."""


def acquire_lock(path: Path, mode: int) -> int:
    """Lock the file `path`, and write the number of this process into the file. Return the file descriptor.

    To unlock the file, close the descriptor. A missing folder or file is created; a new file gets the file mode `mode`.
    Raises LockHeld if another process holds the lock, OSError if the file cannot be opened or locked.
    """
    with suppress(FileExistsError):  # something else than a folder: the next line raises what it is
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    # O_NONBLOCK and O_NOFOLLOW: a pipe or a link at this path is an error.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        pid = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise LockHeld(pid or "unknown") from None
        raise
    with suppress(OSError):  # the disk may be full; the lock is held nevertheless
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


class ControllerLock:
    """The lock of the process that sets the fans. The lock is a file in the runtime folder."""

    def __init__(self, path: Path) -> None:
        """Lock the file `path`. Raises LockHeld or OSError."""
        self._path = path
        # For root only: whoever can open the file can hold the lock and prevent control.
        self._descriptor = acquire_lock(path, 0o600)

    def renew(self) -> None:
        """Create and lock the file again, if the file or its folder was removed.

        Raises GpufanError if this process must end. There are two such cases: another process holds the lock by now, or
        the folder can be created only by systemd, because the sandbox of the service makes /run read-only. Raises
        OSError for every other error of the file system.
        """
        if os.fstat(self._descriptor).st_nlink:
            return
        try:
            descriptor = acquire_lock(self._path, 0o600)
        except LockHeld as held:
            raise _lock_held_error(held) from None
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            raise GpufanError(f"{self._path.parent} was removed: gpufan must start again to create it") from error
        os.close(self._descriptor)
        self._descriptor = descriptor

    def close(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)


def _lock_held_error(held: LockHeld) -> GpufanError:
    """Return the error for the user: another gpufan controls the fans.

    The text of `held` is the number of the process of that gpufan, or `unknown`.
    """
    return GpufanError(
        f"another gpufan (process {held}) controls the fans: stop it first, with"
        f" `sudo systemctl stop gpufan` or `sudo kill {held}`"
    )


@contextmanager
def controller_lock(folder: Path | None, warn: Callable[[str], None] = _log.warning) -> Iterator[ControllerLock | None]:
    """Hold the lock of the controller during the block. The lock is a file in `folder`.

    A missing folder is created. If `folder` is None, nothing is locked. Raises GpufanError if another process holds the
    lock, NoPermission if only root may hold the lock. After another error of the file system, such as a full disk,
    `warn` gets a warning, and the block runs without a lock: control of the fans is more important than the lock. The
    block gets the lock; None without a lock.
    """
    lock = None
    if folder is not None:
        try:
            lock = ControllerLock(folder / "lock")
        except LockHeld as held:
            raise _lock_held_error(held) from None
        except PermissionError:
            raise NoPermission(f"only root can set fans, and write to {folder}: run this with sudo") from None
        except OSError as error:
            warn(f"{folder}/lock: {error.strerror}; gpufan continues without a lock: make sure that no other one runs")
    try:
        yield lock
    finally:
        if lock is not None:
            lock.close()


@contextmanager
def folder_locks(folders: Iterable[Path], limit_s: float = 10.0) -> Iterator[None]:
    """Lock the existing folders in `folders` during the block. No file is created.

    Raises GpufanError if a folder cannot be locked, or if another process does not unlock a folder within `limit_s`
    seconds.
    """
    end_s = time.monotonic() + limit_s
    with ExitStack() as stack:
        # Sorted, so that two processes cannot wait for each other.
        for folder in sorted({folder.resolve() for folder in folders if folder.is_dir()}):
            try:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, descriptor)
                while not _try_to_lock(descriptor):
                    if time.monotonic() > end_s:
                        raise GpufanError(f"another process has locked {folder}: run this again later")
                    time.sleep(0.02)
            except OSError as error:
                raise GpufanError(f"cannot lock {folder}: {error.strerror}") from error
        yield


def _try_to_lock(descriptor: int) -> bool:
    """Try to lock the open folder with the file descriptor `descriptor`. Return whether the folder is locked now.

    Returns False if another process has locked the folder. Raises OSError.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
