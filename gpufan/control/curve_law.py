"""The curve law: rises with the temperature at once, falls late, slowly and in steps that are worth hearing."""

import math
from collections import deque

from gpufan.control.law import Decision
from gpufan.core.card_settings import CardSettings

STALL_RANGE = (1, 29)
"""Duties in which some fans stand still or are harmed although the card accepts them, percent.

NVIDIA's own answer in open-gpu-kernel-modules#413; it concerns cards that report a minimum under 20 %.
"""


def duty_range(card_range: tuple[int, int], min_duty_percent: int | None) -> tuple[int, int]:
    """Lowest and highest duty to use on a card that reports `card_range`, all in percent.

    A set duty of 0 would stand still for ever if we died, so where the card would take it the floor is above the
    stall range all the same; only `min_duty_percent` can lower it.

    >>> duty_range((0, 100), None), duty_range((23, 100), None), duty_range((0, 100), 20), duty_range((30, 100), 20)
    ((30, 100), (23, 100), (20, 100), (30, 100))
    """
    low, high = card_range
    if min_duty_percent is None:
        return (min(STALL_RANGE[1] + 1, high) if low < 20 else low), high
    return min(max(low, min_duty_percent), high), high


class CurveLaw:
    """Follows the curve for one card.

    The curve is read at the held temperature: the highest of the last `hold_s` seconds, once that is lower than the
    one held so far by at least the hysteresis. Load that comes and goes faster than `hold_s` is therefore not heard.
    """

    def __init__(self, settings: CardSettings, limits: tuple[int, int], full_at_c: float) -> None:
        """`limits` are the lowest and highest duty in percent; from `full_at_c` on the curve is not asked."""
        self._settings = settings
        self._limits = limits
        self._full_at_c = full_at_c
        self._last_s = math.inf
        self._clock_s = 0.0
        self._held_c = -math.inf
        # What may still become the highest of the last `hold_s`: (time, °C), falling, so the first is the highest.
        self._window: deque[tuple[float, float]] = deque()
        self._duty: int | None = None
        # Where a slew-limited fall has come to, percent; the duty follows it in steps.
        self._level = 0.0

    def decide(self, now_s: float, temperature_c: float) -> Decision:
        """Duty for a valid `temperature_c` at `now_s`; time that seems to run backwards stands still."""
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
            return Decision(None, "auto", f"curve says auto below {self._settings.curve.points[1][0]:g} °C")

        duty = _up(self._level)
        # No step is too small for a minimum that was raised.
        if (
            self._duty is None
            or self._duty < self._limits[0]
            or duty in self._limits
            or abs(duty - self._duty) >= self._settings.step_percent
        ):
            self._duty = duty
        return self._explain(self._duty, temperature_c, lowest)

    def follow(self, settings: CardSettings, limits: tuple[int, int]) -> None:
        """Go by other settings from now on, starting from the duty and the temperature that are held."""
        self._settings = settings
        self._limits = limits

    def force(self, now_s: float, duty_percent: int) -> None:
        """Something above the law has set `duty_percent` at `now_s`: a fall starts from there and then."""
        self._last_s = now_s
        self._duty = duty_percent
        self._level = duty_percent

    def forget(self) -> None:
        """The fans are the driver's again: the next decision starts afresh."""
        self._duty = None
        self._held_c = -math.inf
        self._window.clear()

    def _hold(self, temperature_c: float) -> None:
        """Bring window and held temperature up to date."""
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
        """What the fans should come to at `temperature_c`, percent within the limits; None for auto."""
        if temperature_c >= self._full_at_c:
            return self._limits[1]
        duty = self._settings.curve.duty_at(temperature_c)
        return None if duty is None else self._limit(duty)

    def _limit(self, duty: float) -> float:
        return min(max(duty, self._limits[0]), self._limits[1])

    def _explain(self, duty: int, temperature_c: float, lowest: float) -> Decision:
        if temperature_c >= self._full_at_c:
            return Decision(duty, "full", f"{temperature_c:g} °C is too close to the card's slowdown threshold")
        on_curve = self._settings.curve.duty_at(temperature_c)
        says = "curve says auto" if on_curve is None else f"curve says {_up(on_curve)}"
        if on_curve is not None and duty == _up(self._limit(on_curve)):
            if duty == _up(on_curve):
                return Decision(duty, "curve", says)
            bound = "raised to the minimum" if duty > on_curve else "cut to the maximum"
            return Decision(duty, "limit", f"{says}, {bound} of {duty}")
        if self._level > lowest:
            return Decision(duty, "hold", f"{says}, slowing down gently")
        if temperature_c > self._held_c - self._settings.hysteresis_c and temperature_c < self._held_c:
            return Decision(duty, "hold", f"{says}, holding for hysteresis")
        if temperature_c < self._held_c:
            return Decision(duty, "hold", f"{says}, holding until it was cooler for {self._settings.hold_s:g} s")
        return Decision(duty, "hold", f"{says}, less than a step of {self._settings.step_percent} away")


def _up(duty: float) -> int:
    """Round up to whole percent, but not for the last bits of a float."""
    return math.ceil(round(duty, 6))
