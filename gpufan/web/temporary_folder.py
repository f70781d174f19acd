"""The temporary folder of a simulated box. The lock on the folder shows that its process still runs.

A process that is killed cannot remove its folder. So each new process removes the folders that nobody has locked.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "gpufan-web-"
"""The names of these folders begin with this text."""


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Create a folder and lock it, and remove it after the block. First remove the folders of killed processes.

    Forked processes hold the lock too. Raises OSError if the folder cannot be created or locked.
    """
    _remove_abandoned_folders()
    folder, descriptor = _new_locked_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _new_locked_folder() -> tuple[Path, int]:
    """Create a folder and lock it. Return its path, and the file descriptor that holds the lock. Raises OSError."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        with suppress(FileNotFoundError):  # another process has removed it, since it was not locked yet
            descriptor = _open_folder(folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if folder.exists():
                return folder, descriptor
            os.close(descriptor)


def _remove_abandoned_folders() -> None:
    """Remove the folders of this user that no process has locked."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # it is locked, it is no folder, or it is gone by now
            descriptor = _open_folder(folder)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_uid == os.geteuid():
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _open_folder(folder: Path) -> int:
    """Open `folder`, which must not be a link, and return the file descriptor. Raises OSError."""
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
