"""The config file of the service: its path, the text that an install writes, and whether the service can use it."""

from collections.abc import Sequence
from pathlib import Path

from gpufan.config.change import text_before_change
from gpufan.config.lint import lint_overriding_tables
from gpufan.config.schema import RunKeys
from gpufan.config.settings import DEFAULT_PATH, RunSettings, Settings, Source
from gpufan.config.toml_text import parse_settings_text, render_settings_text
from gpufan.core.selection import select_cards
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


def settings_of_service(options: InstallOptions) -> RunSettings:
    """Return the settings in the file of --config, else in the existing file, else the defaults. Raises InputError."""
    if options.config is not None and options.has_settings:
        raise InputError("--config excludes --curve, --target and --gpu: write those settings into the file")
    file = options.config or (CONFIG if CONFIG.exists() else None)
    return Settings().run_settings() if file is None else check_service_config(file)


def config_text_to_write(options: InstallOptions, rivals: Sequence[ServiceCommand], cards: Cards | None) -> str | None:
    """Return the text of the config file to write; None if the existing file stays unchanged. Raises InputError.

    If a file exists, the options change single keys in its text.
    """
    if CONFIG.exists() and options.config is None:
        return _changed_config_text(options, _uuids_for_config_file(options.gpus, cards))
    if options.config is not None:
        text = options.config.read_text("utf-8")
        if CONFIG.exists() and CONFIG.read_text("utf-8") != text:
            raise InputError(f"{CONFIG} exists already with other settings: edit it, or move it away")
        return None if CONFIG.exists() else text
    curve, hysteresis_c = options.curve, None
    coolgpus = next((rival for rival in rivals if rival.runs(["coolgpus"])), None)
    if curve is None and options.target_c is None and coolgpus is not None:
        curve, hysteresis_c = coolgpus_curve(coolgpus.words)
    gpus = tuple(_uuids_for_config_file(options.gpus, cards)) or None
    return render_settings_text(RunKeys(curve=curve, hysteresis_c=hysteresis_c, target_c=options.target_c, gpus=gpus))


def _changed_config_text(options: InstallOptions, uuids: Sequence[str]) -> str | None:
    """Return the text of the existing file with the settings of `options` in it; None if it has them already."""
    from gpufan.config.edit import text_with_key, text_without_key  # loads tomlkit, which only a change needs

    before = text = text_before_change(CONFIG) or ""
    file, _ = parse_settings_text(text.encode())
    wanted = {"curve": options.curve, "target_c": options.target_c, "gpus": tuple(uuids) or None}
    for key, value in wanted.items():
        # An older gpufan wrote the names of the cards as they were given.
        if value is not None and getattr(file, key) != value and not (key == "gpus" and file.gpus == options.gpus):
            text = text_with_key(text, key, value)
    if options.curve is not None and options.target_c is None:
        text = text_without_key(text, "target_c")  # else the target would count more
    return None if text == before else text


def override_lines(options: InstallOptions, text: str | None) -> list[str]:
    """Return a line for each table in `text`, the new config file, that overrides a setting in `options`."""
    settings = Settings(CONFIG, *parse_settings_text((text or "").encode()))
    keys = [key for key in ("target_c", "curve") if getattr(options, key) is not None]
    return [f"{CONFIG}: {line}" for key in keys for line in lint_overriding_tables(settings, key, None, ())]


def config_file_mode() -> int:
    """Return the file mode of the config file. A new file is readable by everybody."""
    return CONFIG.stat().st_mode & 0o7777 if CONFIG.exists() else 0o644


def check_service_config(path: Path) -> RunSettings:
    """Read the settings in a file. Raises InputError if they are wrong, or if a service with them would set no fans."""
    settings = Source(path, required=True).read().run_settings()
    if settings.dry_run:
        raise InputError(f"{path}: with dry_run the service would set no fans: remove it")
    return settings


def check_config_owner(path: Path) -> None:
    """Raise InputError if users other than root can write the file."""
    if exposure := first_exposure([path]):
        raise InputError(f"{exposure}: `sudo chown root: {path} && sudo chmod 644 {path}`")


def _uuids_for_config_file(names: Sequence[str], cards: Cards | None) -> Sequence[str]:
    """Return the UUIDs of the cards `names`. Without open cards, `names` are UUIDs. Raises InputError or NoAnswer."""
    if not names or cards is None:
        return names
    chosen = select_cards(cards.gpus, names)
    for gpu in chosen:
        if not gpu.info.uuid:
            raise NoAnswer(f"{gpu.info.label}, so its UUID is unknown: give the UUID with --gpu, or reboot first")
    return [gpu.info.uuid for gpu in chosen]
