"""Writes the history: adds readings, minutes and events, deletes old rows, and replaces a damaged file."""

import logging
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from gpufan.core.gpu import Throttle
from gpufan.core.snapshot import GpuState
from gpufan.daemon.recording import Row
from gpufan.daemon.summary import HOT_C
from gpufan.errors import GpufanError
from gpufan.history import FILE_NAME
from gpufan.history.database import (
    APPLICATION_ID,
    MEASUREMENTS,
    SCHEMA,
    SCHEMA_VERSION,
    check_history_format,
    sqlite_error_text,
)
from gpufan.history.events import Event

T = TypeVar("T")

SECONDS_RETENTION_S = 86400.0
"""Readings are stored for this time, s. A row has about 45 bytes."""

MINUTES_RETENTION_S = 7 * 86400.0
"""Minutes and events are stored for this time, s. A row of a minute has about 120 bytes.

The readings and minutes of a card take 5 MB together.
"""

# If the clock was wrong for a while, some rows never become too old. So the number of rows is limited too.
MAX_SECOND_ROWS = 100_000
"""Limit of the rows in the table `second` for each card.

A day has 86,400 seconds, and old rows are deleted only once an hour.
"""
MAX_MINUTE_ROWS = 30_000
"""Limit of the rows in the table `minute` for each card.

A week has 10,080 minutes. A minute has a row for each combination of control and group of
causes.
"""
MAX_EVENT_ROWS = 10_000
"""Limit of the rows in the table `event` for all cards together."""

MAX_DAMAGED_FILES = 9
"""At most this many damaged files are kept. After that, a new damaged file replaces the one with the last number."""

_log = logging.getLogger("gpufan.history")


def _add_to_minute_sql(column: str) -> str:
    """Return the SQL that updates the mean, lowest and highest value of `column` in a stored minute by a new reading.

    A NULL in the reading leaves the three values unchanged.
    """
    return (
        f"{column} = coalesce((minute.{column} * minute.seconds + excluded.{column} * excluded.seconds)"
        f" / (minute.seconds + excluded.seconds), minute.{column}, excluded.{column}),"
        f" {column}_min = coalesce(min(minute.{column}_min, excluded.{column}_min),"
        f" minute.{column}_min, excluded.{column}_min),"
        f" {column}_max = coalesce(max(minute.{column}_max, excluded.{column}_max),"
        f" minute.{column}_max, excluded.{column}_max)"
    )


# The statements take the values of `_values_to_write` by name.
_ADD_CARD = (
    "INSERT INTO card VALUES (NULL, :uuid, :number, :name, :pci, :label, :settings)"
    " ON CONFLICT (uuid) DO UPDATE SET number = excluded.number, name = excluded.name, pci = excluded.pci,"
    " label = excluded.label, settings = excluded.settings"
)
_ADD_REASON = "INSERT OR IGNORE INTO reason VALUES (NULL, :control, :kind, :reason)"
_ADD_SECOND = (
    "INSERT OR REPLACE INTO second VALUES (:time_s, (SELECT id FROM card WHERE uuid = :uuid), :seconds,"
    f" {', '.join(f':{column}' for column in MEASUREMENTS)},"
    " (SELECT id FROM reason WHERE control = :control AND kind = :kind AND text = :reason))"
)
# SQLite computes each right-hand side from the old row, so a mean is weighted with the seconds before this reading.
_ADD_TO_MINUTE = (
    "INSERT INTO minute VALUES (:minute_s, (SELECT id FROM card WHERE uuid = :uuid), :control, :kind, :seconds, :hot_s,"
    f" :throttled_s, {', '.join(f':{column}, :{column}, :{column}' for column in MEASUREMENTS)})"
    " ON CONFLICT (time_s, card, control, kind) DO UPDATE SET"
    " seconds = seconds + excluded.seconds, hot_s = hot_s + excluded.hot_s,"
    f" throttled_s = throttled_s + excluded.throttled_s, {', '.join(map(_add_to_minute_sql, MEASUREMENTS))}"
)


class Sample(NamedTuple):
    """One reading of a card, and the seconds for which it counts."""

    row: Row
    seconds: float
    gpu: GpuState


