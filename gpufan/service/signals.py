"""Signals that would end the program, kept off the steps that must not be left half-way."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
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
