"""The settings file of the service: its path, its first content, and whether the service can use it."""

from collections.abc import Sequence
from pathlib import Path

from gpufan.config.schema import RunKeys
from gpufan.config.settings import DEFAULT_PATH, RunSettings, Source
from gpufan.config.toml_text import render
from gpufan.core.curve import Curve
from gpufan.errors import InputError
from gpufan.service.exposure import first_exposure
from gpufan.system.paths import ALERTS_SETTINGS

CONFIG = DEFAULT_PATH
ALERTS = ALERTS_SETTINGS
ALERTS_MODE = 0o640
"""It holds secrets. Both files are in one folder."""


def new_config(curve: Curve | None, hysteresis_c: float | None, target_c: float | None, gpus: Sequence[str]) -> str:
    """Text of a settings file that sets the given values and explains all other keys."""
    return render(RunKeys(curve=curve, hysteresis_c=hysteresis_c, target_c=target_c, gpus=tuple(gpus) or None))


def check_config(path: Path) -> RunSettings:
    """Read the settings of a file. Raises InputError if they are wrong, or if the service would set no fans."""
    settings = Source(path, required=True).read().run_settings()
    if settings.dry_run:
        raise InputError(f"{path}: with dry_run the service would set no fans: remove it")
    return settings


def check_owner(path: Path) -> None:
    """Raise InputError if users other than root can write the file."""
    if exposure := first_exposure([path]):
        raise InputError(f"{exposure}: `sudo chown root: {path} && sudo chmod 644 {path}`")
