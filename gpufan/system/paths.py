"""Where gpufan keeps its files."""

from pathlib import Path

RUNTIME_FOLDER = Path("/run/gpufan")


SNAPSHOT = "state.json"
PREFIX = Path("/usr/local")
"""Below it lies what an administrator installs (Filesystem Hierarchy Standard)."""


def command_link() -> Path:
    """Where `gpufan` is to be found, by everybody and by sudo."""
    return PREFIX / "bin/gpufan"
