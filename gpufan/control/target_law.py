"""The target law: no warmer than a target, with the least sound. It learns the card while it controls it.

Three parts, each of which can be read alone:

* `CardModel`, in `model.py`, is what is believed of the card: how its temperature follows from power and duty. An
  extended Kalman filter keeps it true: each reading corrects it by as much as it is in doubt.
* `Load`, in `load.py`, is what the power may do next: the same once more if it repeats, and else to go on as it is, for
  as long again as it has done so far.
* `TargetLaw` looks ahead with both, and takes the lowest duty that will keep the target until then. Well above the
  target neither counts: the curve and a brake say how fast the fans must be at least.

Sound grows with the fifth power of fan speed, so the quietest way to move the same heat is an even one, and a degree
below the target is paid for in sound: near 80 °C some 0.8 dB(A). But a change is heard as well, so fans do not follow
what will soon be undone.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import cycle, islice

from gpufan.control.card_model import STEP_S, CardModel, Learnt
from gpufan.control.law import Decision
from gpufan.control.load import FUTURE_BINS, FUTURE_S, Load
from gpufan.core.card_settings import CardSettings

MARGIN_C = 0.2
"""The law aims so many °C under the target, since a reading is rounded to whole degrees."""

FIRST_C, FIRST_S = 1.5, 50.0
"""It aims lower by so many °C at first, and by less and less over this many seconds near the target: what is believed
of a card is tried where a mistake costs least."""

NEAR_K = 10.0
"""Temperatures above the target less this are near it."""

BRAKE_C = (1.0, 3.0)
"""So far above the target, in °C, the brake begins at the lowest duty and ends at the highest."""

BRAKE_READINGS = 3
"""The brake goes by the lowest of so many readings: one alone may be noise, and would cost 30 points."""

JUMP_C = 2.0
"""A jump of power to the card's limit may put the die so many °C above the target at once, which no fan can change: so
long before, the heatsink is kept cool enough."""

OVERWHELMED_S = 10.0
"""A card that full fans leave too hot for so many seconds, and for good by all that is known of it, asks the others of
its box to take it for a neighbour. In one box they breathe one another's air."""

FULL_TOLERANCE_PERCENT = 10.0
"""Fans this much slower than the highest duty are not at full speed yet, or do not obey."""

WORTH_S = 3.2
"""Fans fall only to what will do for this many seconds over the fourth power of the duty (0..1).

That is where the sound saved is worth the change: 30 s at 57 %, a minute at 48 %, five minutes at 32 %.
"""

UNNEEDED_S, SELDOM_S = 100.0, 900.0
"""A duty last needed a time ago is taken not to be needed for as long again and so much more, s: fans fall to where
that is worth it, and by and by further; all the way down when it has not been needed for `SELDOM_S`."""

NEEDED_PERCENT = 4.0
"""What calls for so little less than the duty needs it."""

WORTH_RANGE_S = (30.0, FUTURE_S)
"""No look ahead for a fall is shorter or longer."""

WAIT_RANGE_S = (10.0, 60.0)
"""How long the fans wait for a load to come back, s: at least, and as long as pauses are not known yet, at most."""

PATIENCE = 3.0
"""Pauses that are all alike are waited for up to so many times as long as a fall would have to be worth it."""

EVEN_SHARE = 0.45
"""A load that repeats gets one even duty, jobs and pauses alike, where that is worth falling to for no less than this
share of the pauses. In longer pauses of louder loads a fall pays."""

STEADY_S = 120.0
"""A job that has not changed for so long is steady: what its temperature does then is mostly noise."""

FALL_PERCENT, REGULAR_FALL_PERCENT, STEADY_FALL_PERCENT = 12.0, 6.0, 15.0
"""Smallest falls worth making at once: usually, in a load or a pause like those before, and in a steady job.

Smaller ones are made at `CREEP_PERCENT_PER_S`, which nobody hears.
"""

CREEP_PERCENT_PER_S, CREEP_S = 0.03, 200.0
"""Creeping slows down when a job has been the same for longer than so many seconds, or it would find out again and
again what is too little."""

STEADY_EASE_S = 40.0
"""Takes the place of `EASE_S` in a steady job, s: what oversteps the target by some tenths goes as it came."""

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


def for_neighbours(duties_percent: Iterable[int], highest_percent: int) -> float:
    """The duty in percent at which a card's fans should run for neighbours that take in its heat.

    A share of their duty; and all there is where one has no more of its own.
    """
    loudest = max(duties_percent, default=0)
    return float(highest_percent) if loudest >= highest_percent else NEIGHBOUR_SHARE * loudest


