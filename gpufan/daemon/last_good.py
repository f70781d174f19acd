"""The last good settings of the service. They are saved for a start at which the settings file has a mistake."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from gpufan.config.schema import CardTable, RunKeys
from gpufan.config.settings import Settings, Source
from gpufan.config.toml_text import parse_settings_text
from gpufan.core.snapshot import SettingsInUse
from gpufan.daemon.publish import write_or_warn_once
from gpufan.errors import GpufanError, InputError
from gpufan.system.background import BackgroundWriter, call_with_timeout
from gpufan.system.files import read_file, replace_unsynced
from gpufan.system.paths import state_folder

READ_TIMEOUT_S = 1.0
"""Time limit for reading the file, s. A disk that hangs must not delay control."""

_log = logging.getLogger(__name__)

_FORMAT = 1
"""Number of the file format. It increases when a key of the settings changes its meaning.

A file with another number is ignored.
"""


class _LastGoodFile(msgspec.Struct, frozen=True):
    """Content of the file with the last good settings."""

    format: int
    text: str
    """Text of the settings file."""


def last_good_path() -> Path:
    """Return the path of the file with the last good settings, which only root can read."""
    return state_folder() / "last-good-settings.json"


class StartSettings(NamedTuple):
    """The settings with which a run starts."""

    settings: Settings
    in_use: SettingsInUse = SettingsInUse.CHOSEN
    refused: str | None = None
    """Why the settings file is not used; None if it is used."""


def read_settings_or_last_good(source: Source) -> StartSettings:
    """Return the settings of `source`. If they have a mistake, log it and return the last good settings.

    If the last good settings cannot be read, return the built-in settings.
    """
    try:
        return StartSettings(source.read())
    except InputError as error:
        refused = str(error)
    if found := _last_good_settings(source):
        return _last_good_instead(found, SettingsInUse.LAST_GOOD, refused)
    return _last_good_instead(Settings(options=source.options), SettingsInUse.BUILT_IN, refused)


def last_good_with_other_cards(source: Source, refused: InputError, gpus: Sequence[str]) -> StartSettings | None:
    """Return the last good settings if they name other cards than `gpus`; else None.

    `gpus` are the cards that the present settings name. They are not in this box, and the error `refused` says so. The
    built-in settings are for all cards, so they do not replace a choice of cards.
    """
    found = _last_good_settings(source)
    if found is None or found.run_settings().gpus == tuple(gpus):
        return None
    return _last_good_instead(found, SettingsInUse.LAST_GOOD, str(refused))


def _last_good_instead(settings: Settings, in_use: SettingsInUse, refused: str) -> StartSettings:
    """Log that `settings` are used instead of the settings file, and return them as the settings of a start.

    `in_use` says which settings they are. `refused` says why the file is not used.
    """
    refused = refused.encode(errors="replace").decode()  # a path may contain bytes that are not text
    used = "last good" if in_use is SettingsInUse.LAST_GOOD else "built-in"
    _log.error("%s; the %s settings are used instead", refused, used)
    return StartSettings(settings, in_use, refused)


def _last_good_settings(source: Source) -> Settings | None:
    """Return the last good settings together with the options of `source`. None if they cannot be read within 1 s."""
    try:
        file, tables = call_with_timeout(READ_TIMEOUT_S, _read_last_good)
    except (OSError, GpufanError):
        return None
    return Settings(source.path, file, tables, source.options)


@contextmanager
def last_good_saver() -> Iterator[Callable[[Settings], None]]:
    """Give the block a function that saves settings as the last good settings.

    The function returns at once. Another thread writes the file, since the disk may hang.
    """
    writer = BackgroundWriter(write_or_warn_once(_write_last_good, last_good_path()))

    def save_last_good(settings: Settings) -> None:
        if settings.content is not None:
            writer.put(settings.content)

    try:
        yield save_last_good
    finally:
        writer.close(0.5)


def _read_last_good() -> tuple[RunKeys, tuple[CardTable, ...]]:
    """Return the keys and the tables of cards in the last good settings. Raises OSError or GpufanError."""
    if last_good_path().lstat().st_uid != os.geteuid():
        raise GpufanError("it belongs to another user")
    try:
        kept = msgspec.json.decode(read_file(last_good_path()), type=_LastGoodFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GpufanError(f"it is damaged: {error}") from error
    if kept.format != _FORMAT:
        raise GpufanError(f"it has format {kept.format}")
    return parse_settings_text(kept.text.encode())


def _write_last_good(content: bytes) -> None:
    """Save `content`, the text of a settings file, as the last good settings. Raises OSError."""
    data = msgspec.json.encode(_LastGoodFile(_FORMAT, content.decode())) + b"\n"
    with suppress(OSError):
        if read_file(last_good_path()) == data:
            return
    last_good_path().parent.mkdir(parents=True, exist_ok=True)
    replace_unsynced(last_good_path(), data, 0o600)
