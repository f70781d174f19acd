"""Measures how long a card is without control, and decides by this time alone when the next remedy is due.

The remedies, in order: try again (`worker.py`), open the card anew, load NVML again (both here), and start a new
process (`loop.py`).
"""

import logging
import math
from collections.abc import Callable, Sequence

from gpufan.core.reasons import Cause, Control, Group
from gpufan.core.snapshot import GpuState
from gpufan.errors import GpufanError

REOPEN_S = 3.0
"""A card without control is opened anew after this time, s. The time doubles with each attempt, up to a minute."""

RELOAD_DRIVER_S = 8.0
"""NVML is loaded again when a card has not been read for this long, s. The time doubles with each attempt."""

ALL_BLIND_S = 3.0
"""While no card at all can be read, NVML is loaded again at this interval, s."""

_log = logging.getLogger(__name__)


class Backoff:
    """Makes waiting times in whole seconds, which grow from `first_s` to `last_s` by the factor `growth`.

    >>> backoff = Backoff(20, 60)
    >>> backoff.next_s(), backoff.next_s(), backoff.next_s()
    (20, 40, 60)
    """

    def __init__(self, first_s: float, last_s: float, growth: float = 2) -> None:
        self._first_s = self._wait_s = first_s
        self.last_s = last_s
        self._growth = growth

    def next_s(self) -> float:
        """Return the seconds to wait now. The next wait is longer."""
        wait_s, self._wait_s = self._wait_s, min(self._wait_s * self._growth, self.last_s)
        return round(wait_s)

    def reset(self) -> None:
        """Start again with the first, shortest wait."""
        self._wait_s = self._first_s


class Recovery:
    """Measures how long one card is without control, or without a temperature."""

    def __init__(self) -> None:
        self._controlled_s: float | None = None
        self._sensed_s: float | None = None
        self._wait = Backoff(REOPEN_S, 60)
        self._reopen_at_s = 0.0

    def uncontrolled_s(self, now_s: float) -> float:
        """Return the seconds since the card was last under control, or since the first tick."""
        return 0.0 if self._controlled_s is None else max(now_s - self._controlled_s, 0.0)

    def blind_s(self, now_s: float) -> float:
        """Return the seconds since the card last reported a temperature, or since the first tick."""
        return 0.0 if self._sensed_s is None else max(now_s - self._sensed_s, 0.0)

    def controlled(self, now_s: float) -> None:
        """Record that the card is under control at `now_s`."""
        self._controlled_s = self._sensed_s = now_s

    def reopen_is_due(self, now_s: float, state: GpuState) -> bool:
        """Record the state after a tick. Returns whether the card must now be opened anew."""
        controlled = state.control in (Control.OURS, Control.DRIVER)
        if state.control is Control.RELEASED:  # fans that do not obey are given to the driver on purpose
            controlled = not state.release_error and state.reason.cause is not Cause.REFUSED
        # A paused card is not read.
        sensed = state.temperature_c is not None or state.reason.cause.group is Group.PAUSED
        if controlled or self._controlled_s is None:
            self._controlled_s = now_s
        if sensed or self._sensed_s is None:
            self._sensed_s = now_s
        if controlled and sensed:
            self._wait.reset()
        elif now_s < self._reopen_at_s:
            return False
        self._reopen_at_s = now_s + self._wait.next_s()
        return not (controlled and sensed)


class DriverReload:
    """Loads NVML again when cards cannot be read for long, and when paused cards must be closed."""

    def __init__(self, reload: Callable[[], None] | None) -> None:
        """`reload` loads NVML again, or raises GpufanError. It is None if there is no NVML."""
        self._reload = reload
        self._wait = Backoff(RELOAD_DRIVER_S, 600)
        self._due_s, self._reloaded_s = math.inf, -math.inf
        self._failed_s = -math.inf

    def hurry(self) -> None:
        """Begin again with the shortest wait before the next reload."""
        self._wait.reset()
        self._due_s = math.inf

    def run_if_due(self, now_s: float, blind_s: Sequence[float], *, is_wanted: bool) -> bool:
        """Load NVML again if that is due. Returns whether it was loaded again.

        `blind_s` has the seconds since the last reading of each card. `is_wanted` says whether a card must be closed.
        """
        if is_wanted and now_s - self._failed_s >= RELOAD_DRIVER_S:
            return self._run(now_s)
        longest_s = max(blind_s)
        if longest_s == 0:
            self.hurry()
            return False
        if self._due_s == math.inf:
            self._due_s = now_s - longest_s + self._wait.next_s()
        due_s = self._due_s
        if min(blind_s) > 0:  # there is no card that a reload could disturb
            due_s = min(due_s, max(now_s - longest_s, self._reloaded_s) + ALL_BLIND_S)
        if now_s < due_s or self._reload is None:
            return False
        self._reloaded_s = now_s
        self._due_s = now_s + self._wait.next_s()
        _log.warning("a card has not been read for %.0f s: NVML is loaded again", longest_s)
        return self._run(now_s)

    def _run(self, now_s: float) -> bool:
        """Load NVML again. Returns whether that succeeded; an error is logged."""
        try:
            if self._reload is not None:
                self._reload()
        except GpufanError as error:
            self._failed_s = now_s
            _log.warning("NVML cannot be loaded again: %s", error)
            return False
        return True
