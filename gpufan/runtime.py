"""The runtime folder: the lock that keeps controllers to one, and where the snapshot lies."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gpufan.errors import GpufanError, NoPermission

DEFAULT_FOLDER = Path("/run/gpufan")
SNAPSHOT = "state.json"


@contextmanager
def only_one(folder: Path | None, warn: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock in `folder`, which is made if need be; None needs no lock.

    Raises GpufanError if another process holds it, NoPermission if only root may. Where the file system stands in
    the way otherwise (read-only, full), that is told to `warn`: fans matter more than the lock.
    """
    if folder is None:
        yield
        return
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        # Nobody else may open it: whoever can could hold the lock and keep the fans from being controlled. And where
        # something else than a file lies there, opening it must not wait.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(folder / "lock", flags, 0o600)
    except PermissionError:
        raise NoPermission(f"only root can set fans, and write to {folder}: run this with sudo") from None
    except OSError as error:
        warn(f"{folder}/lock: {error.strerror}; going on without, so see to it that no other gpufan runs")
        yield
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            raise GpufanError(
                f"another gpufan (process {pid}) has the fans in hand: stop it first, with"
                f" `sudo systemctl stop gpufan` or `sudo kill {pid}`"
            ) from None
        except OSError as error:
            warn(f"{folder}/lock: {error.strerror}; going on without, so see to it that no other gpufan runs")
        with suppress(OSError):  # the disk may be full; it is the lock that counts
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
