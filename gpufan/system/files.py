"""Read files, and write each file completely or not at all.

The symbolic links, file modes, owners and backups of the user are never lost.
"""

import errno
import fcntl
import glob
import os
import shlex
import shutil
import stat
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from gpufan.errors import GpufanError, InputError

_SIZE_LIMIT_BYTES = 1 << 20
"""Size of the largest file that can be read. Settings files, and files that gpufan writes, are not larger."""

_GET_FLAGS = 0x80086601
"""Request of ioctl for the attributes of a file, those of `chattr`. From linux/fs.h, for machines with 64 bits."""
_IMMUTABLE, _APPEND_ONLY = 0x10, 0x20

_REMEDIES = {
    errno.EROFS: "its file system is read-only; make it writable first",
    errno.EBUSY: "it is a mount point; unmount it first, or change the file that is mounted",
}
"""Errors of the file system whose usual text does not say what to do."""

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def read_file(path: Path) -> bytes:
    """Return the content of the regular file `path`.

    Raises OSError if the file cannot be read, is not a regular file, or is larger than 1 MiB. A pipe is refused,
    because a read could block. A device is not even opened, because that could start a watchdog.
    """
    _check_regular_file(path.stat())
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        _check_regular_file(os.fstat(descriptor))
        content: bytes | None = file.read(_SIZE_LIMIT_BYTES + 1)
    if content is None:  # a device of the kernel that is busy
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    if len(content) > _SIZE_LIMIT_BYTES:
        raise OSError(errno.EFBIG, "it is too large")
    return content


def _check_regular_file(status: os.stat_result) -> None:
    """Raise OSError if `status` is not the status of a regular file."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a file")


def read_text_or_empty(path: Path) -> str:
    """Return the text of a file, such as a file of /proc; an empty text if the file cannot be read."""
    try:
        return read_file(path).decode("utf-8", "replace")
    except OSError:
        return ""


def read_file_if_exists(path: Path) -> bytes | None:
    """Return the content of the regular file `path`; None if the file does not exist.

    Raises GpufanError if the file cannot be read.
    """
    try:
        return read_file(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise GpufanError(f"cannot read {path}: {error.strerror}") from error


def check_folder_is_writable(path: Path) -> None:
    """Raise GpufanError, with the reason, if this user may not write to the folder that contains `path`."""
    folder = existing_parent(path.parent)
    if os.access(folder, os.W_OK | os.X_OK):
        return
    number = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EPERM
    if why := _known_reason(number, folder):
        raise GpufanError(f"cannot write {path}: {why}")
    raise GpufanError(f"no permission to write {path}: run this with sudo, or look first with --dry-run")


def why_root_cannot_write(folder: Path) -> str:
    """Return why not even root can write to `folder`, and what to do."""
    return _known_reason(errno.EPERM, folder) or f"{folder} is read-only: mount it writable, and try again"


def why_not_written(error: OSError, *paths: Path) -> str:
    """Return why the file system refused to change the files `paths`, with the remedy if it is known.

    `error` is the error of the file system.
    """
    return _known_reason(error.errno, *paths, *(path.parent for path in paths)) or error.strerror or str(error)


def _known_reason(number: int | None, *paths: Path) -> str:
    """Return why none of `paths` can be changed, with the remedy; empty if the reason is not known.

    `number` is the number of the error of the file system.
    """
    if number == errno.EPERM:
        for path in paths:
            if letter := _protecting_attribute(path):
                command = f"chattr -{letter} {shlex.quote(str(path))}"
                return f"{path} has the attribute {letter}, which protects it from root too; run `{command}` first"
    return _REMEDIES.get(number or 0, "")


def _protecting_attribute(path: Path) -> str:
    """Return the letter of the attribute with which even root cannot change `path`; empty if there is none."""
    flags = array("l", [0])
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return ""
    try:
        fcntl.ioctl(descriptor, _GET_FLAGS, flags)
    except OSError:  # a file system without attributes
        return ""
    finally:
        os.close(descriptor)
    return "i" if flags[0] & _IMMUTABLE else "a" if flags[0] & _APPEND_ONLY else ""


def existing_parent(path: Path) -> Path:
    """Return `path` if it exists. Otherwise return the nearest folder above `path` that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def replace(path: Path, data: bytes, like: Path | None = None, mode: int = 0o644) -> None:
    """Write `data` to the file `path` in one step, and sync the file to disk.

    The new file gets the mode, owner and extended attributes of the file `like`. If `like` is None, the new file gets
    the file mode `mode`. Raises GpufanError; the old file is then unchanged.
    """
    import tempfile  # slow, and the control loop does not need it

    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=_temporary_prefix(path), dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if like is None:
                Path(temporary).chmod(mode)
            else:
                _copy_mode_and_owner(like, temporary)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        unchanged = "; it is unchanged" if os.path.lexists(path) else ""
        raise GpufanError(f"cannot write {path}: {why_not_written(error, path)}{unchanged}") from error
    finally:
        if temporary:
            with suppress(OSError):
                Path(temporary).unlink(missing_ok=True)


def rename(source: Path, target: Path) -> None:
    """Rename the file `source` to `target` in one step. Raises GpufanError.

    If both paths are names of the same file, only the name `source` is removed.
    """
    try:
        source.replace(target)
        # A rename between two names of one file leaves both.
        source.unlink(missing_ok=True)
    except OSError as error:
        raise GpufanError(
            f"cannot write {target}: {why_not_written(error, source, target)}; it is unchanged"
        ) from error


def create_folder(folder: Path) -> None:
    """Create `folder` and the folders above it, if they do not exist. Raises GpufanError."""
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    except OSError as error:
        raise GpufanError(f"cannot create {folder}: {why_not_written(error, existing_parent(folder))}") from error


