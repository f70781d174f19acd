"""Totals of one card over a run: temperature, sound, changes of the duty, and lost throughput."""

import math

from gpufan.core.thermal import SOUND_EXPONENT, mean_sound_db
from gpufan.gpu.simulated import SimulatedGpu

HOT_C = 83.0
"""Just below the temperature at which a GTX 1080 Ti lowers its clock, °C."""

SWING_PERCENT = 5
"""A smaller change of the duty between turning points is not a swing, points."""


class Swings:
    """Counts swings: rises and falls of the duty by at least `SWING_PERCENT` points between turning points.

    >>> swings = Swings()
    >>> for duty in (30, 60, 58, 61, 30, 30, 34):
    ...     swings.add(duty)
    >>> swings.count, swings.variation
    (2, 70.0)
    """

    def __init__(self) -> None:
        self.count = 0
        self.variation = 0.0
        """Sum of all changes of the duty, points."""
        self._last: float | None = None
        self._direction = 0
        # The range of the duty since the last turning point.
        self._low = math.inf
        self._high = -math.inf

    def add(self, duty_percent: float) -> None:
        """Add the next duty, percent."""
        if self._last is not None:
            self.variation += abs(duty_percent - self._last)
        self._last = duty_percent
        self._low = min(self._low, duty_percent)
        self._high = max(self._high, duty_percent)
        if self._direction <= 0 and duty_percent >= self._low + SWING_PERCENT:
            self._turn(1, duty_percent)
        elif self._direction >= 0 and duty_percent <= self._high - SWING_PERCENT:
            self._turn(-1, duty_percent)

    def _turn(self, direction: int, duty_percent: float) -> None:
        """Count a swing: from now on the duty rises (`direction` 1) or falls (-1)."""
        self.count += 1
        self._direction = direction
        self._low = self._high = duty_percent


class Summary:
    """Totals of one card."""

    def __init__(self) -> None:
        self.peak_c = -math.inf
        self.hot_s = 0.0
        """Time above `HOT_C`, s."""
        self.swings = Swings()
        self._seconds = 0.0
        self._sound_energy = 0.0
        self._lost_s = 0.0

    def add_reading(
        self, seconds: float, temperature_c: float, speed_rpm: float, duty_percent: float, clock: float = 1.0
    ) -> None:
        """Add a reading that is valid for `seconds`. `clock` is the present clock as a share of the full clock."""
        self._seconds += seconds
        self.peak_c = max(self.peak_c, temperature_c)
        self.hot_s += seconds * (temperature_c > HOT_C)
        self._sound_energy += seconds * speed_rpm**SOUND_EXPONENT
        self._lost_s += seconds * (1 - clock)
        self.swings.add(duty_percent)

    @property
    def sound_db(self) -> float:
        """Energy mean of the sound over time, dB(A)."""
        return mean_sound_db(self._sound_energy / self._seconds) if self._seconds else 0.0

    @property
    def throttled_percent(self) -> float:
        """Throughput lost because the clock was lowered, percent."""
        return 100 * self._lost_s / self._seconds if self._seconds else 0.0


class CardSummary(Summary):
    """Totals of one simulated card."""

    def __init__(self, gpu: SimulatedGpu) -> None:
        super().__init__()
        self._gpu = gpu

    def add(self, seconds: float) -> None:
        """Add the present state of the card, which is valid for `seconds`."""
        gpu = self._gpu
        duty_percent = gpu.speed_percent if gpu.manual_percent is None else gpu.manual_percent
        self.add_reading(seconds, gpu.die_c, gpu.speed_rpm, duty_percent, gpu.throughput)
