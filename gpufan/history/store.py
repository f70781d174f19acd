"""The history's file: SQLite, written by one keeper while others read; `past` is the reading side.

A second's row is kept for a day, a minute's for a week. Every reading goes into both at once, so that thinning is
nothing but forgetting old rows, and a keeper that is killed leaves nothing half done. A row of a second takes some 45
bytes and one of a minute some 120, which comes to 5 MB a card; the space of rows forgotten is used again.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from gpufan.daemon.recording import Row
from gpufan.daemon.summary import HOT_C
from gpufan.errors import GpufanError
from gpufan.history import FILE
from gpufan.history.events import Event

T = TypeVar("T")

APPLICATION_ID = 0x67706668
"""`gpfh` in the file's header: tells a history from any other SQLite file."""

SCHEMA_VERSION = 1

SECONDS_KEPT_S = 86400.0
"""A reading is kept whole for so long, s."""

MINUTES_KEPT_S = 7 * 86400.0
"""Minutes and events are kept for so long, s."""

SECOND_ROWS = 100_000
"""At most so many a card, whatever the clock does. A day has 86,400, and thinning comes once an hour."""

MINUTE_ROWS = 30_000
"""At most so many a card: a week has 10,080 minutes, and a minute has a row for each kind of state in it."""

EVENT_ROWS = 10_000
"""At most so many for all cards."""

DAMAGED_KEPT = 9
"""So many damaged files are kept; the last is replaced where there are more."""

_SCHEMA = """
CREATE TABLE card (
    id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, number INTEGER NOT NULL, name TEXT NOT NULL, pci TEXT NOT NULL,
    label TEXT NOT NULL, settings TEXT NOT NULL
);
CREATE TABLE reason (
    id INTEGER PRIMARY KEY, control TEXT NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL, UNIQUE (control, kind, text)
);
CREATE TABLE second (
    time_s REAL NOT NULL, card INTEGER NOT NULL, seconds REAL NOT NULL,
    temperature_c REAL, power_w REAL, duty_percent REAL, speed_percent REAL, speed_rpm REAL, reason INTEGER NOT NULL,
    PRIMARY KEY (time_s, card)
) WITHOUT ROWID;
CREATE TABLE minute (
    time_s INTEGER NOT NULL, card INTEGER NOT NULL, control TEXT NOT NULL, kind TEXT NOT NULL,
    seconds REAL NOT NULL, hot_s REAL NOT NULL, throttled_s REAL NOT NULL,
    temperature_c REAL, temperature_c_min REAL, temperature_c_max REAL,
    power_w REAL, power_w_min REAL, power_w_max REAL,
    duty_percent REAL, duty_percent_min REAL, duty_percent_max REAL,
    speed_percent REAL, speed_percent_min REAL, speed_percent_max REAL,
    speed_rpm REAL, speed_rpm_min REAL, speed_rpm_max REAL,
    PRIMARY KEY (time_s, card, control, kind)
) WITHOUT ROWID;
CREATE TABLE event (
    begin_s REAL NOT NULL, uuid TEXT NOT NULL, kind TEXT NOT NULL, end_s REAL NOT NULL, count INTEGER NOT NULL,
    text TEXT NOT NULL, PRIMARY KEY (begin_s, uuid, kind)
) WITHOUT ROWID;
"""

MEASURED = ("temperature_c", "power_w", "duty_percent", "speed_percent", "speed_rpm")
"""Columns of a second that a minute keeps the mean, the least and the most of."""


def _merge(column: str) -> str:
    """SQL that takes a value into the minute's mean, least and most; a value that is not known changes nothing."""
    return (
        f"{column} = coalesce((minute.{column} * minute.seconds + excluded.{column} * excluded.seconds)"
        f" / (minute.seconds + excluded.seconds), minute.{column}, excluded.{column}),"
        f" {column}_min = coalesce(min(minute.{column}_min, excluded.{column}_min),"
        f" minute.{column}_min, excluded.{column}_min),"
        f" {column}_max = coalesce(max(minute.{column}_max, excluded.{column}_max),"
        f" minute.{column}_max, excluded.{column}_max)"
    )


