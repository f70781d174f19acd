"""The law of a case fan without a curve: its duty is the highest that a followed card needs."""

import math
from collections.abc import Sequence

from gpufan.control.law import Decision
from gpufan.core.card_settings import CardSettings
from gpufan.core.reasons import Cause, Reason


class FollowLaw:
    """Follows the demands of cards. Implements `Law`. The duty rises at once, and falls slowly and in steps."""

    learnt = None
    saturated = False

    def __init__(self, settings: CardSettings, limits: tuple[int, int], full_at_c: float) -> None:
        """`limits` are the lowest and the highest duty, percent. From `full_at_c` on the fan runs at the highest."""
        self._settings = settings
        self._limits = limits
        self._full_at_c = full_at_c
        self._last_s = math.inf
        self._level: float | None = None
        """The duty before it is rounded, percent; None before the first decision."""
        self._duty = limits[0]

    @property
    def local_demand_percent(self) -> int | None:
        """None, since a case fan has no heat of its own."""
        return None

    def decide(
        self,
        now_s: float,
        temperature_c: float,
        power_w: float | None = None,
        speed_percent: float | None = None,
        neighbours_percent: Sequence[int] = (),
        *,
        throttled: bool = False,
    ) -> Decision:
        """Return the duty for the demands `neighbours_percent`. See `Law.decide`."""
        elapsed_s, self._last_s = max(now_s - self._last_s, 0.0), now_s
        low, high = self._limits
        needed = max(neighbours_percent, default=0)
        wanted = float(high if temperature_c >= self._full_at_c else min(max(needed, low), high))
        fall = self._settings.slew_percent_per_s * elapsed_s
        self._level = wanted if self._level is None else max(wanted, self._level - fall)
        rounded = math.ceil(round(self._level, 6))
        fallen = self._duty - rounded
        if fallen < 0 or fallen >= self._settings.step_percent or rounded == low:
            self._duty = rounded
        if temperature_c >= self._full_at_c:
            return Decision(self._duty, Reason(Cause.NEAR_SLOWDOWN, temperature_c=temperature_c))
        return Decision(self._duty, Reason(Cause.FOLLOWS, needed_percent=float(needed)))

    def follow(self, settings: CardSettings, limits: tuple[int, int]) -> None:
        """Use other settings from now on. See `Law.follow`."""
        self._settings, self._limits = settings, limits

    def force(self, now_s: float, duty_percent: int) -> None:
        """Start the next fall from `duty_percent`. See `Law.force`."""
        self._last_s, self._level, self._duty = now_s, duty_percent, duty_percent

    def forget(self) -> None:
        """Forget the duty. See `Law.forget`."""
        self._level = None
