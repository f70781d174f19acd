"""The target law: no warmer than a target, with the least sound. It learns the card while it controls it.

Three parts, each of which can be read alone:

* `CardModel`, in `model.py`, is what is believed of the card: how its temperature follows from power and duty. An
  extended Kalman filter keeps it true: each reading corrects it by as much as it is in doubt.
* `Load` is what the power may do next: at worst as much as it did before over any stretch of the same length. So jobs
  that are known to be short are averaged, and a pause that is known to be short is used.
* `TargetLaw` looks ahead with both, and takes the lowest duty that will keep the target. Well above the target neither
  model nor outlook count: the curve and a brake say how fast the fans must be at least.

Sound grows with the fifth power of fan speed, so the quietest way to move the same heat is an even one, and a degree
below the target is paid for in sound: near 80 °C some 0.8 dB(A).
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import gt, sub

from gpufan.control import Decision
from gpufan.control.law import CardSettings
from gpufan.control.model import EASE_S, STEP_S, CardModel, Learnt

MARGIN_C = 0.4
"""The law aims so many °C under the target, since a reading is rounded to whole degrees."""

FIRST_C, FIRST_S = 2.0, 50.0
"""It aims lower by so many °C at first, and by less and less over this many seconds near the target: what is believed
of a card is tried where a mistake costs least."""

BRAKE_C = (1.0, 3.0)
"""So far above the target, in °C, the brake begins at the lowest duty and ends at the highest."""

BRAKE_READINGS = 3
"""The brake goes by the lowest of so many readings: one alone may be noise, and would cost 30 points."""

WORTH_S = 3.2
"""Fans fall only to what will do for this many seconds over the fourth power of the duty (0..1).

That is where the sound saved is worth the change: 30 s at 57 %, a minute at 48 %, five minutes at 32 %.
"""

WORTH_RANGE_S = (30.0, 300.0)
"""No look ahead is shorter or longer."""

WAIT_RANGE_S = (15.0, 60.0)
"""How long the fans wait for a load to come back, in s: as long as that is worth it, within these."""

PATIENCE = 3.0
"""A load that always comes back after the same time is waited for up to so many times as long."""

AT_WORK = 0.4
"""A load of this share of what may come is no pause: it is taken to go on as it is."""

STEADY_S = 120.0
"""A load that has not changed for so long is steady: what its temperature does then is mostly noise."""

FALL_PERCENT, REGULAR_FALL_PERCENT, STEADY_FALL_PERCENT = 5.0, 8.0, 15.0
"""Smallest falls worth making at once: usually, between jobs that come like one another, and in a steady load.

Smaller ones are made at `CREEP_PERCENT_PER_S`, which nobody hears.
"""

CREEP_PERCENT_PER_S, CREEP_S = 0.03, 200.0
"""Creeping slows down when the load has been the same for longer than so many seconds, or it would find out again and
again what is too little."""

STEADY_EASE_S = 40.0
"""Takes the place of `EASE_S` in a steady load, s: what oversteps the target by some tenths goes as it came."""

COOLING_K = 2.0
"""A heatsink this far above where it will settle is cooling, and no fan rises for it."""

RISE_SHARE = 0.4
"""Of a rise, this share is made every `STEP_S`: what noise alone asks for is not heard."""

NEIGHBOUR_SHARE = 0.6
"""Fans run at this share of the duty of a neighbour that takes in their card's heat, at least. That adds 0.3 dB(A) to
the neighbour's sound, and where the exhaust is what warms it, takes more away."""

_GAP_S = 15.0
"""After a longer time without a reading nothing is known of the heatsink."""

_NOISE_S = 2.0
"""Readings further apart are not noise to one another."""

_MOST_W = 2000.0
"""No card draws more: a reading above is absurd."""

_MOST_PERCENT = 200.0
"""No fan runs faster: a reading above is absurd. Drivers do report somewhat more than 100 %."""

