"""The target law: hold a card at or below a target temperature with the least sound.

It is PI control with feed-forward of power:

    ln(duty) = learnt + exponent * ln(power / (target - room)) + proportional * (temperature - target)

Sound power grows with the fifth power of fan speed, so an even speed moves the same heat with the least sound. Hence:

- The second term is feed-forward. The power is filtered, a share of the card's power limit, and the highest of
  `hold_s`: so the fans are ready for a load before the heatsink is warm, and a short pause moves nothing.
- The third term is feedback. It lets a cool card warm up under slow fans, and raises them as it nears the target.
- `learnt` is the integral of the feedback. It stands for the cooler of the card, the dust in it and the air of the day,
  and is stored from run to run.
- The fans rise to this duty at once and fall slowly. A floor lifts them to full speed where all this is not enough.

A card that does not report its power has the first and the third term: plain PI control.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpufan.control.law import Decision, Learnt
from gpufan.control.target_reason import Facts, explain
from gpufan.core.card_settings import CardSettings
from gpufan.core.reasons import Cause, Reason
from gpufan.core.thermal import approach, remaining_share


@dataclass(frozen=True, slots=True)
class Tunables:
    """The numbers that were chosen with the control benchmark. None of them is tuned to one card."""

    # Feed-forward
    start_percent: float = 75.0
    """Duty that is expected to hold `TYPICAL_C` at the power limit on a card that is not known yet."""
    exponent: float = 1.5
    """The duty that holds a temperature grows with power raised to this: 1.5 to 3 by the physics of heatsinks."""
    power_filter_s: float = 15.0
    """Time constant of the filter of power, s."""
    hold_s: float = 140.0
    """A pause shorter than this does not lower the expected power, s."""

    # Feedback
    proportional_per_k: float = 0.12
    """Rise of the logarithm of the duty per K."""
    temperature_filter_s: float = 3.0
    """Time constant of the filter of temperature, s."""
    integral_above_s: float = 150.0
    """Time in which an error above the target is learnt, s."""
    integral_below_s: float = 500.0
    """The same below the target: a quieter fan can wait, a cooler card cannot."""
    first_margin_k: float = 2.0
    """An unknown card is held this much below the target at first, K."""

    # Moves and limits
    fall_s: float = 160.0
    """In this time a gap of 100 points between duty and demand is halved, s; a gap of 10 points in ten times this."""
    band_k: float = 4.0
    """So far above the target the fans run fully, K. A card that throttles for heat is held up to this much cooler."""
    neighbour_share: float = 0.6
    """Fans run at least at this share of the duty of a neighbour that takes in their card's heat."""


TUNABLES = Tunables()

ROOM_C, TYPICAL_C = 20.0, 78.0
"""Air and target that `start_percent` is meant for, °C. In warmer air another number is learnt, nothing else."""

STEADY_SHARE = 0.97
"""Below this share of the expected power a cool card says nothing about its cooler."""

_MARGIN_FADES_S = 100.0
_NEAR_K = 10.0
"""The first margin fades by a factor of e in this time, s, spent nearer to the target than this, K."""

COOLER_S_PER_K, COOLER_FADES_S = 20.0, 3600.0
"""While a card throttles for heat, its target sinks by 1 K in the first; later it returns in about the second."""

LIMITED_PERCENT = 10.0
"""A fan that turns slower than demanded by more than this, points, says nothing about the cooler."""

LEARNT_PERCENT = (15.0, 300.0)
"""A stored number outside of this belongs to no card."""

LEAST_POWER = 0.05
_GAP_S = 15.0
"""After a longer time without a reading the filters start afresh."""


def for_neighbours(duties_percent: Iterable[int], highest_percent: int) -> float:
    """The duty in percent for neighbours: a share of their highest demand, or all where one demands all."""
    loudest = max(duties_percent, default=0)
    return float(highest_percent) if loudest >= highest_percent else TUNABLES.neighbour_share * loudest


