"""The history of the last week: a separate process records it; it is shown as tables, CSV and reports.

`recorder` reads the snapshots of the daemon, `events` detects events in them, `writer` stores both in SQLite, and
`reader` reads them again for `tables` and `report`. The daemon imports none of this, and nothing here can delay it.
"""

from pathlib import Path

DEFAULT_FOLDER = Path("/var/lib/gpufan/history")
FILE_NAME = "history.sqlite"
