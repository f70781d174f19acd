"""The last good settings of the service: kept for a start at which the settings file has a mistake."""

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
from gpufan.daemon.publish import warn_once
from gpufan.errors import GpufanError, InputError
from gpufan.system.background import BackgroundWriter, call_with_timeout
from gpufan.system.files import read_file, replace_unsynced
from gpufan.system.paths import state_folder

READ_TIMEOUT_S = 1.0
"""Time limit for reading the file, s. A disk that hangs must not delay control."""

_log = logging.getLogger(__name__)

_FORMAT = 1
"""Increased when a key of the settings changes its meaning. A file with another format is ignored."""


class _File(msgspec.Struct, frozen=True):
    format: int
    text: str
    """Text of the settings file."""


def path() -> Path:
    """The file, which only root can read."""
    return state_folder() / "last-good-settings.json"


class StartSettings(NamedTuple):
    """The settings of a start."""

    settings: Settings
    in_use: SettingsInUse = SettingsInUse.CHOSEN
    refused: str | None = None
    """Why the settings file is not used; None if it is."""


def read_or_fall_back(source: Source) -> StartSettings:
    """The settings of `source`; if they are refused, the last good ones, else the built-in ones."""
    try:
        return StartSettings(source.read())
    except InputError as error:
        refused = str(error)
    if found := _last_good(source):
        return _instead(found, SettingsInUse.LAST_GOOD, refused)
    return _instead(Settings(options=source.options), SettingsInUse.BUILT_IN, refused)


def with_other_cards(source: Source, refused: InputError, gpus: Sequence[str]) -> StartSettings | None:
    """The last good settings, if they name other cards than `gpus`, of which none is here; else None.

    The built-in settings are for all cards, so they do not replace a choice of cards.
    """
    found = _last_good(source)
    if found is None or found.run_settings().gpus == tuple(gpus):
        return None
    return _instead(found, SettingsInUse.LAST_GOOD, str(refused))


def _instead(settings: Settings, in_use: SettingsInUse, refused: str) -> StartSettings:
    refused = refused.encode(errors="replace").decode()  # a path may contain bytes that are not text
    used = "last good" if in_use is SettingsInUse.LAST_GOOD else "built-in"
    _log.error("%s; the %s settings are used instead", refused, used)
    return StartSettings(settings, in_use, refused)


def _last_good(source: Source) -> Settings | None:
    """The last good settings, with the options of `source`; None if there are none."""
    try:
        file, tables = call_with_timeout(READ_TIMEOUT_S, _read)
    except (OSError, GpufanError):
        return None
    return Settings(source.path, file, tables, source.options)


@contextmanager
def saver() -> Iterator[Callable[[Settings], None]]:
    """A function that saves the file that settings were read from, in the background, since the disk may hang."""
    writer = BackgroundWriter(warn_once(_write, path()))

    def save(settings: Settings) -> None:
        if settings.content is not None:
            writer.put(settings.content)

    try:
        yield save
    finally:
        writer.close(0.5)


def _read() -> tuple[RunKeys, tuple[CardTable, ...]]:
    """The last good settings. Raises OSError or GpufanError."""
    if path().lstat().st_uid != os.geteuid():
        raise GpufanError("it belongs to another user")
    try:
        kept = msgspec.json.decode(read_file(path()), type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GpufanError(f"it is damaged: {error}") from error
    if kept.format != _FORMAT:
        raise GpufanError(f"it has format {kept.format}")
    return parse_settings_text(kept.text.encode())


def _write(content: bytes) -> None:
    """Keep the text of a settings file. Raises OSError."""
    data = msgspec.json.encode(_File(_FORMAT, content.decode())) + b"\n"
    with suppress(OSError):
        if read_file(path()) == data:
            return
    path().parent.mkdir(parents=True, exist_ok=True)
    replace_unsynced(path(), data, 0o600)
