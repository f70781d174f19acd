"""Work that may hang for ever, kept away from work that must not: a time limit, and a thread aside."""

import threading
from collections.abc import Callable
from queue import Queue
from typing import Generic, TypeVar

from gpufan.errors import NoAnswer

T = TypeVar("T")


class BackgroundCall(Generic[T]):
    """A call that is being made in a thread of its own. The thread is left behind if it hangs: nothing can end it."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._results: list[T] = []
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self, seconds: float) -> T:
        """What the call returns; what it raises is raised here. Raises NoAnswer if that takes more than `seconds`."""
        self._thread.join(seconds)
        for error in self._errors:
            raise error
        if not self._results:
            raise NoAnswer(f"no answer within {seconds:g} s")
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # handed over whatever it is: it belongs to the caller
            self._errors.append(error)


def call_with_timeout(seconds: float, call: Callable[[], T]) -> T:
    """Result of `call`, made in a thread of its own; what it raises is raised here.

    Raises NoAnswer if it takes longer than `seconds`.
    """
    return BackgroundCall(call).result(seconds)


class BackgroundWriter(Generic[T]):
    """Hands items to `take` in a thread of its own, so that whoever puts them never waits.

    Made for output: a terminal that is stopped or a pipe that nobody reads may block for ever. Items that pile up are
    dropped, and once `take` has failed nothing more is taken.
    """

    _BACKLOG = 100

    def __init__(self, take: Callable[[T], None]) -> None:
        self._take = take
        self._queue: Queue[T | None] = Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand over `item`; returns at once."""
        if self._queue.qsize() < self._BACKLOG:
            self._queue.put_nowait(item)

    def close(self, timeout_s: float) -> None:
        """Let what was put be taken, for `timeout_s` seconds at most."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    @property
    def busy(self) -> bool:
        """Whether `take` is still at work, as it may be for ever."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                self._take(item)
            except (OSError, ValueError):  # the reader went away, or the stream was closed
                return
