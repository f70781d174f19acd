"""Judges the readings of the temperature sensor: which to trust, and when a card counts as hot."""

import math
from collections import deque
from typing import NamedTuple

from gpufan.core.reasons import Cause, Reason

VALID_C = (1, 130)
"""A reading outside this range is absurd, °C."""

PATIENCE_TICKS = 3
"""Number of bad readings in a row that count as hot, and of good readings in a row that are trusted again."""

FROZEN_S = 60.0
FROZEN_POWER_W = 50.0
"""A sensor has stopped if its temperature stays the same for `FROZEN_S` while power changes by more than this, W."""

_BLOCK_S = 10.0
_BLOCK_SAMPLES = 4
"""Power is averaged over blocks of this duration and number of readings. A training load jumps by more than 50 W within
milliseconds around a steady mean, and then a constant reading in whole degrees is right."""

_JUMP_BLOCKS = 4
"""A change of power within this number of blocks is a jump, which no fans can balance. A slower change counts only
while the duty stays the same: a target holds the temperature by the duty."""

_SLOW_S = 180.0
"""A slower change counts only if the temperature stands still for this long. A heatsink needs minutes to follow, so the
temperature may stand still for up to two of them while a load rises and falls."""

_CERTAIN = 3.4
"""A change of power must be this many times its standard error. Some cards report the power of single moments, so the
means of two blocks differ by much although the power is steady."""

_ALTERNATES = 15.0
"""With few readings in a block, a load that comes and goes within half a minute scatters them as chance does. But then
the means of successive blocks differ by more, always. After `_SLOW_S`, the mean square of their differences may exceed
the square that is due to chance by at most this factor, divided by the root of the number of blocks."""

_THROTTLED_SHARE = 0.4
"""While heat lowers the clocks, the driver holds the temperature by the power. Then only a jump to less than this share
of the power counts. At its base clock, the lowest clock then, a card draws more; in a pause of its load, less."""

_GAP_S = 15.0
"""After a longer gap between readings (the machine slept) the count of still seconds starts again."""


class Doubt(NamedTuple):
    """A reading that cannot be trusted."""

    hot: bool
    """Whether the card counts as hot; if not, the last duty stays."""
    reason: Reason


class SensorGuard:
    """Judges the readings of one card in their order."""

    def __init__(self) -> None:
        self._bad_ticks = 0
        self._good_ticks = PATIENCE_TICKS
        self._last_s = math.nan
        self._temperature_c = math.nan
        self._still_s = 0.0
        self._power = _GuardedPower()

    def judge(
        self,
        now_s: float,
        temperature_c: float | None,
        power_w: float | None,
        duty_percent: int | None = None,
        *,
        throttled: bool = False,
    ) -> Doubt | None:
        """Return the doubt about the reading at `now_s`; None if it can be trusted.

        `temperature_c` is None if it could not be read. `duty_percent` is the duty until now; None if it is unknown.
        `throttled` is set if heat lowers the clocks.
        """
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        if not elapsed_s >= 0:
            elapsed_s = math.inf
        if temperature_c is None or not VALID_C[0] <= temperature_c <= VALID_C[1]:
            return self._bad(temperature_c)
        self._bad_ticks = 0
        self._good_ticks = min(self._good_ticks + 1, PATIENCE_TICKS)
        if self._good_ticks < PATIENCE_TICKS:
            return Doubt(True, Reason(Cause.RETURNING_TEMPERATURE, ticks=PATIENCE_TICKS))
        if temperature_c != self._temperature_c or elapsed_s > _GAP_S:
            self._temperature_c = temperature_c
            self._still_s = elapsed_s = 0.0
            self._power = _GuardedPower()
        self._still_s += elapsed_s
        self._power.add(elapsed_s, power_w, duty_percent, throttled, with_slow_changes=self._still_s >= _SLOW_S)
        if self._still_s < FROZEN_S or self._power.largest_w <= FROZEN_POWER_W or not self._power.is_certain:
            return None
        reason = Reason(
            Cause.FROZEN_TEMPERATURE,
            temperature_c=temperature_c,
            seconds=round(self._still_s),
            power_w=round(self._power.largest_w),
        )
        return Doubt(True, reason)

    def _bad(self, temperature_c: float | None) -> Doubt:
        """Count a missing or absurd reading, and return the doubt about it."""
        self._bad_ticks += 1
        if temperature_c is None or not math.isfinite(temperature_c):
            cause, temperature_c = Cause.NO_TEMPERATURE, None
        else:
            cause = Cause.ABSURD_TEMPERATURE
        if self._bad_ticks < PATIENCE_TICKS and self._good_ticks == PATIENCE_TICKS:
            return Doubt(False, Reason(cause, temperature_c, tick=self._bad_ticks, ticks=PATIENCE_TICKS))
        self._good_ticks = 0
        return Doubt(True, Reason(cause, temperature_c))