def _worth_s(duty_percent: float) -> float:
    """For how long a duty must do so that it is worth falling to, s."""
    return WORTH_S / (max(duty_percent, 1.0) / 100) ** 4


def _worth_falling_to(lasts_s: float) -> float:
    """The lowest duty in percent that is worth falling to where it will do for so long."""
    return 100 * math.pow(WORTH_S / lasts_s, 0.25)


def _bins_worth(duty_percent: float) -> int:
    return int(min(max(_worth_s(duty_percent), WORTH_RANGE_S[0]), WORTH_RANGE_S[1]) / STEP_S)


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
        self,
        settings: CardSettings,
        limits: tuple[int, int],
        full_at_c: float,
        learnt: Learnt | None = None,
        power_limit_w: float | None = None,
    ) -> None:
        """`limits` are the lowest and highest duty in percent; from `full_at_c` on the fans are at the highest.

        `power_limit_w` is the most that the card may draw; None: it does not tell.
        """
        self._full_at_c = full_at_c
        self.model = CardModel(learnt)
        self._load = Load()
        self.own_percent = limits[0]
        """The duty that the card itself calls for, without what its neighbours do."""
        self._overwhelmed_s = 0.0
        self._power_limit_w = power_limit_w
        # The most that was drawn for more than a moment, where no limit is told.
        self._highest_w = 0.0
        self._last_s = math.inf
        self._near_s = 0.0
        # The latest readings, °C.
        self._latest_c: deque[float] = deque(maxlen=BRAKE_READINGS)
        self._duty: int | None = None
        # The duty before it is rounded up, percent: what the card itself is given, and with what a neighbour asks for.
        self._level = self._shared_level = 0.0
        # What is wanted until the next bin of power is full; None: to be worked out.
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
        fall = self._settings.slew_percent_per_s * elapsed_s
        self._level = max(self._planned, brake, self._level - fall)
        self._shared_level = max(self._level, shared, self._shared_level - fall)
        self._duty = math.ceil(round(self._shared_level, 6))
        self._count_overwhelmed(elapsed_s, temperature_c, speed_percent)
        return self._explain(self._duty, temperature_c, power_w, brake, shared)

    def follow(self, settings: CardSettings, limits: tuple[int, int]) -> None:
        """Go by other settings from now on, starting from the duty that is set, with all that was learnt."""
        assert settings.target_c is not None  # or another law would be asked
        self._settings = settings
        self._limits = limits
        self._target_c = min(settings.target_c, self._full_at_c - BRAKE_C[1])
        self._level = min(max(self._level, limits[0]), limits[1])
        self._shared_level = min(max(self._shared_level, limits[0]), limits[1])
        self._planned = None

    def force(self, now_s: float, duty_percent: int) -> None:
        """Something above the law has set `duty_percent` at `now_s`, in doubt of a reading: nothing is learnt."""
        self._last_s = now_s
        self._duty = duty_percent
        self._level = self._shared_level = duty_percent
        self._overwhelmed_s = 0.0
        self._anchored = False

    def forget(self) -> None:
        """The fans are the driver's again: the next decision starts afresh, with all that was learnt."""
        self._duty = None
        self._level = self._shared_level = self._limits[0]
        self._overwhelmed_s = 0.0
        self._anchored = False

    def _sense(
        self, elapsed_s: float, temperature_c: float, power_w: float | None, speed_percent: float | None
    ) -> float:
        """Bring what is believed of card and load up to date; the power in W."""
        self._near_s += elapsed_s * (temperature_c > self._target_c - NEAR_K)
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
        if elapsed_s <= _GAP_S and self._load.add(elapsed_s, power_w):
            self._planned = None
        return power_w

    def _plan(self, power_w: float) -> float:
        """The duty in percent to go to now: the least that will do, unless it would not do for long enough."""
        load = self._load
        # Peaks that come again and again are known to the tenth of a degree.
        margin_c = 0.0 if load.period_w else MARGIN_C
        aim_c = self._target_c - margin_c - FIRST_C * math.exp(-self._near_s / FIRST_S)
        steady = load.at_work and load.level_s >= STEADY_S
        ease_s = STEADY_EASE_S if steady else self.model.tunables.ease_s
        if load.level_s > STEP_S:
            self._highest_w = max(self._highest_w, load.level_w)
        jump_w = self._power_limit_w or self._highest_w
        sink_limit_c = self.model.sink_for_jump_c(self._target_c + JUMP_C, jump_w, self._limits[1])
        stays_under = partial(self.model.stays_under, aim_c, ease_s=ease_s, sink_limit_c=sink_limit_c)
        powers_w = self._expected(power_w)
        least = self._needed(powers_w, stays_under)
        if self._duty is None:
            return least
        needed = least > self._limits[0] and least >= self._level - NEEDED_PERCENT
        self._unneeded_s = 0.0 if needed else self._unneeded_s + STEP_S
        if least > self._level:
            return self._level + RISE_SHARE * (least - self._level)
        return self._fallen(least, powers_w, stays_under, steady=steady)

    def _fallen(self, least: float, powers_w: list[float], stays_under: Callable[..., bool], *, steady: bool) -> float:
        """The duty in percent to fall to from one that is more than the `least` that will do."""
        load = self._load
        if self._waits():  # and falls to what the last job would begin with if it came again at once
            lasting = _least(least, self._level, lambda duty: stays_under(load.job_w, duty, self.model.growth_s))
        else:
            lasting = _least(least, self._level, lambda duty: stays_under(powers_w[: _bins_worth(duty)], duty))
        seldom = self._unneeded_s >= SELDOM_S
        fall = STEADY_FALL_PERCENT if steady else FALL_PERCENT
        if load.period_w or seldom or (not load.at_work and load.pause_s is not None):
            fall = REGULAR_FALL_PERCENT
        worthwhile = lasting <= self._level - fall
        if not (load.period_w or seldom):
            unneeded_s = min(UNNEEDED_S + self._unneeded_s, WORTH_RANGE_S[1])
            lasting = min(max(lasting, _worth_falling_to(unneeded_s)), self._level)
        if worthwhile:
            return lasting
        still_s = max(load.level_s, CREEP_S) if load.at_work else CREEP_S
        creep_percent_per_s = CREEP_PERCENT_PER_S * CREEP_S / still_s
        return max(lasting, self._level - creep_percent_per_s * STEP_S)

    def _expected(self, power_w: float) -> list[float]:
        """Power in W for each bin to come."""
        if self._load.period_w:
            return list(islice(cycle(self._load.period_w), FUTURE_BINS))
        return [self._load.level_w if self._load.level_s else power_w] * FUTURE_BINS

    def _needed(self, powers_w: list[float], stays_under: Callable[..., bool]) -> float:
        """The least duty in percent to begin with now, so that the target can be kept."""
        growth_s = self.model.growth_s
        period_w = self._load.period_w
        if not period_w:
            powers_w = powers_w[: math.ceil(self._load.rest_s / STEP_S)]
        least = _least(*self._limits, lambda duty: stays_under(powers_w, duty, growth_s))
        if period_w:
            even = _least(least, self._limits[1], lambda duty: stays_under(powers_w, duty))
            paused_s = STEP_S * sum(w < max(period_w) / 2 for w in period_w)
            if _worth_s(even) >= EVEN_SHARE * paused_s:
                return even
        return least

    def _waits(self) -> bool:
        """Whether the fans stay up for a load that may come back."""
        load = self._load
        if load.period_w:
            return False
        wait_s = WAIT_RANGE_S[0]
        if not load.at_work:
            worth_s = _worth_s(self._level)
            if load.pause_s is not None and load.pause_s <= PATIENCE * worth_s:
                wait_s = 1.1 * load.pause_s + STEP_S
            elif load.new:
                wait_s = min(max(2 * worth_s, wait_s), WAIT_RANGE_S[1])
        return load.level_s <= wait_s

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

    @property
    def overwhelmed(self) -> bool:
        """Whether it is too hot at full speed, and will be: only the fans of others might help."""
        return self._overwhelmed_s >= OVERWHELMED_S

    def _count_overwhelmed(self, elapsed_s: float, temperature_c: float, speed_percent: float | None) -> None:
        """Count the time for which its own fans have not been enough."""
        high = self._limits[1]
        hot = temperature_c > self._target_c + BRAKE_C[0] and self.own_percent >= high
        slow = speed_percent is not None and speed_percent < high - FULL_TOLERANCE_PERCENT
        # Fans that are winning need no help: a card may just have been left hot by the driver.
        if hot and not slow and elapsed_s <= _GAP_S and self.model.duty_for(self._load.level_w, self._target_c) >= high:
            self._overwhelmed_s += elapsed_s
        else:
            self._overwhelmed_s = 0.0

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
        if period_w := self._load.period_w:
            return Decision(duty, "target", f"{needs}, {more:+d} since it repeats every {len(period_w) * STEP_S:g} s")
        if more > 0:
            return Decision(duty, "hold", f"{needs}, {more:+d} for what may come")
        why = f"while {-over_c:.3g} K under" if over_c < 0 else "for now"
        return Decision(duty, "target", f"{needs}, {more:+d} {why}")
