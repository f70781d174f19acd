"""The target law: hold a card at or below a target temperature with the least sound, and learn the card meanwhile.

Three parts:

* `CardModel` (`card_model.py`) estimates how the temperature follows from power and duty. It is an extended Kalman
  filter: each reading corrects the estimate in proportion to its uncertainty.
* `Load` (`load.py`) predicts the power: a load that repeats does so once more; any other goes on for as long again as
  it has lasted.
* `TargetLaw` looks ahead with both, and chooses the lowest duty that holds the target for that time. Well above the
  target a floor under the duty counts instead: the curve, and feedback on the temperature.

Sound power grows with the fifth power of fan speed, so an even speed moves the same heat with the least sound. One
degree below the target costs about 0.8 dB(A) near 80 °C. A change is heard as well, so the fans do not follow a demand
that will soon be undone.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import cycle, islice

from gpufan.control.card_model import STEP_S, CardModel, Learnt
from gpufan.control.law import Decision
from gpufan.control.load import FUTURE_BINS, FUTURE_S, Load
from gpufan.control.target_tunables import TUNABLES
from gpufan.core.card_settings import CardSettings
from gpufan.core.reasons import Cause, Reason


def for_neighbours(duties_percent: Iterable[int], highest_percent: int) -> float:
    """The duty in percent at which a card's fans run for neighbours that take in its heat.

    It is a share of their highest demand, and the highest duty if one of them demands that already.
    """
    loudest = max(duties_percent, default=0)
    return float(highest_percent) if loudest >= highest_percent else TUNABLES.neighbour_share * loudest


def _worth_s(duty_percent: float) -> float:
    """A fall to a duty pays only if that duty is enough for this time, s."""
    return TUNABLES.worth_s / (max(duty_percent, 1.0) / 100) ** 4


def _lowest_worthwhile(lasts_s: float) -> float:
    """The lowest duty in percent that pays if it is enough for `lasts_s`; inverse of `_worth_s`."""
    return 100 * math.pow(TUNABLES.worth_s / lasts_s, 0.25)


def _bins_worth(duty_percent: float) -> int:
    """How many bins of the load a duty must be enough for."""
    return int(min(max(_worth_s(duty_percent), TUNABLES.shortest_fall_s), FUTURE_S) / STEP_S)


def _least(low: float, high: float, is_enough: Callable[[float], bool]) -> float:
    """Bisect for the lowest duty from `low` to `high` for which `is_enough` holds; `high` if it holds for none.

    Requires that every duty above one that is enough is enough too.
    """
    if is_enough(low):
        return low
    while high - low > 0.4:
        middle = (low + high) / 2
        if is_enough(middle):
            high = middle
        else:
            low = middle
    return high


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

        `power_limit_w` is the card's power limit; None where it is not known.
        """
        self._full_at_c = full_at_c
        self.model = CardModel(learnt)
        self._load = Load()
        self.local_demand_percent: int = limits[0]
        """The duty for this card's own heat, percent, without help for neighbours."""
        self._saturated_s = 0.0
        self._power_limit_w = power_limit_w
        # The highest power drawn for longer than one bin: replaces an unknown power limit.
        self._highest_w = 0.0
        self._last_s = math.inf
        self._near_s = 0.0
        # The latest readings, °C.
        self._latest_c: deque[float] = deque(maxlen=TUNABLES.floor_readings)
        self._duty: int | None = None
        # The duty before it is rounded up, percent: for the card itself, and with help for neighbours.
        self._level = self._shared_level = 0.0
        # The duty planned until the load's next bin is full; None where it must be planned anew.
        self._planned: float | None = None
        # Whether the model has followed the heatsink up to the last reading.
        self._anchored = False
        # How long ago the duty was last needed, s.
        self._unneeded_s = 0.0
        self.follow(settings, limits)

    def decide(
        self,
        now_s: float,
        temperature_c: float,
        power_w: float | None = None,
        speed_percent: float | None = None,
        neighbours_percent: Sequence[int] = (),
    ) -> Decision:
        """See `Law.decide`. An unknown power is estimated from the temperature."""
        elapsed_s = now_s - self._last_s
        self._last_s = now_s
        if not elapsed_s > 0:
            elapsed_s = 0.0
        power_w = self._sense(elapsed_s, temperature_c, power_w, speed_percent)
        if self._planned is None or self._duty is None:
            self._planned = self._plan(power_w)
        shared = for_neighbours(neighbours_percent, self._limits[1])
        if elapsed_s > TUNABLES.noise_s:
            self._latest_c.clear()
        self._latest_c.append(temperature_c)
        floor = self._over_temperature_floor(temperature_c if temperature_c >= self._full_at_c else min(self._latest_c))
        self.local_demand_percent = math.ceil(max(self._planned, floor))
        fall = self._settings.slew_percent_per_s * elapsed_s
        self._level = max(self._planned, floor, self._level - fall)
        self._shared_level = max(self._level, shared, self._shared_level - fall)
        self._duty = math.ceil(round(self._shared_level, 6))
        self._count_saturated(elapsed_s, temperature_c, speed_percent)
        return self._explain(self._duty, temperature_c, power_w, floor, shared)

    def follow(self, settings: CardSettings, limits: tuple[int, int]) -> None:
        """See `Law.follow`; what was learnt stays."""
        assert settings.target_c is not None  # else the controller had chosen another law
        self._settings = settings
        self._limits = limits
        self._target_c = min(settings.target_c, self._full_at_c - TUNABLES.floor_to_c)
        self._level = min(max(self._level, limits[0]), limits[1])
        self._shared_level = min(max(self._shared_level, limits[0]), limits[1])
        self._planned = None

    def force(self, now_s: float, duty_percent: int) -> None:
        """See `Law.force`. The reading was in doubt: nothing is learnt from it."""
        self._last_s = now_s
        self._duty = duty_percent
        self._level = self._shared_level = duty_percent
        self._saturated_s = 0.0
        self._anchored = False

    def forget(self) -> None:
        """See `Law.forget`; what was learnt stays."""
        self._duty = None
        self._level = self._shared_level = self._limits[0]
        self._saturated_s = 0.0
        self._anchored = False

    def _sense(
        self, elapsed_s: float, temperature_c: float, power_w: float | None, speed_percent: float | None
    ) -> float:
        """Update the estimates of card and load; return the power in W."""
        self._near_s += elapsed_s * (temperature_c > self._target_c - TUNABLES.near_k)
        if speed_percent is None or not 0 <= speed_percent <= TUNABLES.highest_speed_percent:
            speed_percent = self._duty or self._limits[0]
        if power_w is None or not 0 <= power_w <= TUNABLES.highest_power_w:
            self._anchored = False
            power_w = min(self.model.power(temperature_c, speed_percent), TUNABLES.highest_power_w)
        if not self._anchored or elapsed_s > TUNABLES.gap_s:
            self.model.anchor(temperature_c, power_w)
            self._anchored = True
            self._planned = None
        elif elapsed_s > 0:
            self.model.learn(elapsed_s, temperature_c, power_w, speed_percent)
        if elapsed_s <= TUNABLES.gap_s and self._load.add(elapsed_s, power_w):
            self._planned = None
        return power_w

    def _plan(self, power_w: float) -> float:
        """The duty in percent to set now: the least that is enough, unless it is not enough for long enough."""
        load = self._load
        # The peaks of a repeating load are known to a tenth of a degree.
        margin_c = 0.0 if load.period_w else TUNABLES.margin_c
        aim_c = self._target_c - margin_c - TUNABLES.first_margin_c * math.exp(-self._near_s / TUNABLES.first_margin_s)
        steady = load.at_work and load.level_s >= TUNABLES.steady_s
        ease_s = TUNABLES.steady_ease_s if steady else self.model.tunables.ease_s
        if load.level_s > STEP_S:
            self._highest_w = max(self._highest_w, load.level_w)
        jump_w = self._power_limit_w or self._highest_w
        sink_limit_c = self.model.sink_for_jump_c(self._target_c + TUNABLES.jump_c, jump_w, self._limits[1])
        stays_under = partial(self.model.stays_under, aim_c, ease_s=ease_s, sink_limit_c=sink_limit_c)
        powers_w = self._expected(power_w)
        least = self._needed(powers_w, stays_under)
        if self._duty is None:
            return least
        needed = least > self._limits[0] and least >= self._level - TUNABLES.needed_percent
        self._unneeded_s = 0.0 if needed else self._unneeded_s + STEP_S
        if least > self._level:
            return self._level + TUNABLES.rise_share * (least - self._level)
        return self._fallen(least, powers_w, stays_under, steady=steady)

    def _fallen(self, least: float, powers_w: list[float], stays_under: Callable[..., bool], *, steady: bool) -> float:
        """The duty in percent to fall to, from one that is higher than the `least` that is enough."""
        load = self._load
        if self._waits():  # and falls only to what the last job would need if it returned at once
            lasting = _least(least, self._level, lambda duty: stays_under(load.job_w, duty, self.model.growth_s))
        else:
            lasting = _least(least, self._level, lambda duty: stays_under(powers_w[: _bins_worth(duty)], duty))
        seldom = self._unneeded_s >= TUNABLES.seldom_s
        fall = TUNABLES.steady_fall_percent if steady else TUNABLES.fall_percent
        if load.period_w or seldom or (not load.at_work and load.pause_s is not None):
            fall = TUNABLES.regular_fall_percent
        worthwhile = lasting <= self._level - fall
        if not (load.period_w or seldom):
            unneeded_s = min(TUNABLES.unneeded_s + self._unneeded_s, FUTURE_S)
            lasting = min(max(lasting, _lowest_worthwhile(unneeded_s)), self._level)
        if worthwhile:
            return lasting
        still_s = max(load.level_s, TUNABLES.creep_s) if load.at_work else TUNABLES.creep_s
        creep_percent_per_s = TUNABLES.creep_percent_per_s * TUNABLES.creep_s / still_s
        return max(lasting, self._level - creep_percent_per_s * STEP_S)

    def _expected(self, power_w: float) -> list[float]:
        """Expected power in W, bin by bin."""
        if self._load.period_w:
            return list(islice(cycle(self._load.period_w), FUTURE_BINS))
        return [self._load.level_w if self._load.level_s else power_w] * FUTURE_BINS

    def _needed(self, powers_w: list[float], stays_under: Callable[..., bool]) -> float:
        """The least duty in percent that holds the target under `powers_w`, if later rises are allowed."""
        growth_s = self.model.growth_s
        period_w = self._load.period_w
        if not period_w:
            powers_w = powers_w[: math.ceil(self._load.rest_s / STEP_S)]
        least = _least(*self._limits, lambda duty: stays_under(powers_w, duty, growth_s))
        if period_w:
            even = _least(least, self._limits[1], lambda duty: stays_under(powers_w, duty))
            paused_s = STEP_S * sum(w < max(period_w) / 2 for w in period_w)
            if _worth_s(even) >= TUNABLES.even_share * paused_s:
                return even
        return least

    def _waits(self) -> bool:
        """Whether the fans wait for a load that may return."""
        load = self._load
        if load.period_w:
            return False
        wait_s = TUNABLES.shortest_wait_s
        if not load.at_work:
            worth_s = _worth_s(self._level)
            if load.pause_s is not None and load.pause_s <= TUNABLES.patience * worth_s:
                wait_s = 1.1 * load.pause_s + STEP_S
            elif load.new:
                wait_s = min(max(2 * worth_s, wait_s), TUNABLES.longest_wait_s)
        return load.level_s <= wait_s

    def _over_temperature_floor(self, temperature_c: float) -> float:
        """The lowest duty whatever the model says, percent: plain feedback above the target."""
        low, high = self._limits
        if temperature_c >= self._full_at_c:
            return high
        over_c = temperature_c - self._target_c
        if over_c <= TUNABLES.floor_from_c:
            return low
        floor = low + (high - low) * (over_c - TUNABLES.floor_from_c) / (TUNABLES.floor_to_c - TUNABLES.floor_from_c)
        return min(max(floor, self._settings.curve.duty_at(temperature_c) or low), high)

    @property
    def learnt(self) -> Learnt:
        """What is known of the card, after what an earlier run learnt."""
        return self.model.learnt

    @property
    def saturated(self) -> bool:
        """See `Law.saturated`."""
        return self._saturated_s >= TUNABLES.saturated_s

    def _count_saturated(self, elapsed_s: float, temperature_c: float, speed_percent: float | None) -> None:
        """Add `elapsed_s` to the time at full speed and above the target; any other reading sets that time to 0."""
        high = self._limits[1]
        hot = temperature_c > self._target_c + TUNABLES.floor_from_c and self.local_demand_percent >= high
        slow = speed_percent is not None and speed_percent < high - TUNABLES.slow_fan_percent
        # While full speed would be enough in the end, the card needs no help: it may have been hot at the start.
        if (
            hot
            and not slow
            and elapsed_s <= TUNABLES.gap_s
            and self.model.duty_for(self._load.level_w, self._target_c) >= high
        ):
            self._saturated_s += elapsed_s
        else:
            self._saturated_s = 0.0

    def _explain(self, duty: int, temperature_c: float, power_w: float, floor: float, shared: float) -> Decision:
        low, high = self._limits
        if temperature_c >= self._full_at_c:
            return Decision(duty, Reason(Cause.NEAR_SLOWDOWN, temperature_c=temperature_c))
        steady = self.model.duty_for(power_w, self._target_c)
        change = duty - round(min(max(steady, low), high))
        over_c = temperature_c - self._target_c
        because = partial(Reason, power_w=power_w, needed_percent=steady, limit_c=self._target_c, change_percent=change)
        if duty <= math.ceil(floor) and duty > low:
            reason = because(Cause.ABOVE_TARGET, difference_c=over_c)
        elif duty <= math.ceil(shared) and change > 0:
            reason = because(Cause.NEIGHBOUR)
        elif duty == low and steady <= low:
            reason = because(Cause.TARGET_MINIMUM, limit_percent=low)
        elif abs(change) < self._settings.step_percent:
            reason = because(Cause.TARGET)
        elif period_w := self._load.period_w:
            reason = because(Cause.REPEATING, seconds=len(period_w) * STEP_S)
        elif change > 0:
            reason = because(Cause.EXPECTED_LOAD)
        elif over_c < 0:
            reason = because(Cause.BELOW_TARGET, difference_c=-over_c)
        else:
            reason = because(Cause.SETTLING)
        return Decision(duty, reason)