class _GuardedPower:
    """Finds the largest change of the power, averaged over blocks, that must have changed the temperature."""

    def __init__(self) -> None:
        self.largest_w = 0.0
        self._means_w: deque[float] = deque(maxlen=_JUMP_BLOCKS)
        self._error_w = 0.0
        """Standard error of the mean of the block whose power scattered most."""
        self._duty_percent: int | None = None
        self._low_w, self._high_w = math.inf, -math.inf
        """The lowest and the highest mean since the duty has changed."""
        self._differences = 0
        """Number of differences between the means of successive blocks."""
        self._differences_w2 = self._chance_w2 = 0.0
        """The sum of the squares of these differences, and the sum that is due to chance."""
        self._alternates = False
        """Whether the power has come and gone, beyond chance."""
        self._throttled = False
        """Whether heat has lowered the clocks at any time."""
        self._power_w = 0.0
        """The last reading."""
        self._start_block()

    def add(
        self,
        elapsed_s: float,
        power_w: float | None,
        duty_percent: int | None,
        throttled: bool,
        *,
        with_slow_changes: bool,
    ) -> None:
        """Add a reading of the power. Slow changes count only if `with_slow_changes` is set."""
        if duty_percent is None or duty_percent != self._duty_percent:
            self._duty_percent = duty_percent
            self._low_w, self._high_w = math.inf, -math.inf
        self._seconds += elapsed_s
        self._throttled = self._throttled or throttled
        if power_w is not None and math.isfinite(power_w):
            self._sum_w += power_w
            if self._samples:
                self._steps_w2 += (power_w - self._power_w) * (power_w - self._power_w)
            self._power_w = power_w
            self._samples += 1
        if self._samples >= _BLOCK_SAMPLES and self._seconds >= _BLOCK_S:
            mean_w = self._sum_w / self._samples
            # From the steps between readings, so that one jump within a block counts little.
            error_w2 = self._steps_w2 / (2 * (self._samples - 1)) / self._samples
            self._error_w = max(self._error_w, math.sqrt(error_w2))
            if self._means_w:
                self._differences += 1
                self._differences_w2 += (mean_w - self._means_w[-1]) * (mean_w - self._means_w[-1])
                self._chance_w2 += 2 * error_w2
            self._means_w.append(mean_w)
            self._low_w, self._high_w = min(self._low_w, mean_w), max(self._high_w, mean_w)
            self._count(min(self._means_w), max(self._means_w))
            if with_slow_changes:
                self._count(self._low_w, self._high_w)
                excess_w2 = self._differences_w2 - self._chance_w2
                self._alternates = self._alternates or (
                    excess_w2 > self._differences * FROZEN_POWER_W * FROZEN_POWER_W
                    and excess_w2 > _ALTERNATES * self._chance_w2 / math.sqrt(self._differences)
                )
            self._start_block()

    @property
    def is_certain(self) -> bool:
        """Whether the largest change of the power is not due to chance."""
        return self._alternates or self.largest_w > _CERTAIN * math.sqrt(2) * self._error_w

    def _count(self, low_w: float, high_w: float) -> None:
        """Count the change from `low_w` to `high_w`. While heat lowers the clocks, only a deep fall counts."""
        if not self._throttled or low_w < _THROTTLED_SHARE * high_w:
            self.largest_w = max(self.largest_w, high_w - low_w)

    def _start_block(self) -> None:
        """Begin a new block of readings of the power."""
        self._seconds = 0.0
        self._samples = 0
        self._sum_w = 0.0
        self._steps_w2 = 0.0
