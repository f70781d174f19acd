"""Chooses how a run is shown: a live table on a terminal, lines elsewhere."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpufan.daemon.run import Report


def open_report(title: str) -> "Report":
    """The report of a run on standard output."""
    if sys.stdout.isatty():
        from rich.console import Console

        from gpufan.terminal.live_table import LiveReport

        return LiveReport(Console(), title)
    from gpufan.terminal.log import LogReport

    return LogReport(sys.stdout)
