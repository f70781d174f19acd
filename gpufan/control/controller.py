"""The decisions for one card: first the sensor guard, then the law, then the limit of quiet hours."""

from collections.abc import Sequence

import msgspec

from gpufan.control.curve_law import CurveLaw
from gpufan.control.follow_law import FollowLaw
from gpufan.control.law import Decision, Law, Learnt, duty_range
from gpufan.control.quiet_limit import YIELD_K, QuietLimit
from gpufan.control.sensor_guard import SensorGuard
from gpufan.core.card_settings import CardSettings
from gpufan.core.reasons import Cause, Group
from gpufan.core.thermal import full_speed_from_c

_CLOCKS_ABOVE_TARGET_K, _CLOCKS_BELOW_CURVE_K = 1.0, 4.0
"""Clocks give way this far above the target, which fans hold before; or this far below the curve's highest duty."""

_STEADY = {Cause.CURVE, Cause.CURVE_MINIMUM, Cause.CURVE_MAXIMUM, Cause.SMALL_CHANGE, Cause.HYSTERESIS, Cause.AUTO}
"""Under a curve, a duty with one of these causes does not change as long as the temperature does not."""


class Controller:
    """Decides for one card, tick by tick. A function of its arguments, time included."""

    def __init__(
        self,
        settings: CardSettings,
        card_range: tuple[int, int],
        slowdown_c: float | None,
        learnt: Learnt | None = None,
        power_limit_w: float | None = None,
    ) -> None:
        """`card_range`: lowest and highest duty that the card accepts, percent. `slowdown_c`: its threshold, °C.

        `learnt` is what an earlier run learnt of this card. `power_limit_w` is the most that it draws, if known.
        """
        self._full_at_c = full_speed_from_c(slowdown_c)
        self._card_range = card_range
        self._guard = SensorGuard()
        self._quiet_limit = QuietLimit(self._full_at_c)
        self._learnt = learnt
        self._power_limit_w = power_limit_w
        self._settings = settings
        self._law = self._law_for(settings)
        self._last: Decision | None = None
        self._last_s = 0.0

    @property
    def learnt(self) -> Learnt | None:
        """The learnt model of the card; None if no target was ever held."""
        return self._law.learnt or self._learnt

    @property
    def local_demand_percent(self) -> int | None:
        """The last duty that this card needed for its own heat, percent; None while the driver controls the fans.

        The help for neighbours does not count. Else two cards that name each other would stay loud for ever.
        """
        if self._last is None:
            return None
        if self._last.reason.cause.group is Group.FAIL_SAFE:
            return self._last.duty_percent
        demand_percent = self._law.local_demand_percent
        return None if demand_percent is None else min(demand_percent, self._highest_percent)

    @property
    def fans_at_limit(self) -> bool:
        """Whether the duty is the highest that quiet hours, the curve and the card allow."""
        if self._last is None or self._last.duty_percent is None:
            return False
        highest_percent = float(self._highest_percent)
        if self._settings.target_c is None:
            highest_percent = min(highest_percent, self._settings.curve.highest_duty)
        return self._last.duty_percent >= highest_percent

    @property
    def clocks_aim_c(self) -> float:
        """The temperature that lower clocks hold when the fans may not go higher, °C."""
        highest_c = self._full_at_c - YIELD_K - 1
        if self._settings.target_c is not None:
            return min(self._settings.target_c + _CLOCKS_ABOVE_TARGET_K, highest_c)
        curve = self._settings.curve
        if curve.lowest_duty == curve.highest_duty:
            return highest_c
        top_c = next(point_c for point_c, duty in curve.points if duty == curve.highest_duty)
        return min(top_c, highest_c + 1) - _CLOCKS_BELOW_CURVE_K

    @property
    def in_doubt(self) -> bool:
        """Whether the temperature was in doubt at the last reading."""
        return self._last is not None and self._last.reason.cause.group is Group.FAIL_SAFE

    @property
    def saturated(self) -> bool:
        """Whether the card stays too hot at full fan speed, so that only the fans of other cards can help."""
        return self._law.saturated

    @property
    def steady(self) -> bool:
        """Whether the same temperature gives the same decision again, whatever the time."""
        return self._settings.target_c is None and self._last is not None and self._last.reason.cause in _STEADY

    def decide(
        self,
        now_s: float,
        temperature_c: float | None,
        power_w: float | None,
        speed_percent: float | None = None,
        neighbours_percent: Sequence[int] = (),
        *,
        throttled: bool = False,
        power_is_steered: bool = False,
    ) -> Decision:
        """Return the decision on a reading at `now_s`. None stands for a value that could not be read.

        `neighbours_percent` are the local demands of the cards that this card warms. `throttled` is set if the card
        lowers its clocks for heat. `power_is_steered` is set if its clocks give way, see `give_way.py`.
        """
        self._last_s = now_s
        duty_percent = None if self._last is None else self._last.duty_percent
        is_steered = throttled or power_is_steered
        doubt = self._guard.judge(now_s, temperature_c, power_w, duty_percent, throttled=is_steered)
        if doubt is None:
            assert temperature_c is not None  # else the guard had doubted it
            if speed_percent is None and self._last is not None:
                speed_percent = self._last.duty_percent  # in quiet hours it may be lower than the law knows
            decision = self._law.decide(
                now_s, temperature_c, power_w, speed_percent, neighbours_percent, throttled=throttled
            )
            decision = self._quiet_limit.limited(decision, now_s, temperature_c, self._limits, self._settings.quiet)
        elif doubt.hot or self._last is None:
            full_percent = self._limits[1]
            self._law.force(now_s, full_percent)
            decision = Decision(full_percent, msgspec.structs.replace(doubt.reason, tick=None))
        else:
            decision = Decision(self._last.duty_percent, doubt.reason)
        self._last = decision
        return decision

    def trusts(self, now_s: float, temperature_c: float | None, power_w: float | None, *, is_steered: bool) -> bool:
        """Whether the sensor guard trusts a reading at `now_s` for which no decision is made.

        `is_steered` is set if the card lowers its clocks for heat, or if they give way, see `give_way.py`.
        """
        duty_percent = None if self._last is None else self._last.duty_percent
        return self._guard.judge(now_s, temperature_c, power_w, duty_percent, throttled=is_steered) is None

    def follow(self, settings: CardSettings) -> None:
        """Use other settings from now on. A rise is made at once, a fall starts from the present duty.

        The memory of the sensor guard stays.
        """
        same_law = _kind_of_law(self._settings) == _kind_of_law(settings)
        self._settings = settings
        if same_law:
            self._law.follow(settings, self._limits)
            return
        self._learnt = self.learnt
        self._law = self._law_for(settings)
        if self._last is not None and self._last.duty_percent is not None:
            self._law.force(self._last_s, self._last.duty_percent)

    def forget(self) -> None:
        """Make the next decision as if it were the first, since the driver has controlled the fans meanwhile."""
        self._law.forget()
        self._last = None

    @property
    def _limits(self) -> tuple[int, int]:
        """The lowest and the highest duty to use, percent, without quiet hours."""
        return duty_range(self._card_range, self._settings.min_duty_percent)

    @property
    def _highest_percent(self) -> int:
        """The highest duty allowed at the last reading, percent. In quiet hours this is their limit."""
        return self._quiet_limit.highest_percent(self._limits, self._settings.quiet)

    def _law_for(self, settings: CardSettings) -> Law:
        """Return a new law for `settings`: it follows demands with `by_demand`, else the target, else the curve."""
        if settings.by_demand:
            return FollowLaw(settings, self._limits, self._full_at_c)
        if settings.target_c is None:
            return CurveLaw(settings, self._limits, self._full_at_c)
        from gpufan.control.target_law import TargetLaw  # loaded only for a target

        return TargetLaw(settings, self._limits, self._full_at_c, self._learnt, self._power_limit_w)


def _kind_of_law(settings: CardSettings) -> tuple[bool, bool]:
    """Return two values that are the same for all settings with the same law."""
    return settings.by_demand, settings.target_c is None
