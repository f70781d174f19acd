"""The root folder of the box that the doctor examines. Tests replace this folder by another one."""

from pathlib import Path

from gpufan.config.settings import DEFAULT_PATH, Source

ROOT = Path("/")


def below_root(path: Path | str) -> Path:
    """Return the absolute `path` below the root folder: `/etc/os-release` becomes `ROOT/etc/os-release`."""
    return ROOT / Path(path).relative_to("/")


def settings_below_root(config: Path | None) -> Source:
    """Return the source of the settings: the file `config`. This file must exist.

    If `config` is None, the source is the default file. The default file may be missing.
    """
    return Source(config or below_root(DEFAULT_PATH), required=config is not None)
