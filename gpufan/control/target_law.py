"""The target law: hold a card at or below a target temperature with the least sound.

    ln(duty) = ln(duty that holds the target at the expected power) + RAMP_PER_K * (predicted - target) + trim

The first term is feed-forward: the expected power is the highest filtered power of the last `HOLD_S`, so that a short
pause does not count. A model of the card, which learns from every reading, gives the duty and the temperature that the
expected power leads to at once (`card_model.py`). The second term raises the fans as the card nears the target. The
trim is a slow integral of the measured error, in case the model is wrong. Without power there is plain PI control:

    ln(duty) = integral + FEEDBACK_PER_K * (temperature - target)

Sound power grows with the fifth power of fan speed, so an even speed moves the same heat with the least sound. Fans
rise to the demand within seconds and fall late: a lower duty must have been enough for `WORTH_S` / duty^4.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence

from gpufan.control.card_model import CardModel, Learnt
from gpufan.control.law import Decision
from gpufan.control.target_reason import Facts, explain
from gpufan.core.card_settings import CardSettings
from gpufan.core.reasons import Cause, Reason
from gpufan.core.thermal import approach, remaining_share

MARGIN_K, FIRST_MARGIN_K = 0.3, 1.5
"""The law aims this far below the target; the second decays by a factor of e per 50 s spent near the target."""

POWER_FILTER_S = 14.0
"""Time constant of the filter of power, s. Longer where readings scatter: some cards report moments, not means."""

HOLD_S = 100.0

RAMP_PER_K = 0.06
"""A rise of the logarithm of the duty per K."""

TRIM_S = 400.0
"""Time constant of the trim, s. It stays within 0.15."""

FEEDBACK_PER_K, FEEDBACK_S = 0.11, 100.0

WORTH_S = 5.0
"""A fall is worth its noise if it lasts for this over the fourth power of the duty: 30 s at 64 %, a minute at 54 %."""

CREEP_PERCENT_PER_S = 0.018
"""Small falls are made at this rate, which nobody hears; wider ones faster."""

FLOOR_FROM_K, FLOOR_TO_K = 1.0, 4.0
"""Above the target by the first, fans leave the lowest duty whatever the model says; by the second, they run fully."""

THROTTLE_K = 4.0
"""A card that lowers its clocks for heat (hotspot, memory) is held up to this much cooler, for about an hour."""

NEIGHBOUR_SHARE = 0.6
"""Fans run at least at this share of the duty of a neighbour that takes in their card's heat."""

_FILTER_S = 4.0
_GAP_S = 15.0
"""After a longer time without a reading nothing is known of the heatsink."""


