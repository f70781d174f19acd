"""The settings file of the service: its path, its text at the first install, and whether the service can use it."""

from collections.abc import Sequence
from pathlib import Path

from gpufan.config.schema import RunKeys
from gpufan.config.settings import DEFAULT_PATH, RunSettings, Settings, Source
from gpufan.config.toml_text import render
from gpufan.core.selection import select
from gpufan.errors import InputError, NoAnswer
from gpufan.gpu.cards import Cards
from gpufan.service.conflicts import ServiceCommand, coolgpus_curve
from gpufan.service.exposure import first_exposure
from gpufan.service.install_options import InstallOptions
from gpufan.system.paths import ALERTS_SETTINGS

CONFIG = DEFAULT_PATH
ALERTS = ALERTS_SETTINGS
ALERTS_MODE = 0o640
"""Mode of the file `ALERTS`, which contains secrets."""


def settings_for(options: InstallOptions) -> RunSettings:
    """Settings of the given file, or of the file that exists, or the built-in ones. Raises InputError."""
    if options.config is not None and options.has_settings:
        raise InputError("--config excludes --curve, --target and --gpu: write those settings into the file")
    file = options.config or (CONFIG if CONFIG.exists() else None)
    return Settings().run_settings() if file is None else check_config(file)


def text_to_write(options: InstallOptions, rivals: Sequence[ServiceCommand], cards: Cards | None) -> str | None:
    """Text of the settings file to write; None if one exists already. Raises InputError if that has other settings."""
    if options.config is not None:
        texts = [options.config.read_text("utf-8")]
    else:
        curve, hysteresis_c = options.curve, None
        coolgpus = next((rival for rival in rivals if rival.runs(["coolgpus"])), None)
        if curve is None and options.target_c is None and coolgpus is not None:
            curve, hysteresis_c = coolgpus_curve(coolgpus.words)
        # An older gpufan wrote the names of the cards as they were given.
        texts = [
            render(RunKeys(curve=curve, hysteresis_c=hysteresis_c, target_c=options.target_c, gpus=tuple(gpus) or None))
            for gpus in (_uuids(options.gpus, cards), options.gpus)
        ]
    if not CONFIG.exists():
        return texts[0]
    if (options.config is not None or options.has_settings) and CONFIG.read_text("utf-8") not in texts:
        raise InputError(f"{CONFIG} exists already with other settings: edit it, or move it away")
    return None


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


def _uuids(names: Sequence[str], cards: Cards | None) -> Sequence[str]:
    """The UUIDs of the cards in `names`; if no cards are open, `names` are UUIDs. Raises InputError or NoAnswer."""
    if not names or cards is None:
        return names
    chosen = select(cards.gpus, names)
    for gpu in chosen:
        if not gpu.info.uuid:
            raise NoAnswer(f"{gpu.info.label}, so its UUID is unknown: give the UUID with --gpu, or reboot first")
    return [gpu.info.uuid for gpu in chosen]
