"""The protocol of a view, which shows a run to people. The views themselves are in `terminal/`."""

from collections.abc import Callable
from typing import Protocol

from gpufan.core.snapshot import Snapshot


class View(Protocol):
    """Shows a run to people."""

    every_tick: bool
    """Whether the view shows every tick. If not, the view shows only new states."""

    def publish(self, snapshot: Snapshot) -> None:
        """Show the next snapshot."""

    def close(self) -> None:
        """Show the snapshots that are not shown yet, and stop."""


OpenView = Callable[[str], View]
"""Opens the view of a run, and returns the view. The argument is the title of the view."""