class HistoryWriter:
    """Writes the history file.

    It opens the file when it first needs the file. It begins a new file if the old file was removed, is damaged or has
    another format.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def last_reading_s(self) -> float | None:
        """Return the time of the newest stored reading, seconds since the epoch. Returns None if no reading is stored.

        Raises sqlite3.Error if the file cannot be used, GpufanError if a damaged file cannot be renamed.
        """
        last_s: float | None
        (last_s,) = self._run(lambda connection: connection.execute("SELECT max(time_s) FROM second").fetchone())
        return last_s

    def write(self, samples: Iterable[Sample], events: Iterable[Event]) -> None:
        """Write all `samples` and `events`. If an event is stored already, its new version replaces the stored one.

        If the write fails, nothing is written, and sqlite3.Error is raised. Raises GpufanError if a damaged file cannot
        be renamed.
        """
        self._run(lambda connection: _write_rows(connection, samples, events))

    def delete_old_rows(self, now_s: float) -> None:
        """Delete the rows that are too old at `now_s`, seconds since the epoch, and the rows above the limits.

        Raises sqlite3.Error if the file cannot be used, GpufanError if a damaged file cannot be renamed.
        """
        self._run(lambda connection: _delete_old_rows(connection, now_s))

    def close(self) -> None:
        """Close the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):  # the disk may be full
                connection.close()

    def _run(self, action: Callable[[sqlite3.Connection], T]) -> T:
        """Run `action` with the open file, and return its result.

        A file that is damaged or has another format is renamed, and `action` runs again with a new file. Raises
        sqlite3.Error if the file cannot be used, GpufanError if it cannot be renamed.
        """
        try:
            return action(self._open())
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self.close()
            # Subclasses of DatabaseError mean a full disk or the like: the file is not damaged then.
            if type(error) not in (sqlite3.DatabaseError, UnicodeDecodeError):
                raise
            self._move_away(sqlite_error_text(error))
            return action(self._open())

    def _open(self) -> sqlite3.Connection:
        """Return the connection to the file. Opens the file if it is not open, and creates it if it does not exist.

        Raises sqlite3.Error if that fails.
        """
        if self._connection is None or self._inode != self._inode_at_path():  # it was removed or replaced
            self.close()
            connection = sqlite3.connect(self.path)
            try:
                _prepare_for_writing(connection)
            except BaseException:
                connection.close()
                raise
            self._connection, self._inode = connection, self._inode_at_path()
        return self._connection

    def _inode_at_path(self) -> int:
        """Return the inode number of the file that is at `path` now. Returns 0 if no file is there."""
        try:
            return self.path.stat().st_ino
        except OSError:
            return 0

    def _move_away(self, problem: str) -> None:
        """Rename the damaged file and its journal. `problem` says for the log what is wrong with the file.

        Raises GpufanError if the file cannot be renamed.
        """
        names = [f"{FILE_NAME}.damaged-{number}" for number in range(1, MAX_DAMAGED_FILES + 1)]
        name = next((name for name in names if not self.path.with_name(name).exists()), names[-1])
        target = self.path.with_name(name)
        try:
            for suffix in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    Path(f"{self.path}{suffix}").replace(f"{target}{suffix}")
            self.path.replace(target)
        except OSError as error:
            raise GpufanError(f"{self.path}: {problem}; it cannot be renamed: {error.strerror}") from error
        _log.warning("%s: %s; it was renamed to %s, and a new history begins", self.path, problem, name)


def _prepare_for_writing(connection: sqlite3.Connection) -> None:
    """Check the format and the content of the open file. If the file is new, create its tables.

    Raises sqlite3.DatabaseError if the file is not a history or is damaged.
    """
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables:
        check_history_format(connection)
        (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise sqlite3.DatabaseError(result)
    # WAL: readers do not delay the writer. NORMAL: a power failure can lose the last commits, but never the file.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA journal_size_limit = 4194304")
    if not tables:
        connection.executescript(
            f"BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )


def _write_rows(connection: sqlite3.Connection, samples: Iterable[Sample], events: Iterable[Event]) -> None:
    """Write all `samples` and `events` in one transaction."""
    values = [_values_to_write(sample) for sample in samples]
    with connection:
        for statement in (_ADD_CARD, _ADD_REASON, _ADD_SECOND, _ADD_TO_MINUTE):
            connection.executemany(statement, values)
        connection.executemany(
            "INSERT OR REPLACE INTO event VALUES (?, ?, ?, ?, ?, ?)",
            [(e.begin_s, e.uuid, e.kind.value, e.end_s, e.count, e.text) for e in events],
        )


def _values_to_write(sample: Sample) -> dict[str, object]:
    """Return the values of `sample` by their names in the SQL statements."""
    row, seconds, gpu = sample
    return {
        **row._asdict(),
        "time_s": round(row.time_s, 3),
        "minute_s": int(row.time_s // 60 * 60),
        "seconds": round(seconds, 3),
        "hot_s": seconds if row.temperature_c is not None and row.temperature_c > HOT_C else 0.0,
        "throttled_s": seconds if gpu.throttle == Throttle.HEAT.value else 0.0,
        "number": gpu.index,
        "name": gpu.name,
        "settings": gpu.settings,
    }


def _delete_old_rows(connection: sqlite3.Connection, now_s: float) -> None:
    """Delete the rows that are too old at `now_s` (seconds since the epoch), in one transaction.

    If a table then still has more rows than its limit, delete the rows whose time is furthest from `now_s`.
    """
    with connection:
        (cards,) = connection.execute("SELECT count(*) FROM card").fetchone()
        for table, key, time, oldest_s, limit in (
            # To the minute, so that `HistoryReader.readings` can continue with whole minutes.
            ("second", "time_s, card", "time_s", (now_s - SECONDS_RETENTION_S) // 60 * 60, MAX_SECOND_ROWS * cards),
            ("minute", "time_s, card, control, kind", "time_s", now_s - MINUTES_RETENTION_S, MAX_MINUTE_ROWS * cards),
            ("event", "begin_s, uuid, kind", "end_s", now_s - MINUTES_RETENTION_S, MAX_EVENT_ROWS),
        ):
            connection.execute(f"DELETE FROM {table} WHERE {time} < ?", (oldest_s,))
            (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            if rows > limit:
                # The rows whose time is furthest from now go first.
                connection.execute(
                    f"DELETE FROM {table} WHERE ({key}) IN"
                    f" (SELECT {key} FROM {table} ORDER BY abs({time} - ?) DESC LIMIT ?)",
                    (now_s, rows - limit),
                )
        connection.execute("DELETE FROM reason WHERE id NOT IN (SELECT reason FROM second)")
