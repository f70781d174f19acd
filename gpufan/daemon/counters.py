"""Counters of one card since the start: errors, overrides, time throttled by heat, time in the fail-safe."""

import math

import msgspec

from gpufan.core.reasons import Group
from gpufan.core.snapshot import Errors, GpuState

_GAP_S = 15.0
"""A longer time between ticks does not count as time spent in a state, s: the machine slept."""


class Counters:
    """The counters of one card."""

    def __init__(self) -> None:
        self.errors = Errors()
        self.overrides = 0
        """How often the fans that were read back differed from the duty set, so that they were set again."""
        self.throttled_s = 0.0
        self.fail_safe_s = 0.0
        self._last_s = math.inf

    def count_error(self, kind: str) -> None:
        """Count an error. `kind` is a field of `Errors`."""
        self.errors = msgspec.structs.replace(self.errors, **{kind: getattr(self.errors, kind) + 1})

    def count_time(self, now_s: float, state: GpuState) -> None:
        """Count the time since the last call of this method, in which the card was in `state`, until `now_s`."""
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        if 0 < elapsed_s <= _GAP_S:
            self.fail_safe_s += elapsed_s * (state.reason.cause.group is Group.FAIL_SAFE)
            self.throttled_s += elapsed_s * (state.throttle == "heat")
