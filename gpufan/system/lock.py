"""Locks. The lock of the controller makes sure that only one gpufan sets the fans."""

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
    """Lock the file `path`, and write our process number into it. Returns a file descriptor; to unlock, close it.

    Creates the folder and the file if they are missing; the file gets `mode`. Raises LockHeld or OSError.
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
    """The lock of the process that sets the fans. It is a file in the runtime folder."""

    def __init__(self, path: Path) -> None:
        """Acquire the lock. Raises LockHeld or OSError."""
        self._path = path
        # For root only: whoever can open the file can hold the lock and prevent control.
        self._descriptor = acquire_lock(path, 0o600)

    def renew(self) -> None:
        """Create and lock the file again, if somebody has removed it or its folder.

        Raises OSError, or GpufanError if this process must end. It must end if another process has the lock by now. It
        must also end if the sandbox of the service makes /run read-only, so that only systemd can create the folder.
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
    """Return the error that another gpufan controls the fans. `held` names the process of that gpufan."""
    return GpufanError(
        f"another gpufan (process {held}) controls the fans: stop it first, with"
        f" `sudo systemctl stop gpufan` or `sudo kill {held}`"
    )


@contextmanager
def controller_lock(folder: Path | None, warn: Callable[[str], None] = _log.warning) -> Iterator[ControllerLock | None]:
    """Hold the lock of the controller during the block, as a file in `folder`. If `folder` is None, there is no lock.

    A missing folder is created. Raises GpufanError if another process holds the lock, NoPermission if only root may
    hold it. Other errors of the file system (read-only, full) are only passed to `warn`: control of the fans is more
    important than the lock.
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
    """Lock each of `folders` that exists, for the duration of the block. No file is created.

    Raises GpufanError if another process does not unlock a folder within `limit_s` seconds.
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
    """Lock a folder that is open as `descriptor`. Returns False if another process has locked it. Raises OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
