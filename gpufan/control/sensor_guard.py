"""Doubt about the sensor: which readings to believe, how long to do without, and when to call it hot."""

import math
from typing import NamedTuple

VALID_C = (1, 130)
"""No die in use is colder or hotter than this, °C: a reading outside is absurd."""

PATIENCE_TICKS = 3
"""So many bad readings in a row count as hot, and so many good ones in a row are believed again."""

FROZEN_S = 60.0
"""A temperature that stays the same for so long, in s, ..."""

FROZEN_POWER_W = 50.0
"""... while power moves by more than this, in W, comes from a sensor that has stopped."""

_BLOCK_S = 10.0
_BLOCK_SAMPLES = 4
"""Power is averaged over blocks of so long and so many readings first: a training load jumps by more than 50 W within
milliseconds around a steady mean, and a settled card's whole-degree reading rightly stays where it is."""

_GAP_S = 15.0
"""Over a longer gap between readings (the machine slept) nothing is known, so stillness is counted anew."""


class Doubt(NamedTuple):
    """A reading that is not to be trusted."""

    hot: bool
    """Whether to count it as hot; if not, what was decided last stays."""
    reason: str
    """In words, to be followed by what is done about it."""


class SensorGuard:
    """Judges the readings of one card, one after the other."""

    def __init__(self) -> None:
        self._bad_ticks = 0
        self._good_ticks = PATIENCE_TICKS
        self._last_s = math.nan
        self._temperature_c = math.nan
        self._still_s = 0.0
        self._power = _PowerRange()

    def judge(self, now_s: float, temperature_c: float | None, power_w: float | None) -> Doubt | None:
        """None if the reading at `now_s` can be trusted; else what is wrong with it. None stands for a failed read."""
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        if not elapsed_s >= 0:
            elapsed_s = math.inf
        if temperature_c is None or not VALID_C[0] <= temperature_c <= VALID_C[1]:
            return self._bad(temperature_c)
        self._bad_ticks = 0
        self._good_ticks = min(self._good_ticks + 1, PATIENCE_TICKS)
        if self._good_ticks < PATIENCE_TICKS:
            return Doubt(True, f"temperature is back, to be trusted after {PATIENCE_TICKS} readings")
        if temperature_c != self._temperature_c or elapsed_s > _GAP_S:
            self._temperature_c = temperature_c
            self._still_s = elapsed_s = 0.0
            self._power = _PowerRange()
        self._still_s += elapsed_s
        self._power.add(elapsed_s, power_w)
        if self._still_s < FROZEN_S or self._power.width_w <= FROZEN_POWER_W:
            return None
        return Doubt(
            True,
            f"temperature stuck at {temperature_c:g} °C for {self._still_s:.0f} s"
            f" while power moved by {self._power.width_w:.0f} W",
        )

    def _bad(self, temperature_c: float | None) -> Doubt:
        self._bad_ticks += 1
        what = "no temperature" if temperature_c is None else f"absurd temperature of {temperature_c:g} °C"
        if self._bad_ticks < PATIENCE_TICKS and self._good_ticks == PATIENCE_TICKS:
            return Doubt(False, f"{what} ({self._bad_ticks} of {PATIENCE_TICKS})")
        self._good_ticks = 0
        return Doubt(True, what)


class _PowerRange:
    """How far the power has moved, block by block."""

    def __init__(self) -> None:
        self._low_w = math.inf
        self._high_w = -math.inf
        self._start_block()

    @property
    def width_w(self) -> float:
        return self._high_w - self._low_w

    def add(self, elapsed_s: float, power_w: float | None) -> None:
        self._seconds += elapsed_s
        if power_w is not None and math.isfinite(power_w):
            self._sum_w += power_w
            self._samples += 1
        if self._samples >= _BLOCK_SAMPLES and self._seconds >= _BLOCK_S:
            mean_w = self._sum_w / self._samples
            self._low_w = min(self._low_w, mean_w)
            self._high_w = max(self._high_w, mean_w)
            self._start_block()

    def _start_block(self) -> None:
        self._seconds = 0.0
        self._samples = 0
        self._sum_w = 0.0
