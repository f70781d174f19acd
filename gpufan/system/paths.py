"""Paths of gpufan's files."""

import os
from pathlib import Path

RUNTIME_FOLDER = Path("/run/gpufan")
SNAPSHOT = "state.json"
ORDERS = "orders.json"
TAKEN = "taken.json"
"""Files in the runtime folder: the published state, orders of persons, and the cards whose fans were set."""
ALERTS_SETTINGS = Path("/etc/gpufan/alerts.toml")
"""Receivers of messages, with secrets in their URLs."""
PREFIX = Path("/usr/local")
"""Folder for programs that the administrator installs (Filesystem Hierarchy Standard)."""


def command_link_path() -> Path:
    """Return the path of the link through which every user, and sudo, finds the command `gpufan`."""
    return PREFIX / "bin/gpufan"


def state_folder() -> Path:
    """Return the folder of files that outlast a restart. systemd names it to a service as its state directory."""
    return Path(os.environ.get("STATE_DIRECTORY", "/var/lib/gpufan"))
