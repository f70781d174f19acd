"""How a run is shown on standard output: a live table on a terminal, log lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gpufan.daemon.view import OpenView, View
from gpufan.terminal.log import ChangeLog, log_to


@contextmanager
def run_view() -> Iterator[OpenView]:
    """Write the log to standard output in this block; the result opens the view of a run."""
    with log_to(sys.stdout) as handler:

        def open_view(title: str) -> View:
            if not sys.stdout.isatty():
                return ChangeLog()
            from rich.console import Console

            from gpufan.terminal.live_table import LiveTable

            return LiveTable(Console(), title, handler)

        yield open_view
