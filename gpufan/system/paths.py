"""Paths of gpufan's files."""

from pathlib import Path

RUNTIME_FOLDER = Path("/run/gpufan")
SNAPSHOT = "state.json"
PAUSE = "pause.json"
TAKEN = "taken.json"
"""Files in the runtime folder: the published state, the paused cards, and the cards whose fans were set."""
ALERTS_SETTINGS = Path("/etc/gpufan/alerts.toml")
"""Receivers of messages, with secrets in their URLs."""
PREFIX = Path("/usr/local")
"""Folder for programs that the administrator installs (Filesystem Hierarchy Standard)."""


def command_link() -> Path:
    """Path at which every user, and sudo, finds the command `gpufan`."""
    return PREFIX / "bin/gpufan"