# The means weigh with the seconds before this reading's are added: SQLite takes all right-hand sides from the old row.
_ADD_TO_MINUTE = (
    f"INSERT INTO minute VALUES ({', '.join('?' * (7 + 3 * len(MEASURED)))})"
    " ON CONFLICT (time_s, card, control, kind) DO UPDATE SET"
    " seconds = seconds + excluded.seconds, hot_s = hot_s + excluded.hot_s,"
    f" throttled_s = throttled_s + excluded.throttled_s, {', '.join(_merge(column) for column in MEASURED)}"
)


class Sample(NamedTuple):
    """One card's reading, and for how long it stands."""

    row: Row
    seconds: float
    throttled: bool
    card: tuple[int, str, str, str]
    """Index, name, PCI address, and what the fans follow."""


class HistoryFile:
    """The writing side. Opens the file when there is something to write, and again when it has gone or gone bad."""

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        """`tell` is told in a line when a file that is not ours, or damaged, is set aside."""
        self.path = folder / FILE
        self._tell = tell
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._cards: dict[str, int] = {}
        self._reasons: dict[tuple[str, str, str], int] = {}

    def last_s(self) -> float | None:
        """Time of the newest reading, seconds since the epoch; None where there is none. Raises sqlite3.Error."""
        return self._attempt(self._last_s)

    def write(self, samples: Iterable[Sample], events: Iterable[Event]) -> None:
        """Add readings, and events or what has become of them. Raises sqlite3.Error, with nothing written."""
        readings, happenings = list(samples), list(events)
        self._attempt(lambda: self._write(readings, happenings))

    def thin(self, now_s: float) -> None:
        """Forget what is too old at `now_s`, seconds since the epoch. Raises sqlite3.Error."""
        self._attempt(lambda: self._thin(now_s))

    def close(self) -> None:
        """Close the file."""
        connection, self._connection = self._connection, None
        self._cards.clear()
        self._reasons.clear()
        if connection is not None:
            with suppress(sqlite3.Error):  # there may be no room to tidy up
                connection.close()

    def _attempt(self, action: Callable[[], T]) -> T:
        """What `action` returns; where the file turns out to be damaged, with a new one in its place."""
        try:
            return action()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self.close()
            # Its subclasses are of a full disk and the like, and leave the file well.
            if type(error) not in (sqlite3.DatabaseError, UnicodeDecodeError):
                raise
            self._set_aside(words(error))
            return action()

    def _last_s(self) -> float | None:
        last_s: float | None = self._open().execute("SELECT max(time_s) FROM second").fetchone()[0]
        return last_s

    def _thin(self, now_s: float) -> None:
        connection = self._open()
        with connection:
            connection.execute("DELETE FROM second WHERE time_s < ?", ((now_s - SECONDS_KEPT_S) // 60 * 60,))
            connection.execute("DELETE FROM minute WHERE time_s < ?", (now_s - MINUTES_KEPT_S,))
            connection.execute("DELETE FROM event WHERE end_s < ?", (now_s - MINUTES_KEPT_S,))
            # A clock that was wrong for a while leaves rows that never grow old: what is furthest from now goes first.
            cards = connection.execute("SELECT count(*) FROM card").fetchone()[0]
            for table, key, time, most in (
                ("second", "time_s, card", "time_s", SECOND_ROWS * cards),
                ("minute", "time_s, card, control, kind", "time_s", MINUTE_ROWS * cards),
                ("event", "begin_s, uuid, kind", "end_s", EVENT_ROWS),
            ):
                excess = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] - most
                if excess > 0:
                    connection.execute(
                        f"DELETE FROM {table} WHERE ({key}) IN"
                        f" (SELECT {key} FROM {table} ORDER BY abs({time} - ?) DESC LIMIT ?)",
                        (now_s, excess),
                    )
            connection.execute("DELETE FROM reason WHERE id NOT IN (SELECT reason FROM second)")
        self._reasons.clear()

    def _write(self, samples: Sequence[Sample], events: Sequence[Event]) -> None:
        connection = self._open()
        with connection:
            connection.executemany(
                f"INSERT OR REPLACE INTO second VALUES ({', '.join('?' * 9)})",
                [_second(sample, *self._ids(connection, sample)) for sample in samples],
            )
            connection.executemany(
                _ADD_TO_MINUTE, [_minute(sample, self._cards[sample.row.uuid]) for sample in samples]
            )
            connection.executemany(
                "INSERT OR REPLACE INTO event VALUES (?, ?, ?, ?, ?, ?)",
                [(e.begin_s, e.uuid, e.kind, e.end_s, e.count, e.text) for e in events],
            )
            connection.executemany(
                "UPDATE card SET number = ?, name = ?, pci = ?, settings = ?, label = ? WHERE uuid = ?",
                {sample.row.uuid: (*sample.card, sample.row.label, sample.row.uuid) for sample in samples}.values(),
            )

    def _ids(self, connection: sqlite3.Connection, sample: Sample) -> tuple[int, int]:
        """Numbers of the card and of the reason, given to them when they are first seen."""
        row = sample.row
        if row.uuid not in self._cards:
            connection.execute("INSERT OR IGNORE INTO card VALUES (NULL, ?, 0, '', '', '', '')", (row.uuid,))
            found = connection.execute("SELECT id FROM card WHERE uuid = ?", (row.uuid,))
            self._cards[row.uuid] = found.fetchone()[0]
        key = (row.control, row.kind, row.reason)
        if key not in self._reasons:
            connection.execute("INSERT OR IGNORE INTO reason VALUES (NULL, ?, ?, ?)", key)
            found = connection.execute("SELECT id FROM reason WHERE control = ? AND kind = ? AND text = ?", key)
            self._reasons[key] = found.fetchone()[0]
        return self._cards[row.uuid], self._reasons[key]

    def _open(self) -> sqlite3.Connection:
        """The file, made if need be. Raises sqlite3.Error."""
        if self._connection is None or self._inode != _inode(self.path):  # somebody may have removed or replaced it
            self.close()
            self._connection = self._connect()
            self._inode = _inode(self.path)
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the tables, or make sure that they are ours and sound. Raises sqlite3.DatabaseError."""
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables:
            (application_id,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if application_id != APPLICATION_ID:
                raise sqlite3.DatabaseError("it is not a history of gpufan")
            if version != SCHEMA_VERSION:
                raise sqlite3.DatabaseError(f"it is of another version of gpufan (format {version})")
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
        # A reader holds up no writer then, and a commit need not wait for the disk: a power failure may cost the last
        # commits, but never the file.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA journal_size_limit = 4194304")
        if not tables:
            connection.executescript(
                f"BEGIN; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )

    def _set_aside(self, why: str) -> None:
        """Give a file that is of no use another name, with what belongs to it. Raises GpufanError."""
        number = next(
            (n for n in range(1, DAMAGED_KEPT) if not self.path.with_name(f"{FILE}.damaged-{n}").exists()), DAMAGED_KEPT
        )
        aside = self.path.with_name(f"{FILE}.damaged-{number}")
        try:
            for suffix in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    Path(f"{self.path}{suffix}").replace(f"{aside}{suffix}")
            self.path.replace(aside)
        except OSError as error:
            raise GpufanError(f"{self.path}: {why}; it cannot be set aside: {error.strerror}") from error
        self._tell(f"{self.path}: {why}; it is now {aside.name}, and a new history begins")


def _second(sample: Sample, card: int, reason: int) -> tuple[object, ...]:
    row = sample.row
    return (round(row.time_s, 3), card, round(sample.seconds, 3), *_measured(row), reason)


def _minute(sample: Sample, card: int) -> tuple[object, ...]:
    row, seconds = sample.row, sample.seconds
    hot_s = seconds if row.temperature_c is not None and row.temperature_c > HOT_C else 0.0
    return (
        *(int(row.time_s // 60 * 60), card, row.control, row.kind),
        *(seconds, hot_s, seconds * sample.throttled),
        *(value for measured in _measured(row) for value in (measured,) * 3),
    )


def _measured(row: Row) -> tuple[float | None, ...]:
    return tuple(getattr(row, column) for column in MEASURED)


def words(error: sqlite3.Error | UnicodeDecodeError) -> str:
    """What sqlite3 says; of a damaged name it would say Python makes nothing, or a UnicodeDecodeError."""
    return str(error) if isinstance(error, sqlite3.Error) and str(error) else "it is damaged"


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0
