"""Handle the config file of the service: read it, check it, and make the text that an install writes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gpufan.config.change import text_before_change
from gpufan.config.lint import lint_overriding_tables
from gpufan.config.schema import RunKeys
from gpufan.config.settings import DEFAULT_PATH, Settings, Source
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
"""File mode of the file `ALERTS`. This file contains secrets."""


def settings_of_service(options: InstallOptions) -> Settings:
    """Return the settings of the file that was given with --config.

    Without --config, return the settings of the existing config file. If no config file exists, return the default
    settings. Raises InputError if the settings are not valid, or if `options` combine --config with --curve, --target
    or --gpu.
    """
    if options.config is not None and options.has_settings:
        raise InputError("--config excludes --curve, --target and --gpu: write those settings into the file")
    file = options.config or (CONFIG if CONFIG.exists() else None)
    return Settings() if file is None else check_service_config(file)


def config_text_to_write(options: InstallOptions, rivals: Sequence[ServiceCommand], cards: Cards | None) -> str | None:
    """Return the new text of the config file; None if the existing file stays unchanged.

    With --config, the new text is that of the given file. Without --config, the options change single keys of the
    existing file. If no file exists, the text is made from the options. If there are no settings yet, a coolgpus
    service in `rivals` gives the curve, unless the options have a curve or a target.

    `cards` are used to look up the UUIDs of the cards in --gpu. If `cards` is None, --gpu contains UUIDs. Raises
    InputError or NoAnswer.
    """
    has_settings = CONFIG.exists() and _has_settings(CONFIG)
    if options.config is not None:
        text = options.config.read_text("utf-8")
        if not CONFIG.exists():
            return text
        if CONFIG.read_text("utf-8") == text:
            return None
        if has_settings:
            raise InputError(f"{CONFIG} exists already with other settings: edit it, or move it away")
        return text
    hysteresis_c = None
    coolgpus = next((rival for rival in rivals if rival.runs(["coolgpus"])), None)
    if coolgpus is not None and not has_settings and options.curve is None and options.target_c is None:
        curve, hysteresis_c = coolgpus_curve(coolgpus.words)
        options = replace(options, curve=curve)
    uuids = tuple(_uuids_for_config_file(options.gpus, cards)) or None
    keys = RunKeys(curve=options.curve, hysteresis_c=hysteresis_c, target_c=options.target_c, gpus=uuids)
    return _changed_config_text(options, keys) if CONFIG.exists() else render_settings_text(keys)


def _has_settings(path: Path) -> bool:
    """Whether the config file `path` has any setting. The file that a package installs has none."""
    return parse_settings_text(path.read_bytes()) != parse_settings_text(b"")


def _changed_config_text(options: InstallOptions, keys: RunKeys) -> str | None:
    """Put the values of `keys` that are not None into the text of the existing config file.

    Return the new text; None if the text would not change. `options` have the names of the cards as they were given.
    """
    from gpufan.config.edit import text_with_key, text_without_key  # loads tomlkit, which only a change needs

    before = text = text_before_change(CONFIG) or ""
    file, _ = parse_settings_text(text.encode())
    wanted = {key: getattr(keys, key) for key in ("curve", "hysteresis_c", "target_c", "gpus")}
    for key, value in wanted.items():
        # An older gpufan wrote the names of the cards as they were given.
        if value is not None and getattr(file, key) != value and not (key == "gpus" and file.gpus == options.gpus):
            text = text_with_key(text, key, value)
    if options.curve is not None and options.target_c is None:
        text = text_without_key(text, "target_c")  # else the target would count more
    return None if text == before else text


def override_lines(options: InstallOptions, text: str | None) -> list[str]:
    """Return a warning for each `[[gpu]]` table that overrides --target or --curve.

    `text` is the new text of the config file. If `text` is None, there are no warnings.
    """
    settings = Settings(CONFIG, *parse_settings_text((text or "").encode()))
    keys = [key for key in ("target_c", "curve") if getattr(options, key) is not None]
    return [f"{CONFIG}: {line}" for key in keys for line in lint_overriding_tables(settings, key, None, ())]


def config_file_mode() -> int:
    """Return the file mode of the existing config file; 0o644 if no config file exists."""
    return CONFIG.stat().st_mode & 0o7777 if CONFIG.exists() else 0o644


def check_service_config(path: Path) -> Settings:
    """Read the config file `path`, and return its settings.

    Raises InputError if the settings are not valid, or if they contain dry_run: the service would then set no fans.
    """
    settings = Source(path, required=True).read()
    if settings.run_settings().dry_run:
        raise InputError(f"{path}: with dry_run the service would set no fans: remove it")
    return settings


def check_config_owner(path: Path) -> None:
    """Raise InputError if the service cannot trust or cannot read the config file `path`.

    The service cannot trust the file if a user other than root can write it. The service cannot read the file if the
    sandbox of the service hides it.
    """
    if exposure := first_exposure([path]):
        raise InputError(f"{exposure}: `sudo chown root: {path} && sudo chmod 644 {path}`")


def _uuids_for_config_file(names: Sequence[str], cards: Cards | None) -> Sequence[str]:
    """Return the UUIDs of the cards that match `names`.

    If `cards` is None, `names` are UUIDs already, and are returned unchanged. Raises InputError if a name matches no
    card, NoAnswer if the UUID of a card is unknown.
    """
    if not names or cards is None:
        return names
    chosen = select_cards(cards.gpus, names)
    for gpu in chosen:
        if not gpu.info.uuid:
            raise NoAnswer(f"{gpu.info.label}, so its UUID is unknown: give the UUID with --gpu, or reboot first")
    return [gpu.info.uuid for gpu in chosen]