_FUTURE = int(WORTH_RANGE_S[1] / STEP_S)


class Load:
    """What the load has asked for over the last minutes, and what it may ask for at worst.

    `_most[k]` is the most energy that any k bins in a row took. A future is possible if, put after what just happened,
    it has no stretch that took more than that; the worst of them is the outlook. Where the load does what it never did
    before, such as a longer job, the past is no guide: then it is taken to go on as it is.
    """

    _PAST = 100
    """Bins of the past that an outlook is put after."""
    _GENERATION = 240
    """Bins after which a new record is begun; the one before counts until the next."""
    _BUSY = 0.8
    """Share of the mean power above which a job is taken to run."""
    _STEP = 0.12
    """Share of the highest power by which the power must differ to be another level, and not noise."""
    _SLACK, _SLACK_BINS = 1.005, 0.1
    """No two jobs are alike: a record counts for so much more than it is, and so many bins."""
    _EXCESS, _EXCESS_BINS = 1.03, 0.5
    """And what is so much above it was never before."""
    _ALIKE = 1.5
    """Dips are alike if the longest is at most so many times as long as the shortest."""

    def __init__(self) -> None:
        self.level_w = 0.0
        """Mean power since it last changed, W."""
        self.level_s = 0.0
        """How long ago that was, s."""
        # How long the load stayed down before it rose again, s, the last times.
        self._dips_s: deque[float] = deque(maxlen=4)
        self._totals: deque[float] = deque([0.0], self._PAST + _FUTURE + 1)
        self._most, self._most_before = self._empty(), self._empty()
        self._age = 0
        self._surpassed = False
        self._unrecorded: list[float] = []
        self._bin_j = self._bin_s = 0.0
        self._mean_w = 0.0
        self._bins = 0

    def add(self, elapsed_s: float, power_w: float) -> list[float] | None:
        """Take the power of the last `elapsed_s`; the outlook in W for each bin to come, when a bin is full."""
        outlook = None
        while self._bin_s + elapsed_s >= STEP_S - 1e-6:
            rest_s = STEP_S - self._bin_s
            outlook = self._fill((self._bin_j + power_w * rest_s) / STEP_S)
            elapsed_s = max(elapsed_s - rest_s, 0.0)
            self._bin_j = self._bin_s = 0.0
        self._bin_j += power_w * elapsed_s
        self._bin_s += elapsed_s
        return outlook

    @property
    def dip_s(self) -> float | None:
        """For how long the load stays down before it comes back, s; None if that differs, or is not known."""
        longest_s = max(self._dips_s, default=0.0)
        return longest_s if len(self._dips_s) > 2 and longest_s <= self._ALIKE * min(self._dips_s) else None

    def _fill(self, bin_w: float) -> list[float]:
        """Take the mean power of a whole bin; the outlook after it."""
        self._bins += 1
        self._mean_w += (bin_w - self._mean_w) / min(self._bins, 60)
        highest_w = max(self._most[1] / STEP_S, self._most_before[1] / STEP_S, self.level_w)
        if abs(bin_w - self.level_w) > self._STEP * highest_w + 5:
            if bin_w > self.level_w and self.level_s:
                self._dips_s.append(self.level_s)
            self.level_w, self.level_s = bin_w, 0.0
        self.level_s += STEP_S
        self.level_w += (bin_w - self.level_w) * STEP_S / min(self.level_s, 60)
        self._totals.append(self._totals[-1] + bin_w * STEP_S)
        taken = [self._totals[-1] - total for total in reversed(self._totals)]
        busy = bin_w >= self._BUSY * self._mean_w
        self._record(busy, taken)
        bin_j = STEP_S * self.level_w
        record = [most_j or math.inf for most_j in map(max, self._most, self._most_before)]
        ever = [self._EXCESS * most_j + self._EXCESS_BINS * bin_j for most_j in record]
        self._surpassed = busy and (self._surpassed or any(map(gt, taken, ever)))
        if self._surpassed:
            return [self.level_w] * _FUTURE
        return self._outlook(
            taken[: self._PAST], [self._SLACK * most_j + self._SLACK_BINS * bin_j for most_j in record]
        )

    def _record(self, busy: bool, taken: list[float]) -> None:
        """Bring the record up to date with the energy `taken` over the last 0, 1, 2 .. bins."""
        if busy:
            # Not before it ends is it known how long a job is.
            self._unrecorded = taken
        else:
            for stretch in (self._unrecorded, taken):
                self._most[: len(stretch)] = map(max, self._most, stretch)
            self._unrecorded = []
        self._age += 1
        if self._age >= self._GENERATION:
            self._age = 0
            self._most, self._most_before = self._empty(), self._most

    def _outlook(self, taken: list[float], most: list[float]) -> list[float]:
        highest_j = max(self._most[4] / 4, self._most_before[4] / 4, self.level_w * STEP_S)
        outlook, sum_j = [], 0.0
        for ahead in range(1, _FUTURE + 1):
            bound_j = max(min(sum_j + highest_j, min(map(sub, most[ahead:], taken))), sum_j)
            outlook.append((bound_j - sum_j) / STEP_S)
            sum_j = bound_j
        return outlook

    def _empty(self) -> list[float]:
        return [0.0] * (self._PAST + _FUTURE + 1)