def remove(path: Path) -> None:
    """Remove the file `path` if it exists, and sync its folder to disk. Raises GpufanError."""
    try:
        path.unlink()
        _sync_folder(path.parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise GpufanError(f"cannot remove {path}: {why_not_written(error, path)}") from error


def remove_temporaries(path: Path) -> None:
    """Remove the temporary files that `replace` has left behind for `path`. Raises GpufanError.

    Such files remain if a process is killed during `replace`.
    """
    prefix = glob.escape(_temporary_prefix(path))
    for temporary in path.parent.glob(f"{prefix}{'?' * 8}"):  # as tempfile.mkstemp names them
        remove(temporary)


def _temporary_prefix(path: Path) -> str:
    """Return the prefix of the names of temporary files for `path`. No file of a user has this prefix."""
    return f".{path.name}.gpufan-"


def _copy_mode_and_owner(source: Path, path: str) -> None:
    """Give the file `path` the mode, owner and extended attributes of the file `source`. Raises OSError."""
    status = source.stat()
    os.chown(path, status.st_uid, status.st_gid)
    shutil.copystat(source, path)
    os.utime(path)


def _sync_folder(folder: Path) -> None:
    """Write the entries of `folder` to disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_unsynced(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write `data` to the file `path` in one step, but do not sync the file to disk.

    This is for content that is written again and again. After a power failure the file may be empty. The new file gets
    the file mode `mode`. Raises OSError; the old file is then unchanged.
    """
    temporary = _temporary_name(path)
    try:
        try:
            descriptor = os.open(temporary, _NEW_FILE, mode)
        except FileExistsError:  # left by a killed process, or another user's link
            Path(temporary).unlink()
            descriptor = os.open(temporary, _NEW_FILE, mode)
        try:
            os.fchmod(descriptor, mode)  # whatever the umask is
            while data:  # a disk that becomes full accepts a part first
                data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)
        os.replace(temporary, path)  # noqa: PTH105  # Path.replace makes a new Path: slow, and Python stores its words
    except OSError:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def remove_unsynced(path: Path) -> None:
    """Remove the file `path` that `replace_unsynced` has written, and its temporary file. Raises OSError.

    It is no error if these files do not exist.
    """
    Path(_temporary_name(path)).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _temporary_name(path: Path) -> str:
    """Return the path of the temporary file that `replace_unsynced` uses for `path`."""
    return f"{path}.new"


def write_files(folder: Path, contents: Mapping[str, bytes], *, force: bool = False) -> list[str]:
    """Write files into `folder`, and create missing folders. Return a line of text about each file.

    `contents` maps the path of each file below `folder` to its content. If `force` is False and a file exists with
    other content, raises InputError, and changes nothing. Raises GpufanError if a file cannot be written.
    """
    with _remedy_of_output():
        before = {name: read_file_if_exists(folder / name) for name in contents}
    # A link to a file that does not exist belongs to the user too.
    differing = [
        str(folder / name) for name, data in contents.items() if before[name] != data and os.path.lexists(folder / name)
    ]
    if differing and not force:
        raise InputError(f"{' and '.join(differing)} would be overwritten: add --force, or choose another --output")
    lines = []
    for name, data in contents.items():
        path = folder / name
        if before[name] == data:
            lines.append(f"{path} is up to date")
            continue
        with _remedy_of_output():
            create_folder(path.parent)
            replace(path, data)
        lines.append(f"wrote {path}")
    return lines


def write_output(path: Path, data: bytes) -> None:
    """Write `data` to `path`. This is the file, for example a picture, that the user named with --output.

    Raises GpufanError if the file cannot be written. An existing file is then unchanged.
    """
    try:
        real = path_behind_links(path)
    except OSError as error:
        raise GpufanError(f"cannot write {path}: {error.strerror}") from error
    if real.exists():
        with _remedy_of_output():
            replace(real, data, like=real)
        return
    try:
        # A link that appears after the check is an error here.
        descriptor = os.open(real, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError as error:
        with suppress(OSError):
            real.unlink()  # an incomplete file is of no use
        raise GpufanError(f"cannot write {path}: {error.strerror}; choose another --output") from error


@contextmanager
def _remedy_of_output() -> Iterator[None]:
    """Add to a GpufanError of the block that the user can name another file or folder with --output."""
    try:
        yield
    except GpufanError as error:
        raise GpufanError(f"{error}; choose another --output") from error


def path_behind_links(path: Path) -> Path:
    """Follow all symbolic links in `path`, and return the path of the real file. The file need not exist.

    Raises OSError if the links form a circle, or if a link belongs to a user other than root and the present user. In a
    folder such as /tmp, the link of another user could point to any file of the present user.
    """
    try:
        real = path.resolve()
        foreign = next((link for link in _links_on_path(path.absolute()) if not _is_trusted_link(link)), None)
    except RuntimeError:
        raise OSError(errno.ELOOP, "its symbolic links form a circle") from None
    if foreign is not None:
        raise OSError(errno.EPERM, f"{foreign} is a link of another user: remove it, or use another folder")
    return real


def _links_on_path(path: Path) -> Iterator[Path]:
    """Return every symbolic link that is followed on the way to the file `path`.

    Raises RecursionError if the links form a circle.
    """
    for part in (*reversed(path.parents), path):
        if part.is_symlink():
            yield part
            yield from _links_on_path(part.parent / part.readlink())


def _is_trusted_link(link: Path) -> bool:
    """Whether the symbolic link `link` belongs to the present user or to root."""
    return link.lstat().st_uid in (0, os.geteuid())
