"""Estimates how much more power one card would draw without the limits of gpufan. The time is an argument."""

import math

from gpufan.core.gpu import Reading
from gpufan.core.thermal import approach, remaining_share

_POWER_S = 10.0
"""Time constant of the filter of the power, s."""

_NEAR_W, _NEAR_K = 5.0, 1.0
"""A card counts as slowed by a limit if its power or temperature is at most this far below the limit, W or K."""

_GAP_S = 15.0


class HeldBack:
    """Estimates the power that limits hold back, W. It is the highest power seen without limits minus the power now."""

    def __init__(self) -> None:
        self.now_w = 0.0
        self.total_j = 0.0
        """Energy held back since the start, J."""
        self._last_s = math.inf
        self._power_w = self._free_w = 0.0
        """The power now, and the highest power seen without limits, W. Both are filtered."""

    def add(
        self, now_s: float, reading: Reading, limit_w: float | None, before_w: float, limit_c: float | None
    ) -> None:
        """Add a reading that was made at `now_s`.

        `limit_w` and `limit_c` are the power limit and the temperature limit that gpufan has set. A limit that gpufan
        has not set is None. `before_w` is the power limit that the card had before gpufan.
        """
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        if reading.power_w is None or not 0 <= elapsed_s <= _GAP_S:
            self._power_w, self.now_w = reading.power_w or 0.0, 0.0
            return
        self._power_w = approach(self._power_w, reading.power_w, remaining_share(elapsed_s, _POWER_S))
        if limit_w is None and limit_c is None:
            self._free_w = max(self._free_w, self._power_w)
        is_at_limit_w = limit_w is not None and self._power_w > limit_w - _NEAR_W
        is_at_limit_c = limit_c is not None and (reading.temperature_c or 0.0) >= limit_c - _NEAR_K
        free_w = self._free_w
        if is_at_limit_w and limit_w is not None:  # a card at its limit asks for more
            free_w = min(free_w, before_w) if free_w > limit_w else before_w
        self.now_w = max(free_w - self._power_w, 0.0) if is_at_limit_w or is_at_limit_c else 0.0
        self.total_j += self.now_w * elapsed_s
