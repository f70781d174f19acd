"""The seam to the configuration file: its place, its text, and whether it will do."""

from collections.abc import Sequence
from pathlib import Path

from gpufan.config import DEFAULT_PATH, RunKeys, Source, render
from gpufan.curve import Curve
from gpufan.errors import InputError
from gpufan.service.code import first_exposure

CONFIG = DEFAULT_PATH


def config_text(curve: Curve | None, hysteresis_c: float | None, gpus: Sequence[str]) -> str:
    """Text of a file that sets what is given, and explains all else."""
    return render(RunKeys(curve=curve, hysteresis_c=hysteresis_c, gpus=tuple(gpus) or None))


def check_config(path: Path) -> tuple[str, ...]:
    """Names of the cards that the file wants; empty for all. Raises InputError where `run` would refuse it."""
    return Source(path, required=True).read().whole().gpus


def check_owner(path: Path) -> None:
    """Raise InputError where somebody other than root can write what the service of root goes by."""
    if exposure := first_exposure([path]):
        raise InputError(f"{exposure}: `sudo chown root: {path} && sudo chmod 644 {path}`")
