"""System files, changed so that nothing of the user's is lost: atomically, mode and owner kept, never over a backup."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from gpufan.bounded import read_file
from gpufan.errors import GpufanError, InputError


def real_path(path: Path) -> Path:
    """Follow symbolic links, also to a file that does not exist yet. Raises InputError."""
    try:
        real = path.absolute().resolve()
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path}: {_words(error)}") from error
    if real.is_symlink():
        raise InputError(f"{path}: its symbolic links go round in a circle: remove them first")
    if real.exists() and not real.is_file():
        raise InputError(f"{path} is not a file: give the path of one with --output")
    if not real.parent.is_dir():
        raise InputError(f"{real.parent} does not exist: install the X server (xserver-xorg-core), or create it")
    return real


def check_writable(path: Path) -> None:
    """Raise GpufanError where files beside `path` cannot be written."""
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise GpufanError(f"no permission to write {path}: run this with sudo, or look first with --dry-run")


def read(path: Path) -> bytes | None:
    """Return what a file holds; None where there is none. Raises GpufanError."""
    try:
        return read_file(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise GpufanError(f"cannot read {path}: {_words(error)}") from error


def replace(path: Path, data: bytes, like: Path | None = None) -> None:
    """Put `data` in the place of a file, all of it or nothing, with mode and owner of `like`. Raises GpufanError."""
    _put(path, data, like, os.replace)


def create(path: Path, data: bytes, like: Path | None = None) -> None:
    """Write a file that must not exist yet, all of it or nothing. Raises FileExistsError, GpufanError."""
    # Unlike a rename, a link fails where the name is taken.
    _put(path, data, like, os.link)


def remove(path: Path) -> None:
    """Remove a file if it is there. Raises GpufanError."""
    try:
        path.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise GpufanError(f"cannot remove {path}: {_words(error)}") from error


def _put(path: Path, data: bytes, like: Path | None, place: Callable[[str, Path], None]) -> None:
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            _dress(temporary, like)
            file.flush()
            os.fsync(file.fileno())
        place(temporary, path)
        _sync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise GpufanError(f"cannot write {path}: {_words(error)}; it is as it was") from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                Path(temporary).unlink(missing_ok=True)


def _dress(path: str, like: Path | None) -> None:
    """Give a file mode, owner and attributes of another; root's usual ones where there is none."""
    if like is None:
        Path(path).chmod(0o644)
        return
    status = like.stat()
    os.chown(path, status.st_uid, status.st_gid)
    shutil.copystat(like, path)
    os.utime(path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _words(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
