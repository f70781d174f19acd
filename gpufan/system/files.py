"""System files, changed so that nothing of the user's is lost: atomically, mode and owner kept, never over a backup."""

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

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


def read_if_exists(path: Path) -> bytes | None:
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


_LARGEST = 1 << 20
"""Bytes of a file that is read as a whole: what we write ourselves, and settings."""


def read_file(path: Path) -> bytes:
    """Content of a regular file. Raises OSError: no pipe makes us wait, and no giant takes the memory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a file")
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise OSError(errno.EFBIG, "it is larger than it can be")
    return content


class ReplacedFile:
    """A file that is replaced as a whole, so that whoever reads it finds the old content or the new one."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._temporary = f"{path}.new"

    def replace(self, data: bytes) -> None:
        """Replace the content, for anyone to read. Raises OSError; then all is as it was."""
        # Not synced: after a power failure there is no daemon whose state could be read.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            descriptor = os.open(self._temporary, flags, 0o644)
        except FileExistsError:  # left by one that was killed, or put there by somebody
            os.unlink(self._temporary)  # noqa: PTH108  # as below
            descriptor = os.open(self._temporary, flags, 0o644)
        try:
            try:
                os.fchmod(descriptor, 0o644)  # whatever the umask
                if os.write(descriptor, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(descriptor)
            os.replace(self._temporary, self._path)  # noqa: PTH105  # text costs a tenth of what Path does
        except OSError:
            with suppress(OSError):
                os.unlink(self._temporary)  # noqa: PTH108  # as above
            raise

    def remove(self) -> None:
        """Leave nothing behind that could be taken for what is true now."""
        for path in (self._temporary, self._path):
            Path(path).unlink(missing_ok=True)


def write_files(folder: Path, wanted: Mapping[str, bytes], *, force: bool = False) -> list[str]:
    """Write `wanted`, by path below `folder`, which is made if need be; a line for each.

    Raises InputError, with nothing changed, where one is there with other content and `force` does not allow to replace
    it; GpufanError where one cannot be written.
    """
    before = {name: read_if_exists(folder / name) for name in wanted}
    # A link that leads nowhere is somebody's as well.
    differing = [
        str(folder / name) for name, data in wanted.items() if before[name] != data and os.path.lexists(folder / name)
    ]
    if differing and not force:
        raise InputError(f"{' and '.join(differing)} would be overwritten: add --force, or choose another --output")
    lines = []
    for name, data in wanted.items():
        path = folder / name
        if before[name] == data:
            lines.append(f"{path} is up to date")
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise GpufanError(f"cannot make {path.parent}: {error.strerror}") from error
        replace(path, data)
        lines.append(f"wrote {path}")
    return lines


def write_output(path: Path, data: bytes) -> None:
    """Write a file anew that may be replaced, such as a picture. Raises GpufanError; what was there is there then."""
    real = path.resolve()
    if real.exists():
        replace(real, data, like=real)
        return
    try:
        real.write_bytes(data)
    except OSError as error:
        with suppress(OSError):
            real.unlink()  # a part of it is of no use
        raise GpufanError(f"cannot write {path}: {error.strerror}") from error
