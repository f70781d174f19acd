"""Paths of gpufan's files."""

from pathlib import Path

RUNTIME_FOLDER = Path("/run/gpufan")
SNAPSHOT = "state.json"
PAUSE = "pause.json"
TAKEN = "taken.json"
"""Files in the runtime folder: the published state, the paused cards, and the cards whose fans were set."""
PREFIX = Path("/usr/local")
"""Folder for programs that the administrator installs (Filesystem Hierarchy Standard)."""


def command_link() -> Path:
    """Path at which every user, and sudo, finds the command `gpufan`."""
    return PREFIX / "bin/gpufan"
