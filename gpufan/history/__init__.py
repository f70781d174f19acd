"""History: what the cards did in the last week, recorded by a process of its own, shown as tables, CSV and reports.

`recorder` reads the snapshots of the daemon, `events` detects the events in them, `writer` stores both in SQLite, and
`reader` reads them again for `tables` and `report`. The daemon imports none of this, and nothing here can delay it.
"""

from pathlib import Path

DEFAULT_FOLDER = Path("/var/lib/gpufan/history")
FILE_NAME = "history.sqlite"