class TargetLaw:
    """Holds one card at or below the target. Implements `Law`."""

    def __init__(
        self,
        settings: CardSettings,
        limits: tuple[int, int],
        full_at_c: float,
        learnt: Learnt | None = None,
        power_limit_w: float | None = None,
    ) -> None:
        """`limits`: lowest and highest duty in percent. From `full_at_c` on the fans run at the highest.

        Without the card's `power_limit_w`, power readings are not used.
        """
        self._full_at_c = full_at_c
        self._limit_w = power_limit_w if power_limit_w is not None and 5 <= power_limit_w <= 2000 else None
        known_percent = TUNABLES.start_percent if learnt is None else learnt.full_power_percent
        self._learnt = math.log(min(max(known_percent, LEARNT_PERCENT[0]), LEARNT_PERCENT[1]))
        self._margin_k = TUNABLES.first_margin_k if learnt is None else 0.0
        self.local_demand_percent = limits[0]
        """The duty for this card's own heat, percent, without help for neighbours."""
        self._cooler_k = self._saturated_s = self._clock_s = 0.0
        self._last_s = math.inf
        self._filtered_c = math.nan
        self._filtered_power = math.nan
        # The power that the fans are ready for, as a share of the limit: of an unknown card the limit.
        self._expected_power = 1.0
        # Powers that may still become the highest of `hold_s`, falling: (time, power).
        self._peaks: deque[tuple[float, float]] = deque()
        self._duty: int | None = None
        # The duty before it is rounded up, percent: for the card itself, and with help for neighbours.
        self._level = self._shared_level = 0.0
        self._forced = False
        self.follow(settings, limits)

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
        """See `Law.decide`."""
        elapsed_s = self._elapsed_s(now_s)
        if speed_percent is None or not 0 <= speed_percent <= 200:
            speed_percent = self._duty or self._limits[0]
        power = None
        if self._limit_w is not None and power_w is not None and 0 <= power_w <= 4 * self._limit_w:
            power = max(power_w / self._limit_w, LEAST_POWER)
            self._expect(elapsed_s, power)
        over_k = self._error_k(elapsed_s, temperature_c, throttled)
        demand = self._demand_percent(elapsed_s, over_k, power, speed_percent)
        low, high = self._limits
        floor: float = high if temperature_c >= self._full_at_c else low
        floor += (high - floor) * min(max(over_k / TUNABLES.band_k, 0), 1)
        self._move(elapsed_s, min(max(demand, low / 2), high), floor)
        self.local_demand_percent = math.ceil(round(self._level, 6))
        shared = for_neighbours(neighbours_percent, high)
        fall = self._settings.slew_percent_per_s * elapsed_s
        self._shared_level = max(self._level, shared, self._shared_level - fall)
        self._duty = math.ceil(round(self._shared_level, 6))

        # While full speed would be enough in the end, the card needs no help: it may have been hot at the start.
        hot = temperature_c > self._target_c + 1 and demand >= high and speed_percent >= high - 10
        self._saturated_s = self._saturated_s + elapsed_s if hot and elapsed_s < _GAP_S else 0.0
        if temperature_c >= self._full_at_c:
            return Decision(self._duty, Reason(Cause.NEAR_SLOWDOWN, temperature_c=temperature_c))
        expected = math.exp(self._forward(self._expected_power))
        needed = expected if power is None else math.exp(self._forward(power))
        facts = Facts(
            temperature_c,
            None if power is None else power_w,
            self._target_c,
            needed,
            self._limits,
            floor,
            shared,
            falls_to_percent=max(demand, expected),
        )
        return Decision(self._duty, explain(self._duty, facts, self._settings.step_percent))

    def follow(self, settings: CardSettings, limits: tuple[int, int]) -> None:
        """See `Law.follow`; what was learnt stays."""
        assert settings.target_c is not None  # else the controller had chosen another law
        self._settings, self._limits = settings, limits
        self._target_c = min(settings.target_c, self._full_at_c - TUNABLES.band_k)
        levels = self._level, self._shared_level
        self._level, self._shared_level = (min(max(level, limits[0]), limits[1]) for level in levels)

    def force(self, now_s: float, duty_percent: int) -> None:
        """See `Law.force`. The reading was in doubt: nothing is learnt from it."""
        self.forget()
        self._last_s, self._duty, self._forced = now_s, duty_percent, True
        self._level = self._shared_level = duty_percent

    def forget(self) -> None:
        """See `Law.forget`; what was learnt stays."""
        self._duty, self._filtered_c = None, math.nan
        self._level = self._shared_level = self._limits[0]
        self._saturated_s = 0.0

    @property
    def learnt(self) -> Learnt:
        """See `Law.learnt`."""
        return Learnt(math.exp(self._learnt))

    @property
    def saturated(self) -> bool:
        """See `Law.saturated`."""
        return self._saturated_s >= 10

    def _elapsed_s(self, now_s: float) -> float:
        """Time since the last reading, 0..`_GAP_S`. After a longer time the filters start afresh."""
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        if elapsed_s > _GAP_S:
            self._filtered_c = self._filtered_power = math.nan
        elapsed_s = min(elapsed_s, _GAP_S) if elapsed_s > 0 else 0.0
        self._clock_s += elapsed_s
        return elapsed_s

    def _expect(self, elapsed_s: float, power: float) -> None:
        """Update the expected power: the highest filtered power of `hold_s`."""
        before = power if math.isnan(self._filtered_power) else self._filtered_power
        self._filtered_power = approach(before, power, remaining_share(elapsed_s, TUNABLES.power_filter_s))
        while self._peaks and self._peaks[-1][1] <= self._filtered_power:
            self._peaks.pop()
        self._peaks.append((self._clock_s, self._filtered_power))
        while self._peaks[0][0] < self._clock_s - TUNABLES.hold_s:
            self._peaks.popleft()
        self._expected_power = self._peaks[0][1]

    def _error_k(self, elapsed_s: float, temperature_c: float, throttled: bool) -> float:
        """The filtered temperature over the target, K; over a lower target for a while after the card throttled."""
        before_c = temperature_c if math.isnan(self._filtered_c) else self._filtered_c
        self._filtered_c = approach(before_c, temperature_c, remaining_share(elapsed_s, TUNABLES.temperature_filter_s))
        if throttled:
            self._cooler_k = min(self._cooler_k + elapsed_s / COOLER_S_PER_K, TUNABLES.band_k)
        self._cooler_k *= remaining_share(elapsed_s, COOLER_FADES_S)
        return self._filtered_c - self._target_c + self._cooler_k

    def _forward(self, power: float) -> float:
        """Logarithm of the duty in percent that holds the target at `power`, a share of the power limit."""
        rise_k = max(self._target_c - self._cooler_k - ROOM_C, 5.0)
        return self._learnt + TUNABLES.exponent * math.log(power * (TYPICAL_C - ROOM_C) / rise_k)

    def _demand_percent(self, elapsed_s: float, over_k: float, power: float | None, speed_percent: float) -> float:
        """Return the demand by the equation, percent, and learn from the error. `speed_percent` is read from a fan."""
        if over_k > -_NEAR_K:
            self._margin_k *= remaining_share(elapsed_s, _MARGIN_FADES_S)
        error_k = over_k + self._margin_k
        feedback = TUNABLES.proportional_per_k * error_k
        forward = self._forward(self._expected_power)
        demand = math.exp(min(forward + feedback, 5.0))
        low, high = self._limits
        pause = power is not None and self._filtered_power < STEADY_SHARE * self._expected_power
        # The number must not run away where the card rests, where something limits the fans (quiet hours, a slow fan),
        # or far beyond the limits of the fans.
        limited = speed_percent < min(demand, high) - LIMITED_PERCENT
        too_low = error_k > 0 and not limited and forward <= math.log(1.05 * high)
        if too_low or (error_k < 0 and demand > low and not pause):
            integral_s = TUNABLES.integral_above_s if error_k > 0 else TUNABLES.integral_below_s
            least, most = map(math.log, LEARNT_PERCENT)
            self._learnt = min(max(self._learnt + feedback * elapsed_s / integral_s, least), most)
        return demand

    def _move(self, elapsed_s: float, demand: float, floor: float) -> None:
        """Move the level: up to the demand at once, down by a law that closes wide gaps fast and narrow ones slowly.

        The demand may be below the lowest duty, down to half of it: so the fans of an idle card slow down soon.
        """
        gap = self._level - demand
        if self._duty is None or gap <= 0:
            self._level, self._forced = demand, False
        else:
            slow = 0.0 if self._forced else gap / (1 + gap * elapsed_s / (100 * TUNABLES.fall_s))
            self._level = max(demand + slow, self._level - self._settings.slew_percent_per_s * elapsed_s)
        self._level = max(self._level, floor)