def for_neighbours(duties_percent: Iterable[int], highest_percent: int) -> float:
    """The duty in percent for neighbours: a share of their highest demand, or all where one demands all."""
    loudest = max(duties_percent, default=0)
    return float(highest_percent) if loudest >= highest_percent else NEIGHBOUR_SHARE * loudest


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
        self.model = CardModel(learnt)
        self.local_demand_percent = limits[0]
        """The duty for this card's own heat, percent, without help for neighbours."""
        self._trim = self._near_s = self._cooler_k = self._saturated_s = self._clock_s = 0.0
        self._feedback, self._last_s = math.log(60.0), math.inf
        # Filtered; the power as a share of the limit. None until there is a reading.
        self._filtered_c: float | None = None
        self._power: float | None = None
        # The latest power, and how much power changes from reading to reading, mean of a minute.
        self._latest = self._mean = self._scatter = 0.0
        # Powers that may still become the highest of `HOLD_S`, falling; and the highest demand of each 5 s: (time, it).
        self._peaks: deque[tuple[float, float]] = deque()
        self._demands: deque[tuple[float, float]] = deque(maxlen=61)
        self._duty: int | None = None
        # The duty before it is rounded up, percent: for the card itself, and with help for neighbours.
        self._level = self._shared_level = 0.0
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
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        if elapsed_s > _GAP_S:
            self._filtered_c = None
        elapsed_s = min(elapsed_s, _GAP_S) if elapsed_s > 0 else 0.0
        self._clock_s += elapsed_s
        if speed_percent is None or not 0 <= speed_percent <= 200:
            speed_percent = self._duty or self._limits[0]
        power = None
        if self._limit_w is not None and power_w is not None and 0 <= power_w <= 4 * self._limit_w:
            power = power_w / self._limit_w
            self._expect(elapsed_s, temperature_c, power, speed_percent)
        before_c = temperature_c if self._filtered_c is None else self._filtered_c
        self._filtered_c = approach(before_c, temperature_c, remaining_share(elapsed_s, _FILTER_S))
        self._cooler_k = min(self._cooler_k + elapsed_s / 20, THROTTLE_K) if throttled else self._cooler_k
        self._cooler_k *= remaining_share(elapsed_s, 3600.0)
        aim_c = self._target_c - self._cooler_k
        over_k = self._filtered_c - aim_c
        low, high = self._limits
        demand = self._fed_back(elapsed_s, over_k) if power is None else self._planned(elapsed_s, over_k, aim_c)
        floor: float = high if temperature_c >= self._full_at_c else low
        if over_k > FLOOR_FROM_K:
            floor += (high - floor) * min((over_k - FLOOR_FROM_K) / (FLOOR_TO_K - FLOOR_FROM_K), 1)
        self._move(elapsed_s, min(max(demand, low), high), floor, WORTH_S if power is not None else 0.0)
        self.local_demand_percent = math.ceil(round(self._level, 6))
        shared = for_neighbours(neighbours_percent, high)
        self._shared_level = max(
            self._level, shared, self._shared_level - self._settings.slew_percent_per_s * elapsed_s
        )
        self._duty = math.ceil(round(self._shared_level, 6))

        # While full speed would be enough in the end, the card needs no help: it may have been hot at the start.
        hot = temperature_c > self._target_c + FLOOR_FROM_K and demand >= high and speed_percent >= high - 10
        self._saturated_s = self._saturated_s + elapsed_s if hot and elapsed_s < _GAP_S else 0.0
        if temperature_c >= self._full_at_c:
            return Decision(self._duty, Reason(Cause.NEAR_SLOWDOWN, temperature_c=temperature_c))
        needed = math.exp(self._feedback) if power is None else self.model.duty_for(power, self._target_c)
        facts = Facts(
            temperature_c, None if power is None else power_w, self._target_c, needed, self._limits, floor, shared
        )
        return Decision(self._duty, explain(self._duty, facts, self._settings.step_percent))

    def follow(self, settings: CardSettings, limits: tuple[int, int]) -> None:
        """See `Law.follow`; what was learnt stays."""
        assert settings.target_c is not None  # else the controller had chosen another law
        self._settings, self._limits = settings, limits
        self._target_c = min(settings.target_c, self._full_at_c - FLOOR_TO_K)
        levels = self._level, self._shared_level
        self._level, self._shared_level = (min(max(level, limits[0]), limits[1]) for level in levels)
        self._demands.clear()

    def force(self, now_s: float, duty_percent: int) -> None:
        """See `Law.force`. The reading was in doubt: nothing is learnt from it."""
        self.forget()
        self._last_s, self._duty = now_s, duty_percent
        self._level = self._shared_level = duty_percent

    def forget(self) -> None:
        """See `Law.forget`; what was learnt stays."""
        self._duty = self._filtered_c = None
        self._level = self._shared_level = self._limits[0]
        self._saturated_s = 0.0
        self._demands.clear()

    @property
    def learnt(self) -> Learnt:
        """See `Law.learnt`."""
        return self.model.learnt

    @property
    def saturated(self) -> bool:
        """See `Law.saturated`."""
        return self._saturated_s >= 10

    def _expect(self, elapsed_s: float, temperature_c: float, power: float, speed_percent: float) -> None:
        """Learn from a reading, and update the expected power."""
        if self._power is None:
            self._power = self._mean = self._latest = power
        self._scatter = approach(self._scatter, abs(power - self._latest), remaining_share(elapsed_s, 60.0))
        self._latest = power
        # Single moments say little: the more power scatters, the longer is the mean that counts, s.
        mean_s = 0.1 + 100 * self._scatter**2
        self._mean = approach(self._mean, power, remaining_share(elapsed_s, mean_s))
        self._power = approach(self._power, power, remaining_share(elapsed_s, POWER_FILTER_S + 8 * mean_s))
        if self._filtered_c is None:
            self.model.anchor(temperature_c, self._mean)
        elif elapsed_s > 0:
            self.model.learn(elapsed_s, temperature_c, self._mean, speed_percent)
        while self._peaks and self._peaks[-1][1] <= self._power:
            self._peaks.pop()
        self._peaks.append((self._clock_s, self._power))
        while self._peaks[0][0] < self._clock_s - HOLD_S:
            self._peaks.popleft()

    def _planned(self, elapsed_s: float, over_k: float, aim_c: float) -> float:
        """The demand in percent by the model."""
        self._near_s += elapsed_s * (over_k > -10)
        aim_c -= MARGIN_K + FIRST_MARGIN_K * math.exp(-self._near_s / 50)
        expected = self._peaks[0][1]
        excess_k = min(max(self.model.die_c(expected) - aim_c, -25), 10)
        demand = min(self.model.duty_for(expected, aim_c), 150.0) * math.exp(RAMP_PER_K * excess_k + self._trim)
        # In a pause, and far from the target, the error says nothing about the model.
        if (self._power or 0.0) > expected / 2 and abs(over_k) < 6 and self._limits[0] < demand < self._limits[1]:
            trim = self._trim + RAMP_PER_K * (over_k + MARGIN_K) * elapsed_s / TRIM_S
            self._trim = min(max(trim, -0.15), 0.15)
        self._feedback = math.log(max(demand, self._limits[0], 1.0))  # in case the next power cannot be read
        return demand

    def _fed_back(self, elapsed_s: float, over_k: float) -> float:
        """The demand in percent without a power reading."""
        error = FEEDBACK_PER_K * max(over_k + MARGIN_K, -9)
        demand = math.exp(min(self._feedback + error, 5.0))
        if self._limits[0] < demand < self._limits[1]:
            self._feedback += error * elapsed_s / FEEDBACK_S
        return demand

    def _move(self, elapsed_s: float, demand: float, floor: float, worth_s: float) -> None:
        """Move the level: up to the demand, and down to a duty that has been enough for long enough."""
        demands = self._demands
        if demands and self._clock_s - demands[-1][0] < 5:
            demands[-1] = (demands[-1][0], max(demands[-1][1], demand))
        else:
            demands.append((self._clock_s, demand))
        if self._duty is None:
            self._level = demand
        elif demand >= self._level:
            self._level = approach(self._level, demand, remaining_share(elapsed_s, _FILTER_S))
        else:
            since_s = self._clock_s - min(max(worth_s / (self._level / 100) ** 4, 30.0 if worth_s else 0.0), 300.0)
            enough = min(max([demand, *(highest for then_s, highest in demands if then_s >= since_s)]), self._level)
            faster = 1 + ((self._level - enough) / 3) ** 2 if worth_s else 2.0
            fall = min(CREEP_PERCENT_PER_S * faster, self._settings.slew_percent_per_s) * elapsed_s
            self._level = max(enough, self._level - fall)
        self._level = max(self._level, floor)
