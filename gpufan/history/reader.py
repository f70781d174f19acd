"""Reads the cards, periods, readings and events of the history. It never writes. The recorder may run meanwhile."""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from gpufan.core.gpu import GpuInfo
from gpufan.core.reasons import Group
from gpufan.core.selection import card_matches
from gpufan.daemon.recording import Row
from gpufan.errors import GpufanError, InputError
from gpufan.gpu.simulated import Plant
from gpufan.history import FILE_NAME
from gpufan.history.aggregate import Aggregate
from gpufan.history.database import MEASUREMENTS, check_history_format, sqlite_error_text
from gpufan.history.events import Event, EventKind
from gpufan.system.printable import printable

# The columns of the queries below. A value outside these bounds comes from a damaged file.
_Time = Annotated[float, Meta(ge=0, lt=1e10)]
_Seconds = Annotated[float, Meta(ge=0, le=1e10)]
_Measured = Annotated[float, Meta(ge=-1e12, le=1e12)] | None
_TIME_RANGE = tuple[_Time | None, _Time | None]
_POWER = tuple[_Measured]
_PERIOD = GenericAlias(tuple, (_Time, *(_Seconds,) * 4, *(_Measured,) * 3 * len(MEASUREMENTS)))
_READING = GenericAlias(tuple, (_Time, int, *(_Measured,) * len(MEASUREMENTS), str, str, str))
_EVENT = tuple[_Time, str, EventKind, _Time, str, int]

_ROWS_AT_ONCE = 500
"""Rows are read and checked in groups of this number, which takes a third of the time of single rows."""

_REMEDY = "move it away, and a new history begins"
"""What the user can do about a history file that cannot be used."""

FULL_SCALE_RPM = Plant().full_scale_rpm
"""Assumed fan speed at 100 %, rpm, of a card that reports no rpm.

It is the speed of a GTX 1080 Ti Founders Edition.
"""


class TimeRange(NamedTuple):
    """A range of time, in seconds since the epoch. The end does not belong to the range."""

    begin_s: float
    end_s: float


class HistoryCard(NamedTuple):
    """A card of the history."""

    id: int
    """Number of the card in the database."""
    uuid: str
    number: int
    """Index of the card in NVML."""
    name: str
    pci: str
    label: str
    settings: str
    """The curve or target that the fans of the card followed last: `curve 50:30,83:100`, `target 78 °C`.

    Empty if it is unknown.
    """

    def matches(self, name: str) -> bool:
        """Whether the option `--gpu` with the value `name` selects this card."""
        info = GpuInfo(self.uuid, self.pci, self.number, self.name, 0, (0, 100), slowdown_c=None, backend="")
        return card_matches(info, name)


class Period(NamedTuple):
    """The values of a card in a period. An unknown value is None.

    A period is one reading, or a part of one minute. This part consists of all readings in the minute that have the
    same control of the fans and the same group of causes.
    """

    time_s: float
    """Beginning of the period, seconds since the epoch."""
    seconds: float
    hot_s: float
    """Time above `daemon.summary.HOT_C`, s. If the period is one reading, this field and the next two are 0."""
    throttled_s: float
    fail_safe_s: float
    temperature_c: Aggregate | None
    power_w: Aggregate | None
    duty_percent: Aggregate | None
    speed_percent: Aggregate | None
    speed_rpm: Aggregate | None

    @property
    def fan_rpm(self) -> float | None:
        """Mean speed of the fans, rpm. None if the speed is unknown.

        If the card reports no rpm, the speed is estimated from the speed in percent.
        """
        if self.speed_rpm is not None:
            return max(self.speed_rpm.mean, 0.0)  # a driver may report anything
        return None if self.speed_percent is None else max(self.speed_percent.mean, 0.0) / 100 * FULL_SCALE_RPM


