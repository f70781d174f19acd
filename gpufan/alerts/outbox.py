"""The messages that wait in memory for one receiver, and the thread that tries to deliver them."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from gpufan.alerts.messages import Message, message_title
from gpufan.alerts.receivers import NotDelivered, Receiver

_log = logging.getLogger("gpufan.alerts")

CAPACITY = 500
"""At most this many messages wait for one receiver. A further message drops the oldest one."""
FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 300.0
GIVE_UP_S = 86400.0
"""A message that has waited for longer than this, s, is dropped when the next message is added."""


class Outbox:
    """The queue of messages for one receiver.

    The methods get the present time as `now_s`, in seconds by a clock that nobody sets.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, Message]] = deque()
        self._wait_s = FIRST_WAIT_S
        self._next_try_s = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, message: Message, now_s: float) -> int:
        """Add a message, and drop old messages if the queue is full or if they have waited too long.

        Returns the number of messages that were dropped.
        """
        self._waiting.append((now_s, message))
        dropped = 0
        while len(self._waiting) > CAPACITY or now_s - self._waiting[0][0] > GIVE_UP_S:
            self._waiting.popleft()
            dropped += 1
        return dropped

    def wait_s(self, now_s: float) -> float | None:
        """Return the time until the next attempt to deliver a message, s; None if no message waits."""
        return max(self._next_try_s - now_s, 0.0) if self._waiting else None

    def first(self) -> tuple[float, Message]:
        """Return the time at which the oldest message was added, and this message. The queue must not be empty."""
        return self._waiting[0]

    def delivered(self, entry: tuple[float, Message]) -> None:
        """Remove a delivered message from the queue. `entry` is the result of `first`: the time and the message.

        The next message is due at once.
        """
        if entry in self._waiting:  # it may have been dropped meanwhile
            self._waiting.remove(entry)
        self._wait_s, self._next_try_s = FIRST_WAIT_S, 0.0

    def failed(self, now_s: float) -> float:
        """Note a failed attempt to deliver. Returns the time to wait before the next attempt, s.

        Each failure in a row doubles this time, up to `LONGEST_WAIT_S`.
        """
        wait_s, self._wait_s = self._wait_s, min(2 * self._wait_s, LONGEST_WAIT_S)
        self._next_try_s = now_s + wait_s
        return wait_s


class Courier:
    """Delivers the messages of one receiver in its own thread, so that no receiver delays another."""

    def __init__(self, receiver: Receiver, clock: Callable[[], float] = time.monotonic) -> None:
        self._receiver = receiver
        self._clock = clock
        self._outbox = Outbox()
        self._changed = threading.Condition()
        self._closing = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, message: Message) -> None:
        """Add a message to the queue. This call does not wait for the delivery."""
        with self._changed:
            dropped = self._outbox.put(message, self._clock())
            self._changed.notify()
        if dropped:
            _log.warning("%s: %d old messages dropped, since it does not accept any", self._receiver.name, dropped)

    def begin_close(self) -> None:
        """Ask the thread to try the waiting messages without delay, and then to end. Do not wait for the thread.

        The thread ends at the first message that fails.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()

    def join(self, timeout_s: float) -> int:
        """Wait at most `timeout_s` for the end of the thread. Returns the number of undelivered messages."""
        self._thread.join(timeout_s)
        return len(self._outbox)

    def _run(self) -> None:
        """Deliver messages until the courier is closed. The thread runs this function."""
        while (entry := self._next()) is not None:
            is_last_attempt = self._closing
            try:
                self._receiver.send(entry[1])
            except NotDelivered as error:
                self._note_failure(error)
            except Exception as error:  # a bug must not silence this receiver; its text may have a secret
                self._note_failure(NotDelivered(f"internal error, {type(error).__name__}"))
            else:
                self._note_success(entry)
                continue
            if is_last_attempt:
                return

    def _next(self) -> tuple[float, Message] | None:
        """Wait until a message is due. Return the time at which the message was added, and the message.

        Return None if the courier is closed and no message waits.
        """
        with self._changed:
            while True:
                wait_s = self._outbox.wait_s(self._clock())
                if wait_s == 0 or (self._closing and wait_s is not None):
                    return self._outbox.first()
                if self._closing:
                    return None
                self._changed.wait(wait_s)

    def _note_failure(self, error: NotDelivered) -> None:
        """Note a failed attempt in the queue. Log only the first failure in a row."""
        with self._changed:
            wait_s = self._outbox.failed(self._clock())
        if not self._failing:
            _log.warning(
                "%s: not delivered: %s; trying again after %g s, then less often", self._receiver.name, error, wait_s
            )
        self._failing = True

    def _note_success(self, entry: tuple[float, Message]) -> None:
        """Remove a delivered message from the queue, and log that it was sent. `entry` is the result of `_next`."""
        with self._changed:
            self._outbox.delivered(entry)
        if self._failing:
            _log.info("%s: accepts messages again", self._receiver.name)
        self._failing = False
        _log.info("%s: sent: %s", self._receiver.name, message_title(entry[1]))


def close_couriers(couriers: Sequence[Courier], timeout_s: float) -> None:
    """Close all couriers. Wait at most `timeout_s` in total until they have ended. Log how many messages are lost."""
    end_s = time.monotonic() + timeout_s
    for courier in couriers:
        courier.begin_close()
    lost = sum(courier.join(max(end_s - time.monotonic(), 0.0)) for courier in couriers)
    if lost:
        _log.warning("messages that were not delivered and are lost: %d", lost)
