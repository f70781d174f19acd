"""The runtime folder: the lock that keeps controllers to one, and where the snapshot lies."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gpufan.errors import GpufanError, NoPermission


class LockHeld(Exception):
    """Another process has the lock; this says its number, or `unknown`. Never reaches a person as it is."""


def acquire_lock(path: Path, mode: int) -> int:
    """A descriptor of the file `path` that holds its lock until it is closed, with our process number in the file.

    The file is made with `mode` if need be, and so is its folder. Raises LockHeld or OSError.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    # Where something else than a file lies there, opening it must not wait.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        pid = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise LockHeld(pid or "unknown") from None
        raise
    with suppress(OSError):  # the disk may be full; it is the lock that counts
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


@contextmanager
def controller_lock(folder: Path | None, warn: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock in `folder`, which is made if need be; None needs no lock.

    Raises GpufanError if another process holds it, NoPermission if only root may. Where the file system stands in
    the way otherwise (read-only, full), that is told to `warn`: fans matter more than the lock.
    """
    descriptor = None
    if folder is not None:
        try:
            # Nobody else may open it: whoever can could hold the lock and keep the fans from being controlled.
            descriptor = acquire_lock(folder / "lock", 0o600)
        except LockHeld as held:
            raise GpufanError(
                f"another gpufan (process {held}) has the fans in hand: stop it first, with"
                f" `sudo systemctl stop gpufan` or `sudo kill {held}`"
            ) from None
        except PermissionError:
            raise NoPermission(f"only root can set fans, and write to {folder}: run this with sudo") from None
        except OSError as error:
            warn(f"{folder}/lock: {error.strerror}; going on without, so see to it that no other gpufan runs")
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
