"""Name the paths of gpufan's files."""

import os
from pathlib import Path

RUNTIME_FOLDER = Path("/run/gpufan")
SNAPSHOT = "state.json"
ORDERS = "orders.json"
TAKEN = "taken.json"
"""`SNAPSHOT`, `ORDERS` and `TAKEN` are files in the runtime folder.

They contain the published state, the orders of users, and the cards whose fans gpufan has set.
"""
WEB_KEY = Path("/run/gpufan-web/key")
"""File with the key and the address of the page that runs as a service. Only root and that service can read it."""
ALERTS_SETTINGS = Path("/etc/gpufan/alerts.toml")
"""File that lists the receivers of alerts. The URLs of the receivers contain secrets."""
PREFIX = Path("/usr/local")
"""Folder for programs that the administrator installs (Filesystem Hierarchy Standard)."""


def command_link_path() -> Path:
    """Return the path of the link to the command `gpufan`.

    Every user, and sudo, finds the command through this link.
    """
    return PREFIX / "bin/gpufan"


def state_folder() -> Path:
    """Return the folder of the files that must outlast a restart.

    systemd passes this folder to a service in the environment variable STATE_DIRECTORY.
    """
    return Path(os.environ.get("STATE_DIRECTORY", "/var/lib/gpufan"))


def sys_folder() -> Path:
    """Return the folder in which the kernel shows its devices. Tests replace it with GPUFAN_SYS_FOLDER."""
    return Path(os.environ.get("GPUFAN_SYS_FOLDER", "/sys"))
