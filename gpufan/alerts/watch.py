"""The process of the service `gpufan-alerts`. It watches the snapshot and sends messages until a signal arrives."""

import logging
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gpufan.alerts.messages import Message, Phase
from gpufan.alerts.outbox import Courier, close_couriers
from gpufan.alerts.receivers import NotDelivered, receivers
from gpufan.alerts.rules import Rules
from gpufan.alerts.settings import AlertSettings
from gpufan.core.snapshot import Snapshot
from gpufan.daemon import snapshot_file
from gpufan.errors import GpufanError
from gpufan.system.background import call_all
from gpufan.system.clock import since_boot_s
from gpufan.system.printable import printable
from gpufan.system.signals import StopInbox

_log = logging.getLogger("gpufan.alerts")

POLL_S = 1.0
"""The time between two reads of the snapshot, s."""
CLOSE_S = 6.0
"""At its end, the process tries for at most this time, s, to deliver the waiting messages."""
TEST_S = 120.0
"""The time limit for a test of all receivers, s. Each receiver has a lower time limit of its own."""


class AlertsWatch:
    """Reads snapshots and makes messages from them. Callers pass the time."""

    def __init__(self, rules: Rules, read_snapshot: Callable[[], Snapshot], monotonic_s: float) -> None:
        """Begin at the time `monotonic_s`. `read_snapshot` returns the latest snapshot, or raises GpufanError."""
        self._rules = rules
        self._read_snapshot = read_snapshot
        self._last: Snapshot | None = None
        self._new_at_s = monotonic_s
        """When a new snapshot was last read, by the monotonic clock."""

    def tick(self, wall_s: float, monotonic_s: float) -> list[Message]:
        """Read the snapshot, and return the messages that are due.

        `wall_s` is the time in seconds since the epoch, `monotonic_s` is the time by a clock that nobody sets.
        """
        try:
            snapshot = self._read_snapshot()
        except GpufanError as error:
            is_missing = isinstance(error.__context__, FileNotFoundError)
            problem = "gpufan does not run: it was stopped, or cannot start" if is_missing else str(error)
            return self._rules.miss(problem, wall_s, monotonic_s)
        if self._is_new(snapshot, wall_s):
            self._last, self._new_at_s = snapshot, monotonic_s
            return self._rules.see(snapshot, monotonic_s)
        if self._last is not None and monotonic_s - self._new_at_s <= _gpufan_hangs_after_s(snapshot):
            return []
        written = time.strftime("%F %T", time.localtime(snapshot.time_s))
        return self._rules.miss(
            f"gpufan has published nothing since {written}: it hangs, or was killed", wall_s, monotonic_s
        )

    def _is_new(self, snapshot: Snapshot, wall_s: float) -> bool:
        """Whether `snapshot` is new. A snapshot after the first one is new if its time has changed.

        The first snapshot is new only if it was just published. A gpufan that was killed may have left an old one.
        """
        if self._last is None:  # a daemon that was killed leaves its last snapshot
            return abs(wall_s - snapshot.time_s) <= _gpufan_hangs_after_s(snapshot)
        return snapshot.time_s != self._last.time_s


def _gpufan_hangs_after_s(snapshot: Snapshot) -> float:
    """Return after how many seconds without a newer snapshot gpufan counts as hanging."""
    return 5.0 + 2 * snapshot.interval_s


def send_alerts(snapshot_path: Path, settings: AlertSettings) -> None:
    """Watch the snapshot in `snapshot_path`, and send messages to all receivers until a signal arrives."""
    inbox = StopInbox()
    inbox.catch_signals()
    couriers = [Courier(receiver) for receiver in receivers(settings)]
    _log.info("messages go to %s", ", ".join(receiver.name for receiver in receivers(settings)))
    rules = Rules(_watched_box_name(), settings.after_s, settings.repeat_after_s)
    watch = AlertsWatch(rules, lambda: snapshot_file.read_snapshot(snapshot_path), since_boot_s())
    try:
        while True:
            for message in watch.tick(time.time(), since_boot_s()):
                for courier in couriers:
                    courier.put(message)
            if inbox.wait(POLL_S):
                break
    finally:
        close_couriers(couriers, CLOSE_S)


def send_test_message(settings: AlertSettings, say: Callable[[str], None]) -> int:
    """Send a test message to all receivers at the same time. Returns how many receivers did not accept it.

    This function calls `say` with a line about the result for each receiver.
    """
    now_s = time.time()
    message = Message(phase=Phase.TEST, trouble=None, box=_watched_box_name(), since_s=now_s, time_s=now_s)
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


def _watched_box_name() -> str:
    """Return the host name of this machine, as messages show it."""
    return printable(socket.gethostname())
