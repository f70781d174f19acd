"""The history as others read it: read-only, while the keeper writes or when none does."""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import GenericAlias, TracebackType
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from gpufan.core.gpu import GpuInfo
from gpufan.core.selection import matches
from gpufan.daemon.recording import Row
from gpufan.errors import GpufanError, InputError
from gpufan.history import FILE
from gpufan.history.events import Event
from gpufan.history.store import APPLICATION_ID, SCHEMA_VERSION, words
from gpufan.system.printable import printable

# What the columns of a sound file hold. What else a damaged one says is told, and not reckoned with.
_Time = Annotated[float, Meta(ge=0, lt=1e10)]
_Seconds = Annotated[float, Meta(ge=0, le=1e10)]
_Measured = Annotated[float, Meta(ge=-1e12, le=1e12)] | None
_CARD = tuple[int, str, int, str, str, str, str]
_SPAN = tuple[_Time | None, _Time | None]
_FIRST = tuple[_Time | None]
_HIGHEST = tuple[_Measured]
_MINUTE = GenericAlias(tuple, (_Time, str, str, *(_Seconds,) * 3, *(_Measured,) * 15))
_SECOND = tuple[_Time, str, str, _Seconds, _Measured, _Measured, _Measured, _Measured, _Measured]
_READING = tuple[_Time, int, _Measured, _Measured, _Measured, _Measured, _Measured, str, str, str]
_EVENT = tuple[_Time, str, str, _Time, str, int]


class Span(NamedTuple):
    """From when until when, seconds since the epoch; the end is not part of it."""

    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Card:
    """A card that the history knows."""

    id: int
    info: GpuInfo
    label: str
    settings: str
    """What its fans followed last: `curve 50:30,83:100` or `target 78 °C`; empty where that was not told."""


class Mean(NamedTuple):
    """What a minute keeps of a measured value; None where it was not known."""

    mean: float | None
    low: float | None
    high: float | None


class Minute(NamedTuple):
    """A card during the part of a minute in which its control and kind were these."""

    time_s: float
    """Beginning of the minute, seconds since the epoch."""
    control: str
    kind: str
    seconds: float
    hot_s: float
    throttled_s: float
    temperature_c: Mean
    power_w: Mean
    duty_percent: Mean
    speed_percent: Mean
    speed_rpm: Mean


