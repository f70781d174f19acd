"""The curve law: duty rises with the temperature at once, and falls late, slowly and in steps."""

import math
from collections import deque
from collections.abc import Sequence

from gpufan.control.law import Decision
from gpufan.core.card_settings import CardSettings
from gpufan.core.reasons import Cause, Reason


class CurveLaw:
    """Follows the curve for one card. Implements `Law`.

    The curve is read at the held temperature: the highest of the last `hold_s` seconds. The held temperature falls only
    once that is lower by the hysteresis. So a load that pauses for less than `hold_s` does not move the fans.
    """

    learnt = None
    saturated = False

    def __init__(self, settings: CardSettings, limits: tuple[int, int], full_at_c: float) -> None:
        """`limits` are the lowest and the highest duty, percent. From `full_at_c` on the fans run at the highest."""
        self._settings = settings
        self._limits = limits
        self._full_at_c = full_at_c
        self._last_s = math.inf
        self._clock_s = 0.0
        self._held_c = -math.inf
        # Readings that may still become the highest of the last `hold_s`: (time, °C), falling: the first is highest.
        self._window: deque[tuple[float, float]] = deque()
        self._duty: int | None = None
        # The slew-limited level, percent. The duty follows it in steps.
        self._level = 0.0

    @property
    def local_demand_percent(self) -> int | None:
        """The last duty, percent; None while the driver controls the fans. A curve gives no help to neighbours."""
        return self._duty

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
        """Return the duty on the curve, and its reason. Only time and temperature count. See `Law.decide`."""
        elapsed_s = now_s - self._last_s
        self._last_s = now_s
        if not elapsed_s > 0:
            elapsed_s = 0.0
        self._clock_s += elapsed_s
        self._hold(temperature_c)

        target = self._target(self._held_c)
        lowest = self._limit(self._settings.curve.lowest_duty) if target is None else target
        if self._duty is not None:
            self._level = max(lowest, self._level - self._settings.slew_percent_per_s * elapsed_s)
        elif target is not None:
            self._level = target
        if target is None and (self._duty is None or self._level == lowest):
            self._duty = None
            return Decision(None, Reason(Cause.AUTO, limit_c=self._settings.curve.points[1][0]))

        duty = _curve_duty_rounded_up(self._level)
        # A raised minimum is followed however small the step.
        if (
            self._duty is None
            or self._duty < self._limits[0]
            or duty in self._limits
            or abs(duty - self._duty) >= self._settings.step_percent
        ):
            self._duty = duty
        return self._explain(self._duty, temperature_c, lowest)

    def follow(self, settings: CardSettings, limits: tuple[int, int]) -> None:
        """Switch to the new `settings` and `limits`, but keep the held temperature. See `Law.follow`."""
        self._settings = settings
        self._limits = limits

    def force(self, now_s: float, duty_percent: int) -> None:
        """Start the next fall from `duty_percent`. See `Law.force`."""
        self._last_s = now_s
        self._duty = duty_percent
        self._level = duty_percent

    def forget(self) -> None:
        """Forget the duty and the temperatures. See `Law.forget`."""
        self._duty = None
        self._held_c = -math.inf
        self._window.clear()

    def _hold(self, temperature_c: float) -> None:
        """Add a reading to the window of the last `hold_s` seconds, and update the held temperature."""
        window = self._window
        while window and window[-1][1] <= temperature_c:
            window.pop()
        window.append((self._clock_s, temperature_c))
        while len(window) > 1 and window[0][0] <= self._clock_s - self._settings.hold_s:
            window.popleft()
        highest_c = window[0][1]
        if highest_c > self._held_c or highest_c <= self._held_c - self._settings.hysteresis_c:
            self._held_c = highest_c

    def _target(self, temperature_c: float) -> float | None:
        """Return the duty on the curve at `temperature_c` within the limits, percent; None for auto."""
        if temperature_c >= self._full_at_c:
            return self._limits[1]
        duty = self._settings.curve.duty_at(temperature_c)
        return None if duty is None else self._limit(duty)

    def _limit(self, duty: float) -> float:
        """Return `duty`, raised or lowered to the limits, percent."""
        return min(max(duty, self._limits[0]), self._limits[1])

    def _explain(self, duty: int, temperature_c: float, lowest: float) -> Decision:
        """Return the decision for `duty` with its reason. `lowest` is the duty that the held temperature needs."""
        if temperature_c >= self._full_at_c:
            return Decision(duty, Reason(Cause.NEAR_SLOWDOWN, temperature_c=temperature_c))
        settings = self._settings
        on_curve = settings.curve.duty_at(temperature_c)
        percent = None if on_curve is None else _curve_duty_rounded_up(on_curve)
        if on_curve is not None and duty == _curve_duty_rounded_up(self._limit(on_curve)):
            if duty == percent:
                return Decision(duty, Reason(Cause.CURVE, curve_percent=percent))
            cause = Cause.CURVE_MINIMUM if duty > on_curve else Cause.CURVE_MAXIMUM
            return Decision(duty, Reason(cause, curve_percent=percent, limit_percent=duty))
        if self._level > lowest:
            return Decision(duty, Reason(Cause.SLOWING, curve_percent=percent))
        if temperature_c < self._held_c:
            if (cooler_c := self._held_c - settings.hysteresis_c) < temperature_c:
                missing_c = temperature_c - cooler_c
                return Decision(duty, Reason(Cause.HYSTERESIS, curve_percent=percent, difference_c=missing_c))
            return Decision(duty, Reason(Cause.COOLING, curve_percent=percent, seconds=settings.hold_s))
        return Decision(duty, Reason(Cause.SMALL_CHANGE, curve_percent=percent, change_percent=settings.step_percent))


def _curve_duty_rounded_up(duty: float) -> int:
    """Return a duty on the curve, rounded up to whole percent. Rounding errors of a float do not count."""
    return math.ceil(round(duty, 6))
