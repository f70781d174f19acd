"""Counters of one card since the start: errors, overrides, time throttled by heat, time in the fail-safe."""

import math

import msgspec

from gpufan.core.reasons import Group
from gpufan.core.snapshot import Errors, GpuState

_GAP_S = 15.0
"""If the time between two ticks is longer than this, s, the machine slept. Such a time is not counted."""


class Counters:
    """Counts the errors of one card, and the seconds of heat and of doubt, since the start of the run."""

    def __init__(self) -> None:
        self.errors = Errors()
        self.overrides = 0
        """How often the fans were set again because their readings differed from the duty that was set."""
        self.throttled_s = 0.0
        self.fail_safe_s = 0.0
        self._last_s = math.inf

    def count_error(self, kind: str) -> None:
        """Count an error. `kind` is the name of a field of `Errors`."""
        self.errors = msgspec.structs.replace(self.errors, **{kind: getattr(self.errors, kind) + 1})

    def count_time(self, now_s: float, state: GpuState) -> None:
        """Count the time from the last call of this method to `now_s`. The card was in `state` during this time."""
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        if 0 < elapsed_s <= _GAP_S:
            self.fail_safe_s += elapsed_s * (state.reason.cause.group is Group.FAIL_SAFE)
            self.throttled_s += elapsed_s * (state.throttle == "heat")
