"""Threads for calls that may hang: calls with a time limit, and a writer that never blocks its caller."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from gpufan.errors import NoAnswer

T = TypeVar("T")


class BackgroundCall(Generic[T]):
    """A call that runs in its own thread. A hanging thread is abandoned, since nothing can end it."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._results: list[T] = []
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether the call has returned or raised."""
        return bool(self._results or self._errors)

    def wait(self, timeout_s: float) -> None:
        """Wait until the call has returned or raised, for at most `timeout_s` seconds."""
        self._thread.join(timeout_s)

    def result(self, timeout_s: float) -> T:
        """Wait at most `timeout_s` seconds and return the result. Raises the error of the call, or NoAnswer."""
        self._thread.join(timeout_s)
        for error in self._errors:
            raise error
        if not self._results:
            raise NoAnswer(f"no answer within {timeout_s:g} s")
        return self._results[0]

    def _run(self) -> None:
        """Make the call in the thread, and store its result or its error."""
        try:
            self._results.append(self._call())
        except BaseException as error:  # `result` raises it again
            self._errors.append(error)


def call_with_timeout(timeout_s: float, call: Callable[[], T]) -> T:
    """Return the result of `call`. Raises the error of `call`, or NoAnswer after `timeout_s` seconds."""
    return BackgroundCall(call).result(timeout_s)


def call_all(timeout_s: float, calls: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """Run `calls` at the same time. Returns the result or the error of each; NoAnswer after `timeout_s` seconds.

    A call that hangs does not delay the others. The caller waits for `timeout_s` at most.
    """
    running = [BackgroundCall(call) for call in calls]
    deadline_s = time.monotonic() + timeout_s
    results: list[T | Exception] = []
    for call in running:
        call.wait(max(deadline_s - time.monotonic(), 0))
        try:
            results.append(call.result(0))
        except Exception as error:  # returned beside the results of the other calls
            results.append(error if call.is_done else NoAnswer(f"no answer within {timeout_s:g} s"))
    return results


class BackgroundWriter(Generic[T]):
    """Calls `write` for each item in a thread, so that the caller never waits. The thread ends when no items are left.

    For output: a stopped terminal, or a pipe that nobody reads, may block for ever. While 100 items wait, new items
    are dropped. After the first error of `write`, all items are dropped.
    """

    _BACKLOG = 100

    def __init__(self, write: Callable[[T], None]) -> None:
        self._write = write
        self._items: deque[T] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.error: OSError | ValueError | None = None
        """Why `write` has failed: for example because the reader is gone; None if it has not."""

    def put(self, item: T) -> None:
        """Queue `item` for `write`, and return at once."""
        with self._lock:
            if self.error or len(self._items) >= self._BACKLOG:
                return
            self._items.append(item)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Wait until all items are written, for at most `timeout_s` seconds."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    @property
    def is_busy(self) -> bool:
        """Whether items are still being written. It may stay True for ever if `write` blocks."""
        return self._thread is not None

    def _run(self) -> None:
        """Write the queued items in the thread, until no items are left."""
        while True:
            with self._lock:
                if not self._items:
                    self._thread = None
                    return
                item = self._items.popleft()
            try:
                self._write(item)
            except (OSError, ValueError) as error:
                self.error = error
                self._items.clear()
