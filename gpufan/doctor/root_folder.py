"""The root folder of the box that the doctor examines, and the settings in it. Tests replace it by another folder."""

from pathlib import Path

from gpufan.config.settings import DEFAULT_PATH, Source

ROOT = Path("/")


def below_root(path: Path | str) -> Path:
    """Return the absolute `path` below the root folder: `/etc/os-release` is `ROOT/etc/os-release`."""
    return ROOT / Path(path).relative_to("/")


def settings_below_root(config: Path | None) -> Source:
    """Return the source of the settings: the file `config`, or without it the default file, which may be missing."""
    return Source(config or below_root(DEFAULT_PATH), required=config is not None)
