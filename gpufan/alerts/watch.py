"""Watches the snapshot and sends messages, until a signal: what the service `gpufan-alerts` does."""

import logging
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gpufan.alerts.messages import Message, Phase
from gpufan.alerts.outbox import Courier, close_all
from gpufan.alerts.receivers import NotDelivered, receivers
from gpufan.alerts.rules import Rules
from gpufan.alerts.settings import AlertSettings
from gpufan.core.snapshot import Snapshot
from gpufan.daemon import snapshot_file
from gpufan.errors import GpufanError
from gpufan.system.background import call_all
from gpufan.system.printable import printable
from gpufan.system.signals import StopInbox

_log = logging.getLogger("gpufan.alerts")

POLL_S = 1.0
"""Interval between two reads of the snapshot, s."""
CLOSE_S = 6.0
"""At the end, waiting messages are tried once more for at most this time, s."""
TEST_S = 120.0
"""Time limit for a test, s; each receiver has a lower one of its own."""


class Watch:
    """Turns snapshot files into messages. Times are arguments."""

    def __init__(self, rules: Rules, read_snapshot: Callable[[], Snapshot], monotonic_s: float) -> None:
        """`read_snapshot` returns the latest snapshot, or raises GpufanError."""
        self._rules = rules
        self._read_snapshot = read_snapshot
        self._last: Snapshot | None = None
        self._new_at_s = monotonic_s
        """When a new snapshot was last read, by the monotonic clock."""

    def tick(self, wall_s: float, monotonic_s: float) -> list[Message]:
        """Read the snapshot; returns the messages that are due. `wall_s` is the wall clock, which may be set."""
        try:
            snapshot = self._read_snapshot()
        except GpufanError as error:
            is_missing = isinstance(error.__context__, FileNotFoundError)
            problem = "gpufan does not run: it was stopped, or cannot start" if is_missing else str(error)
            return self._rules.miss(problem, wall_s, monotonic_s)
        if self._is_new(snapshot, wall_s):
            self._last, self._new_at_s = snapshot, monotonic_s
            return self._rules.see(snapshot, monotonic_s)
        if self._last is not None and monotonic_s - self._new_at_s <= _stale_after_s(snapshot):
            return []
        written = time.strftime("%F %T", time.localtime(snapshot.time_s))
        return self._rules.miss(
            f"gpufan has published nothing since {written}: it hangs, or was killed", wall_s, monotonic_s
        )

    def _is_new(self, snapshot: Snapshot, wall_s: float) -> bool:
        if self._last is None:  # a daemon that was killed leaves its last snapshot
            return abs(wall_s - snapshot.time_s) <= _stale_after_s(snapshot)
        return snapshot.time_s != self._last.time_s


def _stale_after_s(snapshot: Snapshot) -> float:
    return 5.0 + 2 * snapshot.interval_s


def send_alerts(snapshot_path: Path, settings: AlertSettings) -> None:
    """Send messages until a signal arrives."""
    inbox = StopInbox()
    inbox.catch_signals()
    couriers = [Courier(receiver) for receiver in receivers(settings)]
    _log.info("messages go to %s", ", ".join(receiver.name for receiver in receivers(settings)))
    rules = Rules(box_name(), settings.after_s, settings.repeat_after_s)
    watch = Watch(rules, lambda: snapshot_file.read(snapshot_path), _monotonic_s())
    try:
        while True:
            for message in watch.tick(time.time(), _monotonic_s()):
                for courier in couriers:
                    courier.put(message)
            if inbox.wait(POLL_S):
                break
    finally:
        close_all(couriers, CLOSE_S)


def send_test(settings: AlertSettings, say: Callable[[str], None]) -> int:
    """Send a test message to all receivers at the same time; returns how many did not accept it.

    `say` receives a line for each.
    """
    now_s = time.time()
    message = Message(phase=Phase.TEST, trouble=None, box=box_name(), since_s=now_s, time_s=now_s)
    everybody = receivers(settings)

    results = call_all(TEST_S, [partial(receiver.send, message) for receiver in everybody])
    failed = 0
    for receiver, result in zip(everybody, results, strict=True):
        if isinstance(result, NotDelivered):
            say(f"{receiver.name}: not delivered: {result}")
            failed += 1
        elif isinstance(result, Exception):
            raise result
        else:
            say(f"{receiver.name}: sent")
    return failed


def box_name() -> str:
    """Host name of this machine."""
    return printable(socket.gethostname())


def _monotonic_s() -> float:
    """A clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
