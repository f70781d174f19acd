"""The tables and the format of the SQLite file of the history. `writer` writes the file, `reader` reads it."""

import sqlite3

APPLICATION_ID = 0x67706668
"""The letters `gpfh` as a number. With this number in its header, an SQLite file is a history of gpufan."""

SCHEMA_VERSION = 1

MEASUREMENTS = ("temperature_c", "power_w", "duty_percent", "speed_percent", "speed_rpm")
"""The columns of the table `second` that contain measured values.

For each of them, the table `minute` has three columns: the weighted mean, the lowest value and the highest value.
"""

SCHEMA = f"""
CREATE TABLE card (
    id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, number INTEGER NOT NULL, name TEXT NOT NULL, pci TEXT NOT NULL,
    label TEXT NOT NULL, settings TEXT NOT NULL
);
CREATE TABLE reason (
    id INTEGER PRIMARY KEY, control TEXT NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL, UNIQUE (control, kind, text)
);
CREATE TABLE second (
    time_s REAL NOT NULL, card INTEGER NOT NULL, seconds REAL NOT NULL,
    {", ".join(f"{column} REAL" for column in MEASUREMENTS)}, reason INTEGER NOT NULL,
    PRIMARY KEY (time_s, card)
) WITHOUT ROWID;
CREATE TABLE minute (
    time_s INTEGER NOT NULL, card INTEGER NOT NULL, control TEXT NOT NULL, kind TEXT NOT NULL,
    seconds REAL NOT NULL, hot_s REAL NOT NULL, throttled_s REAL NOT NULL,
    {", ".join(f"{column} REAL, {column}_min REAL, {column}_max REAL" for column in MEASUREMENTS)},
    PRIMARY KEY (time_s, card, control, kind)
) WITHOUT ROWID;
CREATE TABLE event (
    begin_s REAL NOT NULL, uuid TEXT NOT NULL, kind TEXT NOT NULL, end_s REAL NOT NULL, count INTEGER NOT NULL,
    text TEXT NOT NULL, PRIMARY KEY (begin_s, uuid, kind)
) WITHOUT ROWID;
"""
"""The SQL that creates the tables.

In the tables `reason` and `minute`, the column `kind` contains a `core.reasons.Group`. In the table `event`, the column
`kind` contains an `events.EventKind`.
"""


def check_history_format(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError if the open file is not a history, or if its format is not `SCHEMA_VERSION`."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application_id != APPLICATION_ID:
        raise sqlite3.DatabaseError("it is not a history of gpufan")
    if version != SCHEMA_VERSION:
        raise sqlite3.DatabaseError(f"it is from another version of gpufan (format {version})")


def sqlite_error_text(error: sqlite3.Error | UnicodeDecodeError) -> str:
    """Return the message of `error`. Return `it is damaged` if `error` has no message or is a UnicodeDecodeError.

    A UnicodeDecodeError means that the file contains a text that is not UTF-8.
    """
    return str(error) if isinstance(error, sqlite3.Error) and str(error) else "it is damaged"
