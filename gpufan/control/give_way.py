"""Chooses limits for a card whose fans may not go higher, so that its clocks give way to hold a temperature. Pure.

A card that accepts a temperature limit gets the aim as its limit, and its driver does the rest. Any other card, and one
that does not follow that limit, gets a power limit:

    fall of the limit in W per second = GAIN * (temperature + LOOK_AHEAD_S * its slope - aim)

in steps of 5 W, while the fans are at their limit. The look-ahead makes it a PI controller. The limit rises by 5 W when
there is room; a rise that was too much is not repeated soon.
"""

import math

from gpufan.core.gpu import Limits
from gpufan.core.thermal import approach, remaining_share

STEP_W = 5.0
"""Size of a change, W."""

LOOK_AHEAD_S = 60.0
"""A heatsink follows the power with a time constant of one to five minutes."""

GAIN_W_PER_K_S = 0.3
"""Found by trials on heatsinks of 300 to 1500 J/K and 0.25 to 0.36 K/W; with 0.45 the limit swings."""

FASTEST_FALL_K = 20.0
"""At most this difference from the aim counts."""

RISE_EVERY_S = 30.0
"""Shortest time between two rises: the slope must follow first."""

ROOM_K, MUCH_ROOM_K = 0.7, 3.0
"""The limit rises from this far below the aim on. With much room it need not wait."""

FIRST_WAIT_S, LONGEST_WAIT_S = 60.0, 1800.0
"""After a fall the limit does not rise for this time; it doubles each time that a rise was too much."""

TOO_MUCH_S = 900.0
"""A rise was too much if the limit falls again within this time."""

PAUSE_S = 300.0
"""A load that is below the limit for this long has ended. Until then the limit waits for it."""

TEMPERATURE_PAUSE_S = 60.0
"""A temperature limit ends when the fans have had room for this long."""

IGNORED_K, IGNORED_S = 2.0, 60.0
"""A card that is by more than this above its temperature limit for this long does not follow it."""

_FAST_S, _SLOW_S = 4.0, 30.0
"""Time constants of two filters of the temperature, whose difference gives its slope, s."""

_POWER_S = 10.0
"""Time constant of the filter of the power, s."""

_GAP_S = 15.0
"""After a longer time without a reading nothing is known of the slope."""


class GiveWay:
    """Chooses the limits of one card. A function of its arguments, time included."""

    def __init__(self) -> None:
        self.limit_w: float | None = None
        """The power limit, W; None while the power need not give way."""
        self.limit_c: float | None = None
        """The temperature limit, °C; None while there is none."""
        self.by_temperature = True
        """Whether to try a temperature limit: false after the card has refused or ignored one."""
        self._needed_s = self._cool_s = -math.inf
        """When the fans were last at their limit, and when the card last followed its temperature limit."""
        self._last_s = -math.inf
        self._fast_c = self._slow_c = self._power_w = 0.0
        self._change_w = 0.0
        """The part of the next fall that is due, W."""
        self._limited_s = self._fell_s = self._rose_s = -math.inf
        """When the power was last at the limit, and when the limit last fell and rose."""
        self._wait_s = FIRST_WAIT_S

    def decide(
        self,
        now_s: float,
        temperature_c: float,
        power_w: float,
        aim_c: float,
        range_w: tuple[float, float] | None,
        range_c: tuple[int, int] | None,
        *,
        fans_at_limit: bool,
    ) -> Limits:
        """Return the limits at `now_s`. None stands for the limit that the card has without giving way.

        `range_w` and `range_c` are the lowest and the highest limit to choose; None if the card accepts none. The
        highest of `range_w` is the limit without giving way.
        """
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        if not 0 <= elapsed_s <= _GAP_S:
            self._fast_c = self._slow_c = temperature_c
            self._power_w = power_w
            elapsed_s = 0.0
        self._fast_c = approach(self._fast_c, temperature_c, remaining_share(elapsed_s, _FAST_S))
        self._slow_c = approach(self._slow_c, temperature_c, remaining_share(elapsed_s, _SLOW_S))
        self._power_w = approach(self._power_w, power_w, remaining_share(elapsed_s, _POWER_S))
        if self.limit_w is not None and self._power_w > self.limit_w - STEP_W:
            self._limited_s = now_s
        over_k = self._fast_c + LOOK_AHEAD_S * (self._fast_c - self._slow_c) / (_SLOW_S - _FAST_S) - aim_c
        if self.limit_w is not None and range_w is not None and self.limit_w >= range_w[1]:
            self.limit_w = None
        self._choose_temperature(now_s, over_k, aim_c, range_c, fans_at_limit)
        if self.limit_c is not None or range_w is None:
            self._change_w = 0.0
        elif over_k > 0 and fans_at_limit:
            self._fall(now_s, min(over_k, FASTEST_FALL_K) * elapsed_s, range_w)
        else:
            self._change_w = 0.0
            if self.limit_w is not None and now_s - self._limited_s >= PAUSE_S:
                self.limit_w = None
            elif self.limit_w is not None and self._may_rise(now_s, max(over_k, self._fast_c - aim_c)):
                self.limit_w = self.limit_w + STEP_W if self.limit_w + STEP_W < range_w[1] else None
                self._rose_s = now_s
        return Limits(self.limit_w, self.limit_c)

    def _choose_temperature(
        self, now_s: float, over_k: float, aim_c: float, range_c: tuple[int, int] | None, fans_at_limit: bool
    ) -> None:
        """Set or end the temperature limit `limit_c`, or give it up if the card does not follow it."""
        if range_c is None or not self.by_temperature:
            self.limit_c = None
            return
        if fans_at_limit:
            self._needed_s = now_s
        if over_k <= IGNORED_K or self.limit_c is None:
            self._cool_s = now_s
        if now_s - self._cool_s >= IGNORED_S:
            self.by_temperature, self.limit_c = False, None
        elif (over_k > 0 and fans_at_limit) or self.limit_c is not None:
            is_needed = now_s - self._needed_s < TEMPERATURE_PAUSE_S
            self.limit_c = float(min(max(math.floor(aim_c), range_c[0]), range_c[1])) if is_needed else None

    def _fall(self, now_s: float, error_ks: float, range_w: tuple[float, float]) -> None:
        """Lower the power limit in steps of 5 W. `error_ks` is the excess temperature times the time, K s."""
        self._change_w += GAIN_W_PER_K_S * error_ks
        steps_w = math.floor(self._change_w / STEP_W) * STEP_W
        if not steps_w:
            return
        self._change_w -= steps_w
        # A limit above the power has no effect.
        limit_w = min(range_w[1] if self.limit_w is None else self.limit_w, math.ceil(self._power_w / STEP_W) * STEP_W)
        self.limit_w = max(limit_w - steps_w, range_w[0])
        if self._rose_s > self._fell_s:
            is_too_much = now_s - self._rose_s < TOO_MUCH_S
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S) if is_too_much else FIRST_WAIT_S
        self._fell_s = now_s

    def _may_rise(self, now_s: float, over_k: float) -> bool:
        """Whether the power limit may rise: the card is cool enough, and the last change is long enough ago."""
        if self._limited_s < now_s or now_s - max(self._rose_s, self._fell_s) < RISE_EVERY_S:
            return False
        return over_k < -MUCH_ROOM_K or (over_k < -ROOM_K and now_s - self._fell_s >= self._wait_s)
