"""What a simulated run came to: how hot, how loud, how restless, and what throttling cost."""

import math

from gpufan.core.thermal import SOUND_EXPONENT, mean_sound_db
from gpufan.gpu.simulated import SimulatedGpu

HOT_C = 83.0
"""Just under the temperature at which a GTX 1080 Ti drops its clocks."""

SWING_PERCENT = 5
"""Smallest rise or fall of the duty between turning points that counts as a swing."""


class Swings:
    """Counts rises and falls of at least `SWING_PERCENT` points between turning points, as they come.

    >>> swings = Swings()
    >>> for duty in (30, 60, 58, 61, 30, 30, 34):
    ...     swings.add(duty)
    >>> swings.count, swings.variation
    (2, 70.0)
    """

    def __init__(self) -> None:
        self.count = 0
        self.variation = 0.0
        """Sum of all changes of duty, points."""
        self._last: float | None = None
        self._direction = 0
        self._low = math.inf
        self._high = -math.inf

    def add(self, duty_percent: float) -> None:
        """Take the next duty."""
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
        self.count += 1
        self._direction = direction
        self._low = self._high = duty_percent


class CardSummary:
    """One simulated card's run, second by second."""

    def __init__(self, gpu: SimulatedGpu) -> None:
        self._gpu = gpu
        self._seconds = 0.0
        self._rpm5 = 0.0
        self._wanted = 0.0
        self._lost = 0.0
        self.peak_c = -math.inf
        self.hot_s = 0.0
        """Seconds above `HOT_C`."""
        self.swings = Swings()

    def add(self, seconds: float) -> None:
        """Take the card as it is for `seconds`."""
        gpu = self._gpu
        self._seconds += seconds
        self.peak_c = max(self.peak_c, gpu.die_c)
        self.hot_s += seconds * (gpu.die_c > HOT_C)
        self._rpm5 += seconds * gpu.speed_rpm**SOUND_EXPONENT
        self._lost += seconds * (1 - gpu.clock)
        self.swings.add(gpu.speed_percent if gpu.manual_percent is None else gpu.manual_percent)

    @property
    def sound_db(self) -> float:
        """Energy mean of the sound over time, dB(A)."""
        return mean_sound_db(self._rpm5 / self._seconds) if self._seconds else 0.0

    @property
    def throttled_percent(self) -> float:
        """Throughput lost to dropped clocks, percent."""
        return 100 * self._lost / self._seconds if self._seconds else 0.0
