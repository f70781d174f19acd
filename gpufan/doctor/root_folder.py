"""The root folder of the box that the doctor examines. Tests replace it by another folder."""

from pathlib import Path

from gpufan.system.files import read_file

ROOT = Path("/")


def below_root(path: Path | str) -> Path:
    """Path of the absolute `path` below the root folder."""
    return ROOT / Path(path).relative_to("/")


def text_of(path: Path) -> str:
    """Content of a file; empty if it cannot be read."""
    try:
        return read_file(path).decode("utf-8", "replace")
    except OSError:
        return ""
