"""The reference: the law that a good engineer writes in an afternoon, to be beaten or to be used.

    ln(duty) = learnt + GAIN * ln(held power / power limit) + PROPORTIONAL * (temperature - target)

Temperature and power are filtered. The power is the highest of the last `HOLD_S`, so that a pause does not move the
fans. `learnt` is the integral of the temperature's error. Without a power reading the middle term is 0.

Its constants were tuned once, on every fourth plant of the family *other* (first half of the seeds, 78 °C), by random
search. They are frozen: a reference that follows the law it is compared with measures nothing.
"""

import math
from collections import deque
from typing import NamedTuple


class Constants(NamedTuple):
    """The constants of the reference."""

    gain: float = 2.7
    """Exponent of the duty over power."""
    proportional: float = 0.125
    """Logarithm of the duty per K."""
    integral_s: float = 100.0
    temperature_filter_s: float = 5.0
    power_filter_s: float = 24.0
    hold_s: float = 100.0
    brake_from_k: float = 0.7
    """Above the target by this, the brake begins, ..."""
    brake_width_k: float = 3.7
    """... and after this much more it is at full speed."""
    fall_percent_per_s: float = 0.045
    step_percent: float = 4.0
    """A smaller fall is not made."""
    resting: float = 0.05
    """While the held power is above the present one by more than this, as a logarithm of the duty, nothing is learnt
    from a card that is cooler than the target."""
    least_error_k: float = -8.0
    """The card counts as at most this much cooler than the target."""


CONSTANTS = Constants()


class Reference:
    """PI with feed-forward of power, for one card."""

    def __init__(
        self, target_c: float, limits: tuple[int, int], power_limit_w: float, constants: Constants = CONSTANTS
    ) -> None:
        self._target_c, self._limits, self._power_limit_w = target_c, limits, power_limit_w
        self._constants = constants
        self._learnt = math.log(60)
        self._filtered_c = self._filtered_w = math.nan
        # Powers that may still become the highest: (time, logarithm), falling.
        self._peaks: deque[tuple[float, float]] = deque()
        self._last_s = 0.0
        self._level = 0.0
        self._duty = 0

    def decide(self, now_s: float, temperature_c: float, power_w: float | None) -> int:
        """The duty in percent; `now_s` rises by a second or so from call to call."""
        constants = self._constants
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        low, high = self._limits
        if math.isnan(self._filtered_c):
            self._filtered_c, self._filtered_w = temperature_c, power_w or 0.0
        self._filtered_c += (temperature_c - self._filtered_c) * min(elapsed_s / constants.temperature_filter_s, 1)
        error_k = self._filtered_c - self._target_c
        forward = resting = 0.0
        if power_w is not None:
            self._filtered_w += (power_w - self._filtered_w) * min(elapsed_s / constants.power_filter_s, 1)
            now = math.log(max(self._filtered_w / self._power_limit_w, 0.05))
            forward = constants.gain * self._held(now_s, now)
            resting = forward - constants.gain * now
        error_k = max(error_k, constants.least_error_k)
        demand = self._learnt + forward + constants.proportional * error_k
        duty = math.exp(min(demand, 5.0))
        if low < duty < high and (error_k > 0 or resting < constants.resting):
            self._learnt += constants.proportional * error_k * elapsed_s / constants.integral_s
        brake = low + (high - low) * (error_k - constants.brake_from_k) / constants.brake_width_k
        duty = min(max(duty, brake, low), high)
        self._level = max(duty, self._level - constants.fall_percent_per_s * elapsed_s)
        if self._level > self._duty or self._level <= max(self._duty - constants.step_percent, low):
            self._duty = math.ceil(self._level)
        return self._duty

    def _held(self, now_s: float, power: float) -> float:
        """The highest logarithm of power within the hold."""
        peaks = self._peaks
        while peaks and peaks[-1][1] <= power:
            peaks.pop()
        peaks.append((now_s, power))
        while peaks[0][0] < now_s - self._constants.hold_s:
            peaks.popleft()
        return peaks[0][1]
