"""Writes and reads the record `taken.json`: the cards whose fans or limits a run has set and not given back.

The record is needed if the run is killed.
`gpufan restore --taken`, the guardian and the script `gpu/release_fans.py` read it.
"""

import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import msgspec

from gpufan.core.gpu import FanChannel, GpuInfo
from gpufan.errors import GpufanError, NotGivenBack
from gpufan.system.files import read_file, remove_unsynced, replace_unsynced
from gpufan.system.printable import printable_values

_log = logging.getLogger(__name__)


class ChangedLimit(msgspec.Struct, frozen=True):
    """A limit that gpufan has changed. `gpu/release_fans.py` uses the same names for the fields."""

    name: str
    """The name of a field of `core.gpu.Limits`. It also gives the unit of the numbers here."""
    before: float
    set: tuple[float, float]
    """The last two values of the limit. If gpufan was killed, the second of them may not have been set."""

    def has_set(self, value: float) -> bool:
        """Whether gpufan has set the limit to `value`, or the limit had `value` before gpufan.

        If neither is so, another program has set it.
        """
        return any(is_same_taken_limit(value, each) for each in (self.before, *self.set))


class TakenCard(msgspec.Struct, frozen=True):
    """A card whose fans or limits gpufan has set. `gpu/release_fans.py` uses the same names for the fields."""

    uuid: str
    pci: str
    label: str
    backend: str
    fan_count: int
    display: str | None
    """The X server that the settings name. None if they name none, or if the fans are not set over X."""
    xauthority: str | None
    """The cookie file of this X server; None for the file in the home folder."""
    limits: tuple[ChangedLimit, ...] = ()
    channels: tuple[FanChannel, ...] = ()
    """The channels of the motherboard that are the fans, and their state before gpufan."""


class _Record(msgspec.Struct, frozen=True):
    """Content of the file `taken.json`."""

    cards: tuple[TakenCard, ...]


def is_same_taken_limit(value: float, other: float) -> bool:
    """Whether two values of a limit, W or °C, differ by at most 0.5, since a driver may round."""
    return abs(value - other) <= 0.5


def read_taken(path: Path) -> tuple[TakenCard, ...]:
    """Return the cards in the record `path`; empty if there is no such file.

    Raises GpufanError if the record cannot be read, or is damaged.
    """
    try:
        return msgspec.convert(printable_values(msgspec.json.decode(read_file(path))), _Record).cards
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise GpufanError(f"cannot read {path}: {error.strerror}: run `sudo gpufan restore`") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
        raise GpufanError(f"{path} is damaged: {error}: run `sudo gpufan restore`") from error


class Taken:
    """Writes the record. Any thread may use it. If the file cannot be written, a warning is logged once.

    At the end of a `with` block, the cards of this run are removed from the record, unless NotGivenBack was raised.
    """

    def __init__(self, path: Path, display: str | None) -> None:
        """Read the cards that an earlier run has left in the record `path`.

        `display` is the X server that the settings name; None if they name none.
        """
        self._path = path
        self._display = display
        self._lock = threading.Lock()
        self._infos: dict[str, GpuInfo] = {}
        """The cards whose fans were set, by UUID."""
        self._limits: dict[str, tuple[GpuInfo, tuple[ChangedLimit, ...]]] = {}
        """The cards whose limits were changed, by UUID, and these limits."""
        self._warned = False
        self._left_over: dict[str, TakenCard] = {}
        """The cards that an earlier run has set, by UUID."""
        try:
            self._left_over = {card.uuid: card for card in read_taken(path)}
        except GpufanError:
            _log.warning("%s cannot be read, so fans and limits that an earlier run has set are not known", path)

    def add(self, info: GpuInfo) -> None:
        """Record a card before its fans are set. Writes the file only if the card is new or the file was removed."""
        if self._infos.get(info.uuid) is info and self._path.exists():
            return
        with self._lock:
            self._infos[info.uuid] = info
            self._write()

    def remove(self, uuid: str) -> None:
        """Remove a card from the record after its fans were given back. Its changed limits stay in the record."""
        if uuid not in self._infos:
            return
        with self._lock:
            del self._infos[uuid]
            self._left_over.pop(uuid, None)
            self._write()

    def record_limits(self, info: GpuInfo, limits: Iterable[ChangedLimit]) -> bool:
        """Record `limits`, all changed limits of the card `info`. Returns whether the record was written."""
        with self._lock:
            if info.uuid in self._left_over:
                self._left_over[info.uuid] = msgspec.structs.replace(self._left_over[info.uuid], limits=())
            self._limits.pop(info.uuid, None)
            if changed := tuple(limits):
                self._limits[info.uuid] = info, changed
            return self._write()

    def limits_left_over(self, uuid: str) -> tuple[ChangedLimit, ...]:
        """Return the limits of a card that an earlier run has changed and not given back."""
        card = self._left_over.get(uuid)
        return () if card is None else card.limits

    def channels_left_over(self) -> list[FanChannel]:
        """Return the former states of the channels that an earlier run has set and not given back."""
        return [channel for card in self._left_over.values() for channel in card.channels]

    def renew(self) -> None:
        """Write the record again if somebody has removed it."""
        if (self._infos or self._limits) and not self._path.exists():
            with self._lock:
                self._write()

    def close(self) -> None:
        """Remove all cards of this run from the record. If no card of an earlier run is left, remove the file."""
        with self._lock:
            for uuid in (*self._infos, *self._limits):
                self._left_over.pop(uuid, None)
            self._infos.clear()
            self._limits.clear()
            self._write()

    def __enter__(self) -> "Taken":
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        if not isinstance(error, NotGivenBack):
            self.close()

    def _write(self) -> bool:
        """Write the record, or remove it if it has no card. Returns whether that succeeded."""
        infos = {uuid: info for uuid, (info, _) in self._limits.items()} | self._infos
        cards = self._left_over | {uuid: self._card(info) for uuid, info in infos.items()}
        try:
            if cards:
                self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                replace_unsynced(self._path, msgspec.json.encode(_Record(tuple(cards.values()))), 0o600)
            else:
                remove_unsynced(self._path)
        except OSError as error:
            self._warn(error)
            return False
        return True

    def _card(self, info: GpuInfo) -> TakenCard:
        """Return the entry for the card `info` in the record."""
        display = self._display if info.backend == "x11" else None
        xauthority = None if display is None else os.environ.get("XAUTHORITY")
        limits = self._limits[info.uuid][1] if info.uuid in self._limits else self.limits_left_over(info.uuid)
        channels = info.channels if info.uuid in self._infos else ()
        return TakenCard(
            info.uuid, info.pci, info.label, info.backend, info.fan_count, display, xauthority, limits, channels
        )

    def _warn(self, error: Exception) -> None:
        """Log that the record cannot be read or written, at the first error only."""
        if not self._warned:
            _log.warning("%s: %s; if gpufan is killed, run `sudo gpufan restore`", self._path, error)
        self._warned = True
