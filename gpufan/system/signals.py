"""Handle signals that would end or suspend the program.

Such signals are deferred, ignored, or collected as reasons to stop.
"""

import math
import os
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STOP_SIGNALS = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    # By default these end or suspend the process, which would leave fans in manual mode.
    *(signal.SIGQUIT, signal.SIGTSTP, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGXCPU),
)

_SELECT_LIMIT_S = 86400.0
"""Longest time limit for one call of select(), s. select() refuses very long time limits."""


@contextmanager
def deferred() -> Iterator[list[int]]:
    """Defer stop signals during the block. The block gets a list of the signal numbers received so far.

    If the block ends without an error, the received signals are raised after the block.
    """
    received: list[int] = []
    with _signal_handler(lambda number, _: received.append(number)):
        yield received
    for number in received:
        signal.raise_signal(number)


@contextmanager
def ignored() -> Iterator[None]:
    """Ignore stop signals during the block, also in the programs that the block starts."""
    with _signal_handler(signal.SIG_IGN):
        yield


def exit_at_signals() -> None:
    """Make SIGTERM and SIGHUP raise SystemExit, so that changes are undone and fans are given back.

    A signal that is ignored already, such as SIGHUP under nohup, stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda received, _frame: sys.exit(128 + received))


def interrupt_at_signals() -> None:
    """Make SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does.

    A signal that is ignored already, such as SIGHUP under nohup, stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


@contextmanager
def _signal_handler(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    """Handle stop signals with `handler` during the block.

    Stop signals that are ignored already stay ignored. Outside of the main thread, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():  # signals interrupt the main thread only
        yield
        return
    # A signal that is ignored stays ignored, as SIGHUP under nohup.
    before = {number: old for number in STOP_SIGNALS if (old := signal.getsignal(number)) != signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


class StopInbox:
    """Collects reasons to stop (signal numbers or exceptions), and requests to reload the settings.

    A signal writes to a pipe (`signal.set_wakeup_fd`), and the pipe ends `wait`. A Python handler alone would not end
    `wait` if the handler ran just before `wait` began.
    """

    def __init__(self) -> None:
        self.reload_requested = False
        """Whether a reload of the settings was requested. The code that reloads must first set this to False."""
        self._reasons: deque[int | BaseException] = deque()
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def catch_signals(self) -> None:
        """Make every stop signal a reason to stop, which ends `wait`.

        A SIGHUP that is ignored already, as under nohup, stays ignored.
        """
        for number in STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda received, _frame: self._reasons.append(received))
        for number in (signal.SIGTTIN, signal.SIGTTOU):  # a terminal must not suspend a background job
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)

    def reload_on_hang_up(self) -> None:
        """Make SIGHUP request a reload of the settings.

        SIGHUP is left as it is if it means that the terminal was closed, or if it is ignored already.
        """
        if not _terminal_sends_sighup() and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._request_reload)

    def _request_reload(self, *_: object) -> None:
        """Handle SIGHUP: record that a reload of the settings is requested."""
        self.reload_requested = True

    def fail(self, error: BaseException) -> None:
        """Add `error` as a reason to stop. Any thread may call this."""
        self._reasons.append(error)
        with suppress(BlockingIOError):  # the pipe is full, so the thread wakes anyway
            os.write(self._waker, b"!")

    def wait(self, timeout_s: float | None) -> bool:
        """Wait for a reason to stop, for at most `timeout_s` seconds; None waits without a limit.

        Returns True if a signal is the reason, False if no reason came in time. If the reason is an exception, raises
        this exception.
        """
        end_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not self._reasons:
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return False
            if select.select([self._wake], [], [], min(left_s, _SELECT_LIMIT_S))[0]:
                os.read(self._wake, 4096)
        reason = self._reasons.popleft()
        if isinstance(reason, BaseException):
            raise reason
        return True


def _terminal_sends_sighup() -> bool:
    """Whether SIGHUP means that the terminal was closed.

    SIGHUP has this meaning if a terminal controls this process.
    """
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