class Past:
    """The history in a folder, open until the end of the `with` block."""

    def __init__(self, folder: Path) -> None:
        """Open it. Raises GpufanError where there is none, or where it cannot be read."""
        self._path = folder / FILE
        self._connection = self._open()

    def cards(self, wanted: Iterable[str] = ()) -> list[Card]:
        """The cards that `wanted` names as `--gpu` does, in the order of their indices; all if it names none.

        Raises InputError for a name that fits no card, GpufanError where the history is empty.
        """
        found = [
            Card(
                id,
                GpuInfo(uuid, pci, index, name, fan_count=0, duty_range=(0, 100), slowdown_c=None, backend=""),
                label,
                settings,
            )
            for id, uuid, index, name, pci, label, settings in self._rows(
                _CARD, "SELECT id, uuid, number, name, pci, label, settings FROM card ORDER BY number, id"
            )
        ]
        if not found:
            raise GpufanError(f"{self._path} is empty as yet: look again in a minute, and see that gpufan runs")
        names = list(wanted)
        for name in names:
            if not any(matches(card.info, name) for card in found):
                known = ", ".join(f"{card.label} ({card.info.pci})" for card in found)
                raise InputError(f"--gpu {name}: no such card; the history has {known}")
        return [card for card in found if not names or any(matches(card.info, name) for name in names)]

    def span(self) -> Span:
        """Of the first minute's beginning to the last one's end. Raises GpufanError where the history is empty."""
        begin_s, end_s = next(self._rows(_SPAN, "SELECT min(time_s), max(time_s) FROM minute"))
        if begin_s is None:
            raise GpufanError(f"{self._path} is empty as yet: look again in a minute, and see that gpufan runs")
        return Span(begin_s, end_s + 60)

    def minutes(self, card: Card, span: Span) -> Iterator[Minute]:
        """Minutes that begin within `span`, in order; one with several kinds of state comes as several."""
        rows = self._rows(
            _MINUTE,
            "SELECT time_s, control, kind, seconds, hot_s, throttled_s,"
            " temperature_c, temperature_c_min, temperature_c_max, power_w, power_w_min, power_w_max,"
            " duty_percent, duty_percent_min, duty_percent_max, speed_percent, speed_percent_min, speed_percent_max,"
            " speed_rpm, speed_rpm_min, speed_rpm_max"
            " FROM minute WHERE card = ? AND time_s >= ? AND time_s < ? ORDER BY time_s",
            (card.id, *span),
        )
        for row in rows:
            yield Minute(*row[:6], *(Mean(*row[n : n + 3]) for n in range(6, 21, 3)))

    def seconds(self, card: Card, span: Span) -> Iterator[Minute]:
        """Readings within `span`, as far back as they are kept, in order: minutes that last a second or so."""
        rows = self._rows(
            _SECOND,
            "SELECT time_s, control, kind, seconds, temperature_c, power_w, duty_percent, speed_percent, speed_rpm"
            " FROM second JOIN reason ON second.reason = reason.id"
            " WHERE card = ? AND time_s >= ? AND time_s < ? ORDER BY time_s",
            (card.id, *span),
        )
        for time_s, control, kind, seconds, *values in rows:
            yield Minute(time_s, control, kind, seconds, 0.0, 0.0, *(Mean(value, value, value) for value in values))

    def highest_power_w(self, card: Card) -> float:
        """The most that the card has drawn as far back as the history goes, W; 0 where it does not tell."""
        highest_w: float | None = next(
            self._rows(_HIGHEST, "SELECT max(power_w_max) FROM minute WHERE card = ?", (card.id,))
        )[0]
        return highest_w or 0.0

    def readings(self, cards: Iterable[Card], span: Span) -> Iterator[Row]:
        """Rows of a recording, in order: by the second as far back as these are kept, a minute's means before that."""
        by_id = {card.id: card for card in cards}
        (first_s,) = next(self._rows(_FIRST, "SELECT min(time_s) FROM second"))
        # They are forgotten by the minute, so none is told twice.
        whole_from_s = span.end_s if first_s is None else max(first_s // 60 * 60, span.begin_s)
        older = self._rows(
            _READING,
            "SELECT time_s, card, temperature_c, power_w, duty_percent, speed_percent, speed_rpm, control, kind, ''"
            " FROM minute WHERE time_s >= ? AND time_s < ? ORDER BY time_s",
            (span.begin_s, min(whole_from_s, span.end_s)),
        )
        newer = self._rows(
            _READING,
            "SELECT time_s, card, temperature_c, power_w, duty_percent, speed_percent, speed_rpm, control, kind, text"
            " FROM second JOIN reason ON second.reason = reason.id WHERE time_s >= ? AND time_s < ? ORDER BY time_s",
            (whole_from_s, span.end_s),
        )
        for rows in (older, newer):
            for time_s, card, *values in rows:
                if card in by_id:
                    known = by_id[card]
                    yield Row._make((time_s, known.info.uuid, known.label, *values, known.info.pci))

    def events(self, cards: Iterable[Card], span: Span) -> list[Event]:
        """Events of these cards, and those that concern all, which touch `span`; in the order of their beginning."""
        uuids = {"", *(card.info.uuid for card in cards)}
        rows = self._rows(
            _EVENT,
            "SELECT begin_s, uuid, kind, end_s, text, count FROM event WHERE end_s >= ? AND begin_s < ?"
            " ORDER BY begin_s",
            span,
        )
        return [Event(*row) for row in rows if row[1] in uuids]

    def __enter__(self) -> "Past":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def _open(self) -> sqlite3.Connection:
        try:
            # A pipe must not make us wait for its writer.
            os.close(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except FileNotFoundError:
            raise GpufanError(
                f"there is no history (no {self._path}): `sudo gpufan install-service` keeps one, or `gpufan"
                " keep-history` for as long as it runs"
            ) from None
        except OSError as error:
            remedy = ": run this with sudo" if isinstance(error, PermissionError) else ""
            raise GpufanError(f"cannot read {self._path}: {error.strerror}{remedy}") from error
        if not self._path.is_file():
            raise GpufanError(f"{self._path} is not a file: name another folder with --state-dir")
        # Without a keeper, and without the right to write here, SQLite cannot make the file through which readers and
        # writers agree. Then nobody writes either, and the file may be taken for one that does not change.
        for mode in ("mode=ro", "mode=ro&immutable=1"):
            try:
                return self._connect(mode)
            except sqlite3.OperationalError as error:
                trouble = str(error)
            except sqlite3.DatabaseError as error:
                raise GpufanError(f"{self._path} is not to be read: {error}") from error
        raise GpufanError(f"cannot read {self._path}: {trouble}")

    def _connect(self, mode: str) -> sqlite3.Connection:
        """Open the file. Raises sqlite3.Error, and sqlite3.DatabaseError for one that is not ours."""
        connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?{mode}", uri=True)
        connection.text_factory = lambda data: printable(data.decode(errors="replace"))
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            (application_id,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if application_id != APPLICATION_ID:
                raise sqlite3.DatabaseError("it is not a history of gpufan")
            if version != SCHEMA_VERSION:
                raise sqlite3.DatabaseError(f"it is of another version of gpufan (format {version})")
        except BaseException:
            connection.close()
            raise
        return connection

    def _rows(self, kind: Any, query: str, values: Iterable[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Rows of `kind`. Raises GpufanError also where they are none."""
        try:
            for row in self._connection.execute(query, tuple(values)):
                yield msgspec.convert(row, kind)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise GpufanError(f"{self._path} cannot be read further: {words(error)}") from error
        except msgspec.ValidationError as error:
            raise GpufanError(f"{self._path} is damaged: {error}; move it away, and a new one begins") from error
