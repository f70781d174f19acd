"""Use threads for calls that may hang: a call gets a time limit, and a writer never blocks its caller."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from gpufan.errors import NoAnswer

T = TypeVar("T")


class BackgroundCall(Generic[T]):
    """A call that runs in its own thread. A thread that hangs is left running, because nothing can end it."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._results: list[T] = []
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether the call has returned or raised an error."""
        return bool(self._results or self._errors)

    def wait(self, timeout_s: float) -> None:
        """Wait until the call has returned or raised an error, for at most `timeout_s` seconds."""
        self._thread.join(timeout_s)

    def result(self, timeout_s: float) -> T:
        """Wait for the call, for at most `timeout_s` seconds. Return the result of the call.

        Raises the error of the call, or NoAnswer if the call has not ended in time.
        """
        self._thread.join(timeout_s)
        for error in self._errors:
            raise error
        if not self._results:
            raise NoAnswer(f"no answer within {timeout_s:g} s")
        return self._results[0]

    def _run(self) -> None:
        """Make the call in the thread. Store the result or the error of the call."""
        try:
            self._results.append(self._call())
        except BaseException as error:  # `result` raises it again
            self._errors.append(error)


def call_with_timeout(timeout_s: float, call: Callable[[], T]) -> T:
    """Make the call `call` in its own thread, and return its result.

    Raises the error of the call, or NoAnswer if the call has not ended after `timeout_s` seconds.
    """
    return BackgroundCall(call).result(timeout_s)


def call_all(timeout_s: float, calls: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """Run all `calls` at the same time. Return the result or the error of each call, in the order of `calls`.

    A call that has not ended after `timeout_s` seconds gets the error NoAnswer. A call that hangs does not delay the
    others. This function takes at most `timeout_s` seconds.
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
    """Calls `write` for each item in a thread, so that the caller never waits.

    The class is for output that may block for ever, such as a stopped terminal, or a pipe that nobody reads. While 100
    items wait, new items are dropped. After the first error of `write`, all items are dropped. The thread ends when no
    items are left.
    """

    _BACKLOG = 100

    def __init__(self, write: Callable[[T], None]) -> None:
        self._write = write
        self._items: deque[T] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.error: OSError | ValueError | None = None
        """The error of `write`, for example because the reader is gone; None if `write` has not failed."""

    def put(self, item: T) -> None:
        """Add `item` to the items that wait for `write`, and return at once. The item may be dropped."""
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
        """Whether items are still being written. If `write` blocks, this may stay True for ever."""
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
