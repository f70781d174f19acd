"""The seam to the configuration file: its place, its text, and whether it will do."""

from collections.abc import Sequence
from pathlib import Path

from gpufan.config.schema import RunKeys, render
from gpufan.config.settings import DEFAULT_PATH, RunSettings, Settings, Source
from gpufan.core.curve import Curve
from gpufan.errors import InputError
from gpufan.service.root_copy import first_exposure

CONFIG = DEFAULT_PATH


def new_config(
    curve: Curve | None, hysteresis_c: float | None, target_c: float | None, gpus: Sequence[str]
) -> tuple[str, RunSettings]:
    """Text of a file that sets what is given and explains all else, and what it says for all cards together."""
    keys = RunKeys(curve=curve, hysteresis_c=hysteresis_c, target_c=target_c, gpus=tuple(gpus) or None)
    return render(keys), Settings(file=keys).run_settings()


def check_config(path: Path) -> RunSettings:
    """What the file says for all cards together. Raises InputError where `run` would refuse it."""
    whole = Source(path, required=True).read().run_settings()
    if whole.dry_run:
        raise InputError(f"{path}: dry_run keeps a service from doing anything: remove it")
    return whole


def check_owner(path: Path) -> None:
    """Raise InputError where somebody other than root can write what the service of root goes by."""
    if exposure := first_exposure([path]):
        raise InputError(f"{exposure}: `sudo chown root: {path} && sudo chmod 644 {path}`")