class HistoryReader:
    """Reads the history in a folder. Use it in a `with` block."""

    def __init__(self, folder: Path) -> None:
        """Open the history. Raises GpufanError if `folder` has no history, or if the history cannot be read."""
        self._path = folder / FILE_NAME
        self._connection = self._open()

    def cards(self, names: Iterable[str] = ()) -> list[HistoryCard]:
        """Return the cards that the options `--gpu` with the values `names` select, ordered by index.

        Without names, all cards are returned. Raises InputError if a name matches no card, GpufanError if the history
        is empty.
        """
        query = "SELECT id, uuid, number, name, pci, label, settings FROM card ORDER BY number, id"
        cards: list[HistoryCard] = list(self.rows(HistoryCard, query))
        if not cards:
            raise self._empty()
        names = list(names)
        for name in names:
            if not any(card.matches(name) for card in cards):
                known = ", ".join(f"{card.label} ({card.pci})" for card in cards)
                raise InputError(f"--gpu {name}: no such card; the history has {known}")
        return [card for card in cards if not names or any(card.matches(name) for name in names)]

    def time_range(self) -> TimeRange:
        """Return the time from the first to the last stored minute. Raises GpufanError if no minute is stored."""
        begin_s, end_s = next(self.rows(_TIME_RANGE, "SELECT min(time_s), max(time_s) FROM minute"))
        if begin_s is None:
            raise self._empty()
        return TimeRange(begin_s, end_s + 60)

    def minutes(self, card: HistoryCard, time_range: TimeRange) -> Iterator[Period]:
        """Yield the periods of the minutes that begin in `time_range`, in the order of time.

        A minute has one period for each combination of control and group of causes in its readings.
        """
        durations = f"hot_s, throttled_s, seconds * (kind = '{Group.FAIL_SAFE.value}')"
        return self._periods("minute", durations, "{0}, {0}_min, {0}_max", card, time_range)

    def seconds(self, card: HistoryCard, time_range: TimeRange) -> Iterator[Period]:
        """Yield a period for each stored reading in `time_range`, in the order of time.

        Readings are stored for one day.
        """
        return self._periods("second", "0, 0, 0", "{0}, {0}, {0}", card, time_range)

    def peak_power_w(self, card: HistoryCard) -> float:
        """Return the highest stored power of `card`, W. Returns 0 if no power is stored."""
        query = "SELECT max(power_w_max) FROM minute WHERE card = ?"
        (power_w,) = next(self.rows(_POWER, query, (card.id,)))
        return power_w or 0.0

    def readings(self, cards: Iterable[HistoryCard], time_range: TimeRange) -> Iterator[Row]:
        """Yield the history of `cards` in `time_range` as rows of a recording, in the order of time.

        For the time before the first stored reading, the rows contain the means of the stored minutes. After that,
        there is a row for each stored reading.
        """
        by_id = {card.id: card for card in cards}
        ((first_s, _),) = self.rows(_TIME_RANGE, "SELECT min(time_s), NULL FROM second")
        # Old readings are deleted in whole minutes, so no minute is returned twice.
        seconds_from_s = time_range.end_s if first_s is None else max(first_s // 60 * 60, time_range.begin_s)
        for source, begin_s, end_s in (
            ("'' FROM minute", time_range.begin_s, min(seconds_from_s, time_range.end_s)),
            ("text FROM second JOIN reason ON second.reason = reason.id", seconds_from_s, time_range.end_s),
        ):
            query = (
                f"SELECT time_s, card, {', '.join(MEASUREMENTS)}, control, kind, {source}"
                " WHERE time_s >= ? AND time_s < ? ORDER BY time_s"
            )
            for time_s, card_id, *values in self.rows(_READING, query, (begin_s, end_s)):
                if card_id in by_id:
                    card = by_id[card_id]
                    yield Row._make((time_s, card.uuid, card.label, *values, card.pci))

    def events(self, cards: Iterable[HistoryCard], time_range: TimeRange) -> list[Event]:
        """Return the events that overlap `time_range`, in the order of their beginning.

        The result contains the events of `cards` and the events that concern all cards of the box.
        """
        uuids = {"", *(card.uuid for card in cards)}
        query = (
            "SELECT begin_s, uuid, kind, end_s, text, count FROM event WHERE end_s >= ? AND begin_s < ?"
            " ORDER BY begin_s"
        )
        return [Event(*row) for row in self.rows(_EVENT, query, time_range) if row[1] in uuids]

    def __enter__(self) -> "HistoryReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _periods(
        self, table: str, durations: str, statistics: str, card: HistoryCard, time_range: TimeRange
    ) -> Iterator[Period]:
        """Yield the rows of `table` for `card` in `time_range` as periods.

        `durations` is the SQL of the columns for `hot_s`, `throttled_s` and `fail_safe_s`. `statistics` is the SQL of
        the three columns for an aggregate, with `{0}` in place of the name of the measurement.
        """
        columns = ", ".join(statistics.format(column) for column in MEASUREMENTS)
        query = (
            f"SELECT time_s, seconds, {durations}, {columns} FROM {table}"
            " WHERE card = ? AND time_s >= ? AND time_s < ? ORDER BY time_s"
        )
        for row in self.rows(_PERIOD, query, (card.id, *time_range)):
            values = (row[n : n + 3] for n in range(5, len(row), 3))
            yield Period(*row[:5], *(None if None in value else Aggregate(*value) for value in values))

    def _open(self) -> sqlite3.Connection:
        """Open the file for reading, and return the connection.

        Raises GpufanError if the file is missing, cannot be read, or is not a history.
        """
        try:
            # O_NONBLOCK: a pipe would block until somebody writes to it.
            os.close(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        except FileNotFoundError:
            raise GpufanError(
                f"there is no history (no {self._path}): `sudo gpufan install-service` records one, and so does"
                " `gpufan keep-history` while it runs"
            ) from None
        except OSError as error:
            remedy = "name another folder with --state-dir"
            if isinstance(error, PermissionError):
                remedy = "run this with sudo"
            raise GpufanError(f"cannot read {self._path}: {error.strerror}: {remedy}") from error
        if not self._path.is_file():
            raise GpufanError(f"{self._path} is not a file: name another folder with --state-dir")
        # Without a recorder and without permission to write, SQLite cannot create the file that coordinates readers and
        # writer. Nobody writes then, so the file can be opened as immutable.
        for mode in ("mode=ro", "mode=ro&immutable=1"):
            try:
                return self._connect(mode)
            except sqlite3.OperationalError as error:
                problem = str(error)
            except sqlite3.DatabaseError as error:
                raise GpufanError(f"cannot use {self._path}: {error}; {_REMEDY}") from error
        raise GpufanError(f"cannot read {self._path}: {problem}")

    def _connect(self, mode: str) -> sqlite3.Connection:
        """Open the file, and return the connection. `mode` is the query of the SQLite URI, such as `mode=ro`.

        Raises sqlite3.Error if the file cannot be opened, or if it is not a history.
        """
        connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?{mode}", uri=True)
        connection.text_factory = lambda data: printable(data.decode(errors="replace"))
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            check_history_format(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def rows(self, row_type: Any, query: str, values: Iterable[object] = ()) -> Iterator[Any]:
        """Run `query` with `values` in its placeholders, and yield each row as a `row_type`.

        Raises GpufanError if the file cannot be read, or if a row does not fit `row_type`.
        """
        try:
            found = self._connection.execute(query, tuple(values))
            while rows := found.fetchmany(_ROWS_AT_ONCE):
                yield from msgspec.convert(rows, GenericAlias(list, (row_type,)))
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise GpufanError(f"cannot read more of {self._path}: {sqlite_error_text(error)}") from error
        except msgspec.ValidationError as error:
            raise GpufanError(f"{self._path} is damaged: {error}; {_REMEDY}") from error

    def _empty(self) -> GpufanError:
        """Return the error for a history without cards or minutes."""
        return GpufanError(f"{self._path} is still empty: try again in a minute, and check that gpufan runs")
