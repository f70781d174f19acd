"""The history of the last week. A separate process records the history. Commands show it as tables, CSV and reports.

`recorder` reads the snapshots of the daemon, `events` detects events in them, `writer` stores both in SQLite, and
`reader` reads them again for `tables` and `report`. The daemon imports no file of this room, so the
history cannot delay the daemon.
"""

from pathlib import Path

DEFAULT_FOLDER = Path("/var/lib/gpufan/history")
FILE_NAME = "history.sqlite"
