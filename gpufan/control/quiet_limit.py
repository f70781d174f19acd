"""The limit of quiet hours for the duty of one card. Near the slowdown threshold the limit rises as far as needed."""

import math

import msgspec

from gpufan.control.law import Decision
from gpufan.core.quiet_hours import Quiet
from gpufan.core.reasons import Cause, Reason

YIELD_K = 4.0
"""From this far below full speed on the limit rises with the temperature, so that the card stays out of that margin."""

FALL_PERCENT_PER_S = 2 / 60
"""Fastest fall of a limit that has risen, percent per second: a fast one would make the fans swing."""


class QuietLimit:
    """Limits the duties of one card. A function of its arguments, time included."""

    def __init__(self, full_at_c: float) -> None:
        """From `full_at_c` on there is no limit."""
        self._full_at_c = full_at_c
        self._last_s = math.inf
        self._above_percent = 0.0
        """By how much the limit has risen, percent."""

    def highest_percent(self, duty_range: tuple[int, int], quiet: Quiet | None) -> int:
        """Return the highest duty that `quiet` allowed at the last reading, percent."""
        low, high = duty_range
        if quiet is None or quiet.max_duty_percent is None:
            return high
        return min(max(quiet.max_duty_percent, low) + math.ceil(self._above_percent), high)

    def limited(
        self,
        decision: Decision,
        now_s: float,
        temperature_c: float,
        duty_range: tuple[int, int],
        quiet: Quiet | None,
    ) -> Decision:
        """Return `decision` with the duty lowered to the limit of `quiet`, for a valid `temperature_c` at `now_s`.

        `duty_range` has the lowest and the highest duty of the card, percent.
        """
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        if quiet is None or quiet.max_duty_percent is None:
            self._above_percent = 0.0
            return decision
        low, high = duty_range
        limit_percent = min(max(quiet.max_duty_percent, low), high)
        over_k = temperature_c - (self._full_at_c - YIELD_K)
        above_percent = (high - limit_percent) * min(max(over_k / YIELD_K, 0.0), 1.0)
        self._above_percent = max(above_percent, self._above_percent - FALL_PERCENT_PER_S * max(elapsed_s, 0.0))
        wanted = decision.duty_percent
        if wanted is None or wanted <= limit_percent:
            return decision
        duty = min(wanted, self.highest_percent(duty_range, quiet))
        reason = decision.reason
        if reason.cause is Cause.NEAR_SLOWDOWN:
            reason = msgspec.structs.replace(reason, limit_percent=limit_percent, until=quiet.until)
        elif duty > limit_percent:
            reason = Reason(
                Cause.QUIET_HOURS_HOT, temperature_c=temperature_c, limit_percent=limit_percent, until=quiet.until
            )
        else:
            reason = Reason(Cause.QUIET_HOURS, limit_percent=limit_percent, needed_percent=wanted, until=quiet.until)
        return Decision(duty, reason)
