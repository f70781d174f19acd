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

_POWER_TIME_CONSTANT_S = 5.0
"""Power is smoothed first: a training load jumps by more than 50 W within milliseconds around a steady mean, and a
settled card's whole-degree reading rightly stays where it is."""

_GAP_S = 15.0
"""Over a longer gap between readings (the machine slept) nothing is known, so stillness is counted anew."""


class Doubt(NamedTuple):
    """A reading that is not to be trusted."""

    hot: bool
    """Whether to count it as hot; if not, what was decided last stays."""
    reason: str


class SensorGuard:
    """Judges the readings of one card, one after the other."""

    def __init__(self) -> None:
        self._bad_ticks = 0
        self._good_ticks = PATIENCE_TICKS
        self._last_s = math.nan
        self._temperature_c = math.nan
        self._still_s = 0.0
        self._power_w: float | None = None
        self._power_range_w = (math.inf, -math.inf)

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
            return Doubt(True, f"temperature is back, trusted after {PATIENCE_TICKS} readings: full speed")
        if self._frozen(elapsed_s, temperature_c, power_w):
            low, high = self._power_range_w
            return Doubt(
                True,
                f"temperature stuck at {temperature_c:g} °C for {self._still_s:.0f} s"
                f" while power moved by {high - low:.0f} W: full speed",
            )
        return None

    def _bad(self, temperature_c: float | None) -> Doubt:
        self._bad_ticks += 1
        what = "no temperature" if temperature_c is None else f"absurd temperature of {temperature_c:g} °C"
        if self._bad_ticks < PATIENCE_TICKS and self._good_ticks == PATIENCE_TICKS:
            return Doubt(False, f"{what}, holding ({self._bad_ticks} of {PATIENCE_TICKS})")
        self._good_ticks = 0
        return Doubt(True, f"{what}: full speed")

    def _frozen(self, elapsed_s: float, temperature_c: float, power_w: float | None) -> bool:
        if temperature_c != self._temperature_c or elapsed_s > _GAP_S:
            self._temperature_c = temperature_c
            self._still_s = 0.0
            self._power_w = power_w
            self._power_range_w = (math.inf, -math.inf)
        else:
            self._still_s += elapsed_s
        if power_w is not None and math.isfinite(power_w):
            before_w = power_w if self._power_w is None else self._power_w
            self._power_w = power_w + (before_w - power_w) * math.exp(-elapsed_s / _POWER_TIME_CONSTANT_S)
            low, high = self._power_range_w
            self._power_range_w = (min(low, self._power_w), max(high, self._power_w))
        low, high = self._power_range_w
        return self._still_s >= FROZEN_S and high - low > FROZEN_POWER_W
