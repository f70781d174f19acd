"""How long a card has been without control, and when the next remedy is due. Results count, not error codes.

The remedies, in order: try again (`worker.py`), open the card anew (here), load NVML again, and start a new process
(both in `loop.py`).
"""

from gpufan.core.reasons import Cause, Control
from gpufan.core.snapshot import GpuState

REOPEN_S = 3.0
"""A card without control is opened anew after this time, s. The time doubles with each attempt, up to a minute."""


class Backoff:
    """Waits that double from `first_s` to `last_s` seconds.

    >>> backoff = Backoff(20, 60)
    >>> backoff.next_s(), backoff.next_s(), backoff.next_s()
    (20, 40, 60)
    """

    def __init__(self, first_s: float, last_s: float) -> None:
        self._first_s = self._wait_s = first_s
        self.last_s = last_s

    def next_s(self) -> float:
        """Seconds to wait now."""
        wait_s, self._wait_s = self._wait_s, min(self._wait_s * 2, self.last_s)
        return wait_s

    def reset(self) -> None:
        """Start again with the first wait."""
        self._wait_s = self._first_s


class Recovery:
    """Measures how long one card is without control, or without a temperature."""

    def __init__(self) -> None:
        self._controlled_s: float | None = None
        self._sensed_s: float | None = None
        self._wait = Backoff(REOPEN_S, 60)
        self._reopen_at_s = 0.0

    def uncontrolled_s(self, now_s: float) -> float:
        """Seconds since the card was last under control, or since the first tick."""
        return 0.0 if self._controlled_s is None else max(now_s - self._controlled_s, 0.0)

    def blind_s(self, now_s: float) -> float:
        """Seconds since the card last reported a temperature, or since the first tick."""
        return 0.0 if self._sensed_s is None else max(now_s - self._sensed_s, 0.0)

    def reopen_is_due(self, now_s: float, state: GpuState) -> bool:
        """Record the state after a tick. Returns whether the card must be opened anew now."""
        controlled = state.control in (Control.OURS, Control.DRIVER)
        if state.control is Control.RELEASED:  # fans that do not obey are given to the driver on purpose
            controlled = not state.release_error and state.reason.cause is not Cause.REFUSED
        sensed = state.temperature_c is not None
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
