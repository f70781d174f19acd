"""Save and restore the content of a path: text, other data, a symbolic link, or nothing."""

from pathlib import Path

import msgspec

from gpufan.errors import GpufanError
from gpufan.system import files


class Special(msgspec.Struct, frozen=True):
    """The content of a path that is not text.

    The path is a symbolic link to `link`. If `link` is None, the path is a file that contains `data`.
    """

    link: str | None = None
    data: bytes = b""


Content = str | Special | None
"""The content of a path: text, a `Special`, or None if nothing is there."""


def read_content(path: Path) -> Content:
    """Return the content of `path` in the form that the manifest stores. Raises GpufanError."""
    if path.is_symlink():
        return Special(link=str(path.readlink()))
    data = files.read_file_if_exists(path)
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Special(data=data)


def write_content(path: Path, content: Content) -> None:
    """Write `content` to `path`. If `content` is None, remove the file `path`.

    Missing folders are created. Raises GpufanError.
    """
    if content is None:
        files.remove(path)
        return
    files.create_folder(path.parent)
    if isinstance(content, str):
        files.replace(path, content.encode())
    elif content.link is None:
        files.replace(path, content.data)
    else:
        files.remove(path)
        try:
            path.symlink_to(content.link)
        except OSError as error:
            why = files.why_not_written(error, path)
            raise GpufanError(f"cannot link {path} to {content.link}: {why}") from error
