"""Signals that would end the program, kept off the steps that must not be left half-way."""

import math
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def noted() -> Iterator[list[int]]:
    """In this block they are only noted, in the list; `act_on` is for after it."""
    numbers: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        numbers.append(number)

    with _handled_by(note):
        yield numbers


@contextmanager
def ignored() -> Iterator[None]:
    """In this block they do nothing, not even to the programs that it starts."""
    with _handled_by(signal.SIG_IGN):
        yield


def act_on(numbers: Iterable[int]) -> None:
    """Let the first do what it would have done at once."""
    for number in numbers:
        signal.raise_signal(number)


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # which no signal interrupts
        yield
        return
    # One that is ignored stays so, as SIGHUP under nohup.
    before = {number: old for number in _ENDING if (old := signal.getsignal(number)) != signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


_LONGEST_WAIT_S = 86400.0
"""What select() takes has a limit."""


_STOP_SIGNALS = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    # Left to themselves these would end the process, or stop it in its tracks, with the fans in manual mode.
    *(signal.SIGQUIT, signal.SIGTSTP, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGXCPU),
)


class StopInbox:
    """Where a reason to stop arrives: a signal's number, or an exception that ends the run. And the wish to reload.

    A pipe wakes the waiting thread, and a signal writes to it at once (`signal.set_wakeup_fd`): a handler in Python
    runs only between two bytecodes, so a signal just before the wait for a lock or a queue would be slept over.
    """

    def __init__(self) -> None:
        self._reload_wanted = False
        self._reasons: deque[int | BaseException] = deque()
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def catch_signals(self) -> None:
        """Let signals stop the run. A hang-up stays ignored where it was, as under nohup."""
        for number in _STOP_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda received, _frame: self._reasons.append(received))
        for number in (signal.SIGTTIN, signal.SIGTTOU):  # a terminal may not stop what runs in its background
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)

    def reload_on_hang_up(self) -> None:
        """Where there is no terminal to hang up, take SIGHUP for the wish to read the settings again."""
        if not _has_terminal() and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._want_reload)

    def _want_reload(self, *_: object) -> None:
        self._reload_wanted = True

    def pop_reload_request(self) -> bool:
        """Whether a reload was wished for since the last time this was asked."""
        if not self._reload_wanted:
            return False
        self._reload_wanted = False
        return True

    def fail(self, error: BaseException) -> None:
        """Stop because of `error`; from any thread."""
        self._reasons.append(error)
        with suppress(BlockingIOError):  # so many wake-ups wait already
            os.write(self._waker, b"!")

    def wait(self, timeout_s: float | None) -> bool:
        """Wait for a reason to stop; False if none came. Raises the error if it was one."""
        end_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not self._reasons:
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                return False
            if select.select([self._wake], [], [], min(left_s, _LONGEST_WAIT_S))[0]:
                os.read(self._wake, 4096)
        reason = self._reasons.popleft()
        if isinstance(reason, BaseException):
            raise reason
        return True


def _has_terminal() -> bool:
    """Whether a terminal controls this process, as it does not a service."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
