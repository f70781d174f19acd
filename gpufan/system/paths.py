"""Where gpufan has its files."""

from pathlib import Path

RUNTIME_FOLDER = Path("/run/gpufan")
SNAPSHOT = "state.json"
PREFIX = Path("/usr/local")
"""For what an administrator installs (Filesystem Hierarchy Standard)."""


def command_link() -> Path:
    """The command `gpufan` for every user, and for sudo."""
    return PREFIX / "bin/gpufan"
