"""Shows a run on standard output: as a live table on a terminal, as log lines elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gpufan.daemon.view import OpenView, View
from gpufan.terminal.log import ChangeLog, log_to


@contextmanager
def run_view() -> Iterator[OpenView]:
    """Write the log to standard output during the block. Yields a function that opens the view of a run.

    The function returns a `LiveTable` if standard output is a terminal, else a `ChangeLog`.
    """
    with log_to(sys.stdout) as handler:

        def open_view(title: str) -> View:
            if not sys.stdout.isatty():
                return ChangeLog()
            from rich.console import Console

            from gpufan.terminal.live_table import LiveTable

            return LiveTable(Console(), title, handler)

        yield open_view
