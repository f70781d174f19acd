"""`sudo gpufan web`: two processes. The child speaks HTTP and has no rights. The parent is the apply helper.

The parent ends with the child, with the terminal and at a signal. The child ends with the parent. The child has no
terminal: it writes to a pipe, and the parent prints the lines of the pipe.
"""

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from gpufan.errors import GpufanError
from gpufan.system.printable import printable
from gpufan.system.signals import ignored, interrupt_at_signals
from gpufan.web.apply import Applier
from gpufan.web.helper import DirectApplier, HelperClient, LineReader, helper_answer
from gpufan.web.preload import load_hidden_code
from gpufan.web.rights import close_ways_back, die_with_parent, drop_rights, user_without_rights

_END_S = 2.0
"""A child that has not ended this long after SIGTERM, s, is killed."""
_FAILED = 70
"""The exit status of a child whose error was printed already."""


def open_terminal() -> int | None:
    """Open the terminal that controls this process, and return its file descriptor; None if there is none."""
    try:
        return os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None


def serve_without_rights(
    serve: Callable[[HelperClient], None],
    prepare: Callable[[], None],
    applier: Applier | None,
    terminal: int | None,
    say: Callable[[str], None],
) -> None:
    """Run `serve` in a child process without rights, and answer its requests to change settings.

    This ends with the child, with the terminal, or at a signal.

    The child calls `prepare` as root, before it gives up its rights. Without `applier`, no settings can be changed.
    `terminal` is the file descriptor of the terminal; None for no terminal. `say` prints a line.
    Raises GpufanError if the child fails.
    """
    interrupt_at_signals()
    ours, theirs = socket.socketpair()
    output, output_end = os.pipe()
    sys.stdout.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _run_child(lambda: serve(HelperClient(theirs)), prepare, parent, output_end, ours, terminal)
    theirs.close()
    os.close(output_end)
    try:
        _help(ours, output, terminal, None if applier is None else DirectApplier(applier), say)
    except KeyboardInterrupt:
        pass
    finally:
        with ignored():  # a second Ctrl-C must not interrupt this
            ours.close()
            status = _end_child(child)
            _print_rest(output, say)
    if status not in (0, -signal.SIGTERM):
        raise GpufanError("the page ended with an error: run `sudo gpufan web` again")


def _run_child(
    serve: Callable[[], None],
    prepare: Callable[[], None],
    parent: int,
    output: int,
    helper_end: socket.socket,
    terminal: int | None,
) -> None:
    """Be the child: give up all rights, and run `serve`. This never returns."""
    status = 1
    try:
        helper_end.close()
        if terminal is not None:
            os.close(terminal)
        os.setsid()  # without a terminal, it can neither read nor fake what a person types
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        close_ways_back()
        prepare()
        user = user_without_rights()
        load_hidden_code(user)
        drop_rights(user)
        die_with_parent(parent)
        serve()
        status = 0
    except GpufanError as error:
        print(f"gpufan: {error}", file=sys.stderr)
        status = _FAILED
    except BaseException as error:
        print(f"gpufan: {type(error).__name__}: {error} (this is a bug)", file=sys.stderr)
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(status)


def _help(
    connection: socket.socket,
    output: int,
    terminal: int | None,
    applier: DirectApplier | None,
    say: Callable[[str], None],
) -> None:
    """Answer the requests of the child and print its output, until the child or the terminal ends.

    Raises KeyboardInterrupt at a signal.
    """
    reader = LineReader(connection)
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    waiting.register(output, select.POLLIN)
    if terminal is not None:
        waiting.register(terminal, 0)  # only its end matters, which is always reported
    while True:
        for number, _ in waiting.poll():
            if number == terminal:
                return
            if number == connection.fileno():
                try:
                    line = reader.read()
                    if line is None:
                        return
                    connection.sendall(helper_answer(line, applier))
                except OSError:
                    return
            elif not _print_lines(output, say):
                waiting.unregister(output)


def _print_lines(output: int, say: Callable[[str], None]) -> bool:
    """Print what the child has written. Returns False at the end."""
    data = os.read(output, 65536)
    for line in data.decode("utf-8", "replace").splitlines():
        say(printable(line))
    return bool(data)


def _print_rest(output: int, say: Callable[[str], None]) -> None:
    """Print the rest of what the child has written, and close the pipe."""
    os.set_blocking(output, False)
    with suppress(OSError):
        while _print_lines(output, say):
            pass
    os.close(output)


def _end_child(child: int) -> int:
    """End the child, and return its exit status; a negative number is the signal that has ended it."""
    with suppress(ProcessLookupError):
        os.kill(child, signal.SIGTERM)
    end_s = time.monotonic() + _END_S
    while time.monotonic() < end_s:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 0