def for_neighbours(duties_percent: Iterable[int], highest_percent: int) -> float:
    """The duty in percent at which a card's fans should run for neighbours that take in its heat.

    A share of their duty; and all there is where one has no more of its own.
    """
    loudest = max(duties_percent, default=0)
    return float(highest_percent) if loudest >= highest_percent else NEIGHBOUR_SHARE * loudest


def _worth_s(duty_percent: float, range_s: tuple[float, float]) -> float:
    """For how long fans must stay at a duty so that it is worth falling to, s."""
    return min(max(WORTH_S / (max(duty_percent, 1.0) / 100) ** 4, range_s[0]), range_s[1])


def _bins_worth(duty_percent: float) -> int:
    return int(_worth_s(duty_percent, WORTH_RANGE_S) / STEP_S)


def _least(low: float, high: float, fits: Callable[[float], bool]) -> float:
    """The lowest duty that fits, if all above it do; `high` if none does."""
    if fits(low):
        return low
    while high - low > 0.4:
        middle = (low + high) / 2
        if fits(middle):
            high = middle
        else:
            low = middle
    return high


class TargetLaw:
    """Keeps one card at the target or under."""

    def __init__(
        self, settings: CardSettings, limits: tuple[int, int], full_at_c: float, learnt: Learnt | None = None
    ) -> None:
        """`limits` are the lowest and highest duty in percent; from `full_at_c` on the fans are at the highest."""
        self._full_at_c = full_at_c
        self.model = CardModel(learnt)
        self._load = Load()
        self._outlook: list[float] = []
        self.own_percent = limits[0]
        """The duty that the card itself calls for, without what its neighbours do."""
        self._last_s = math.inf
        self._near_s = 0.0
        # The latest readings, °C.
        self._latest_c: deque[float] = deque(maxlen=BRAKE_READINGS)
        self._duty: int | None = None
        # The duty before it is rounded up, percent.
        self._level = 0.0
        # What is wanted until the next bin of power is full; None: to be worked out.
        self._planned: float | None = None
        # Whether the model has followed the heatsink up to the last reading.
        self._anchored = False
        # How long the load had been at its level when last looked at, and whether no other is waited for any more.
        self._level_s = 0.0
        self._settled = False
        self.follow(settings, limits)

    def decide(
        self,
        now_s: float,
        temperature_c: float,
        power_w: float | None = None,
        speed_percent: float | None = None,
        neighbours_percent: Sequence[int] = (),
    ) -> Decision:
        """Duty for a valid `temperature_c` at `now_s`, after `power_w` and a fan that is at `speed_percent`.

        `neighbours_percent` are the duties of the cards that take in this one's heat. A card that does not tell its
        power is taken to draw what would explain its temperature. Time that seems to run backwards stands still.
        """
        elapsed_s = now_s - self._last_s
        self._last_s = now_s
        if not elapsed_s > 0:
            elapsed_s = 0.0
        power_w = self._sense(elapsed_s, temperature_c, power_w, speed_percent)
        if self._planned is None or self._duty is None:
            self._planned = self._plan(power_w)
        shared = for_neighbours(neighbours_percent, self._limits[1])
        if elapsed_s > _NOISE_S:
            self._latest_c.clear()
        self._latest_c.append(temperature_c)
        brake = self._brake(temperature_c if temperature_c >= self._full_at_c else min(self._latest_c))
        self.own_percent = math.ceil(max(self._planned, brake))
        least = max(self._planned, brake, shared)
        self._level = max(least, self._level - self._settings.slew_percent_per_s * elapsed_s)
        self._duty = math.ceil(round(self._level, 6))
        return self._explain(self._duty, temperature_c, power_w, brake, shared)

    def follow(self, settings: CardSettings, limits: tuple[int, int]) -> None:
        """Go by other settings from now on, starting from the duty that is set, with all that was learnt."""
        assert settings.target_c is not None  # or another law would be asked
        self._settings = settings
        self._limits = limits
        self._target_c = min(settings.target_c, self._full_at_c - BRAKE_C[1])
        self._level = min(max(self._level, limits[0]), limits[1])
        self._planned = None

    def force(self, now_s: float, duty_percent: int) -> None:
        """Something above the law has set `duty_percent` at `now_s`, in doubt of a reading: nothing is learnt."""
        self._last_s = now_s
        self._duty = duty_percent
        self._level = duty_percent
        self._anchored = False

    def forget(self) -> None:
        """The fans are the driver's again: the next decision starts afresh, with all that was learnt."""
        self._duty = None
        self._level = self._limits[0]
        self._anchored = False

    def _sense(
        self, elapsed_s: float, temperature_c: float, power_w: float | None, speed_percent: float | None
    ) -> float:
        """Bring model and outlook up to date; the power in W."""
        self._near_s += elapsed_s * (temperature_c > self._target_c - 5)
        if speed_percent is None or not 0 <= speed_percent <= _MOST_PERCENT:
            speed_percent = self._duty or self._limits[0]
        if power_w is None or not 0 <= power_w <= _MOST_W:
            self._anchored = False
            power_w = min(self.model.power(temperature_c, speed_percent), _MOST_W)
        if not self._anchored or elapsed_s > _GAP_S:
            self.model.anchor(temperature_c, power_w)
            self._anchored = True
            self._planned = None
        elif elapsed_s > 0:
            self.model.learn(elapsed_s, temperature_c, power_w, speed_percent)
        if elapsed_s <= _GAP_S and (outlook := self._load.add(elapsed_s, power_w)):
            self._outlook = outlook
            self._planned = None
        return power_w

    def _plan(self, power_w: float) -> float:
        """The duty in percent to go to now: the least that will do, unless it would not do for long enough."""
        powers_w = self._expected(power_w)
        aim_c = self._target_c - MARGIN_C - FIRST_C * math.exp(-self._near_s / FIRST_S)
        ease_s = EASE_S if self._load.level_s < STEADY_S else STEADY_EASE_S
        stays_under = partial(self.model.stays_under, aim_c, ease_s=ease_s)
        growth_s = self.model.growth_s
        least = _least(*self._limits, lambda duty: stays_under(powers_w, duty, growth_s))
        if self._duty is None:
            return least
        if self.model.excess_k(max(self._load.level_w, power_w), self._level) > COOLING_K:
            least = min(least, self._level)
        if least > self._level:
            return self._level + RISE_SHARE * (least - self._level)
        lasting = _least(least, self._level, lambda duty: stays_under(powers_w[: _bins_worth(duty)], duty))
        if lasting <= self._level - self._smallest_fall():
            return lasting
        creep_percent_per_s = CREEP_PERCENT_PER_S * min(CREEP_S / max(self._load.level_s, STEP_S), 1.0)
        return max(lasting, self._level - creep_percent_per_s * STEP_S)

    def _smallest_fall(self) -> float:
        """The smallest fall in percent that is worth making at once."""
        if self._load.level_s >= STEADY_S:
            return STEADY_FALL_PERCENT
        if self._load.dip_s is not None and (self._at_work() or not self._settled):
            return REGULAR_FALL_PERCENT
        return FALL_PERCENT

    def _expected(self, power_w: float) -> list[float]:
        """Power in W for each bin to come."""
        if not self._outlook:
            return [power_w] * _FUTURE
        level_w, level_s = self._load.level_w, self._load.level_s
        wait_s = _worth_s(self._level, WAIT_RANGE_S)
        if self._at_work():
            wait_s = WAIT_RANGE_S[0]
        elif (dip_s := self._load.dip_s) is not None and dip_s <= PATIENCE * wait_s:
            wait_s = max(wait_s, 1.1 * dip_s + STEP_S)
        self._settled = (self._settled and level_s >= self._level_s) or level_s > wait_s
        self._level_s = level_s
        expected = self._outlook
        if self._settled:  # no use in waiting for more
            expected = [min(w, level_w) for w in expected]
        if self.model.die_c(level_w) > self._target_c + MARGIN_C / 2:  # no use in hoping for less
            expected = [max(w, level_w) for w in expected]
        return expected

    def _at_work(self) -> bool:
        """Whether the load is no pause."""
        return self._load.level_w > AT_WORK * max(self._outlook, default=0.0)

    def _brake(self, temperature_c: float) -> float:
        """What the fans must be at whatever the model says, percent: plain feedback above the target."""
        low, high = self._limits
        if temperature_c >= self._full_at_c:
            return high
        over_c = temperature_c - self._target_c
        if over_c <= BRAKE_C[0]:
            return low
        brake = low + (high - low) * (over_c - BRAKE_C[0]) / (BRAKE_C[1] - BRAKE_C[0])
        return min(max(brake, self._settings.curve.duty_at(temperature_c) or low), high)

    def _explain(self, duty: int, temperature_c: float, power_w: float, brake: float, shared: float) -> Decision:
        low, high = self._limits
        if temperature_c >= self._full_at_c:
            return Decision(duty, "full", f"{temperature_c:g} °C is too close to the card's slowdown threshold")
        steady = self.model.duty_for(power_w, self._target_c)
        needs = f"{power_w:.0f} W needs "
        needs += f"{steady:.0f} at {self._target_c:g} °C" if steady < 100.5 else "more than the fans can"
        more = duty - round(min(max(steady, low), high))
        over_c = temperature_c - self._target_c
        if duty <= math.ceil(brake) and duty > low:
            return Decision(duty, "brake", f"{needs}, {more:+d} for {over_c:.3g} K over")
        if duty <= math.ceil(shared) and more > 0:
            return Decision(duty, "shared", f"{needs}, {more:+d} for a neighbour that takes in the heat")
        if duty == low and steady <= low:
            return Decision(duty, "limit", f"{needs}, {low} is the minimum")
        if abs(more) < self._settings.step_percent:
            return Decision(duty, "target", needs)
        if more > 0:
            return Decision(duty, "hold", f"{needs}, {more:+d} for what may come")
        why = f"while {-over_c:.3g} K under" if over_c < 0 else "for now"
        return Decision(duty, "target", f"{needs}, {more:+d} {why}")
