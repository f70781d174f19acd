"""History: what the cards did in the last week, kept by a process of its own and told as tables, CSV and pages.

`keeper` reads the snapshots, `events` finds in them what is worth a line, `store` keeps both in an SQLite file, `past`
reads it, and `days` and `page` tell of it. Nothing here is part of the daemon, and nothing here can hold it up.
"""

from pathlib import Path

DEFAULT_FOLDER = Path("/var/lib/gpufan/history")
FILE = "history.sqlite"
