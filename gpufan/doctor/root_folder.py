"""The root folder of the box that the doctor examines. Tests replace it by another folder."""

from pathlib import Path

ROOT = Path("/")


def below_root(path: Path | str) -> Path:
    """Path of the absolute `path` below the root folder."""
    return ROOT / Path(path).relative_to("/")
