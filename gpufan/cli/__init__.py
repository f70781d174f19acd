"""The command line. Each command parses its options, calls one function and prints. Only this package uses click.

After an import of this package, Ctrl-C prints one line instead of a traceback, also while a command is being loaded.
"""

import sys
from types import TracebackType

_print_exception = sys.excepthook


def _print_end_of_process(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print why the process ends: a line for Ctrl-C, else a traceback. It is the `sys.excepthook` of gpufan."""
    if issubclass(kind, KeyboardInterrupt) and "--debug" not in sys.argv:
        print("gpufan: interrupted", file=sys.stderr)
    else:
        _print_exception(kind, error, traceback)


sys.excepthook = _print_end_of_process
