"""Replays a day of recorded load under other settings, in steps that are as long as the load allows.

`replay.py` ticks once a second, and needs five seconds for a day of one card. This module needs about 0.1 s. The
controller that decides is that of real cards; only the time between its decisions is longer: 1 s after a jump of the
power, then up to 14 s, and up to a minute while the load is calm and the fans are at rest. Within a step the
temperature is the exact solution for the mean power. tests/benchmarks/README.md has the error that the long steps make.

Left out are the ramp of the fans, and the limits by which clocks give way.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import struct_time
from typing import NamedTuple

from gpufan.control.controller import Controller
from gpufan.control.law import Learnt, duty_range
from gpufan.control.quiet_limit import YIELD_K
from gpufan.core.card_settings import CardSettings
from gpufan.core.gpu import Gpu, GpuInfo
from gpufan.core.thermal import full_speed_from_c
from gpufan.daemon.instructions import Instructions
from gpufan.daemon.neighbours import Neighbours
from gpufan.daemon.summary import HOT_C, Summary
from gpufan.gpu.simulated import SimulatedGpu, throttled_power_w
from gpufan.tune.plant import FittedPlant
from gpufan.tune.thinned_load import LONGEST_S, LoadPart

LocalTime = Callable[[float], struct_time]
"""Converts a time of the load, s, to the local time, for quiet hours."""


@dataclass(frozen=True)
class DayCard:
    """A card, its plant (thermal model), its load and its settings, for a replay."""

    info: GpuInfo
    plant: FittedPlant
    load: Sequence[LoadPart]
    settings: CardSettings
    learnt: Learnt | None = None
    """What the target law knows of the card at the beginning."""
    jitter_k: float = 0.0
    """Standard deviation of the temperature from reading to reading, K."""


_COOL_K = 15.0
"""A card that is cooler than its target by more than this, K, does not soon need faster fans."""


class Point(NamedTuple):
    """The card at the end of a step."""

    time_s: float
    temperature_c: float
    """The highest temperature in the step, °C."""
    duty_percent: float


class DayOutcome(NamedTuple):
    """The effect of settings on a card. Sums do not include the time before `begin_s` of `replay_day`."""

    seconds: float
    peak_c: float
    peak_s: float
    """When the card was warmest, a time of the load, s."""
    hot_s: float
    """Time above `daemon.summary.HOT_C`, s."""
    sound_db: float
    swings: int
    course: list[Point]


def replay_day(
    cards: Sequence[DayCard], wall_clock: LocalTime, begin_s: float = -math.inf, end_s: float = math.inf
) -> list[DayOutcome]:
    """Control the fans of `cards` under their loads, and return the outcome of each.

    All cards are replayed at the same time, so that a card helps its neighbours as under the daemon. The loads may
    begin before `begin_s`. That time is replayed, but not counted: temperatures and laws settle in it. Loads after
    `end_s` are left out. Raises ValueError if a card has no load before `end_s`.
    """
    replays = [_CardReplay(card, wall_clock, begin_s, end_s) for card in cards]
    running = list(replays)
    while running:
        # The card with the earliest time goes first, so that no card sees a future demand of a neighbour.
        next_card = running[0] if len(running) == 1 else min(running, key=lambda card: card.last_s)
        if not next_card.run_part(replays):
            running.remove(next_card)
    return [card.outcome() for card in replays]


class _CardReplay:
    """One card in a replay. To `Neighbours` it is a worker."""

    def __init__(self, card: DayCard, wall_clock: LocalTime, begin_s: float, end_s: float) -> None:
        """Begin with the first part of the load. The other arguments are those of `replay_day`."""
        gpu = SimulatedGpu(card.info.index, card.info.name, card.plant, lambda _: 0.0, 1)
        gpu.info = card.info
        self.gpu: Gpu = gpu
        self._plant = plant = card.plant
        self._jitter_k = card.jitter_k
        self._resistances = [plant.resistance(percent) - plant.die_resistance for percent in range(101)]
        self._load = iter([part for part in card.load if part.end_s <= end_s])
        first = next(self._load, None)
        if first is None:
            raise ValueError(f"{card.info.label} has no load")
        self._begin_s = begin_s
        self.last_s = first.end_s
        self._clock_s = 0.0
        """The time of the controller, s. It does not count the gaps of the recording."""

        # The card has settled at its recorded temperature.
        self._speed = min(max(round(first.speed_percent), 0), 100)
        self._driver_percent = float(self._speed)
        self._clock = 1.0
        self._power_w, self._others_w = first.power_w, first.others_w
        self._die_c = self._highest_c = first.temperature_c
        self._sink_c = first.temperature_c - first.power_w * plant.die_resistance
        share = plant.case_resistance / (plant.case_resistance + self._resistances[self._speed])
        self._case_k = max(self._sink_c - plant.inlet_c, 0.0) * share
        self._ripple_k = 0.0

        self._neighbours = Neighbours()
        self._neighbours.follow([str(name) for name in card.settings.neighbours])
        self._instructions = Instructions(lambda _: card.settings, wall_clock)
        self._instructions.update(card.info, self.last_s)
        self._minute = -1.0 if card.settings.quiet_hours else math.inf
        """The minute for which quiet hours were last found. Infinity if there are none."""
        self._controller = Controller(
            self._instructions.current,
            card.info.duty_range,
            card.info.slowdown_c,
            card.learnt,
            card.info.power_limit_w,
        )
        self._limits_from_c = full_speed_from_c(card.info.slowdown_c) - YIELD_K
        self._reading_c: float | None = None
        """The last reading that the controller decided on, °C."""
        self._duty: int | None = None
        self._decide(0.0, ())

        self._seconds = 0.0
        self._summary = Summary()
        self._peak_c, self._peak_s = -math.inf, self.last_s
        self._course: list[Point] = []

    @property
    def local_demand_percent(self) -> int | None:
        """The duty that the card needs for its own heat, percent; None while the driver controls the fans."""
        return self._controller.local_demand_percent

    @property
    def saturated(self) -> bool:
        """Whether the card is too hot at full fan speed."""
        return self._controller.saturated

    def run_part(self, box: Sequence["_CardReplay"]) -> bool:
        """Replay the next part of the load. Returns whether there was one. `box` has all cards of the replay."""
        part = next(self._load, None)
        if part is None:
            return False
        steps = 1
        if part.seconds > LONGEST_S and not self._is_at_rest():
            steps = math.ceil(part.seconds / LONGEST_S)
        seconds = part.seconds / steps
        self._ripple_k = part.ripple_w * self._plant.die_resistance
        for number in range(steps, 0, -1):
            end_s = part.end_s - (number - 1) * seconds
            begin_die_c = self._die_c
            self._advance(part, seconds)
            self.last_s = end_s
            self._highest_c = max(begin_die_c, self._die_c) + self._ripple_k
            if end_s > self._begin_s:
                self._count(seconds, begin_die_c)
            demands = self._neighbours.demands_percent(end_s, self, box) if len(box) > 1 else ()
            self._clock_s += seconds
            self._decide(seconds, demands)
        return True

    def outcome(self) -> DayOutcome:
        """Return the outcome until now."""
        summary = self._summary
        return DayOutcome(
            self._seconds,
            self._peak_c,
            self._peak_s,
            summary.hot_s,
            summary.sound_db,
            summary.swings.count,
            self._course,
        )

    def _is_at_rest(self) -> bool:
        """Whether time alone changes no duty: under a curve, or under a target at the lowest duty of a cool card."""
        if self._controller.steady:
            return True
        target_c = self._instructions.current.target_c
        lowest, _ = duty_range(self.gpu.info.duty_range, self._instructions.current.min_duty_percent)
        return self._duty == lowest and target_c is not None and self._die_c < target_c - _COOL_K

    def _advance(self, part: LoadPart, seconds: float) -> None:
        """Advance the temperatures by `seconds`. While heat lowers the clocks, this is done second by second."""
        plant = self._plant
        if self._clock == 1:
            before = self._sink_c, self._die_c, self._case_k, self._others_w
            self._heat(part.power_w, part.others_w, seconds)
            if self._die_c < plant.target_c:
                return
            self._sink_c, self._die_c, self._case_k, self._others_w = before
        count = max(round(seconds), 1)
        for _ in range(count):
            self._clock = plant.next_clock(self._clock, self._die_c, plant.target_c)
            self._heat(throttled_power_w(part.power_w, self._clock), part.others_w, seconds / count)

    def _heat(self, power_w: float, others_w: float, seconds: float) -> None:
        """Advance the temperatures by `seconds` at constant power. Each formula is that of `core.thermal.approach`."""
        plant = self._plant
        resistance = self._resistances[self._speed]
        sink_s = resistance * plant.heat_capacity
        sink_left = math.exp(-seconds / sink_s)
        air_c = plant.inlet_c
        if plant.coupling:
            self._others_w = others_w + (self._others_w - others_w) * sink_left
            air_c += plant.coupling * self._others_w
        if plant.case_resistance:
            case_k = power_w * plant.case_resistance
            self._case_k = case_k + (self._case_k - case_k) * math.exp(-seconds / plant.case_time_constant_s)
            air_c += self._case_k
        sink_end_c = air_c + power_w * resistance
        # The die follows a heatsink that itself approaches its end; this is the exact solution.
        die_s = plant.die_time_constant_s
        sink_part = (self._sink_c - sink_end_c) * sink_s / (sink_s - die_s)
        die_end_c = sink_end_c + power_w * plant.die_resistance
        die_part = self._die_c - die_end_c - sink_part
        self._die_c = die_end_c + sink_part * sink_left + die_part * math.exp(-seconds / die_s)
        self._sink_c = sink_end_c + (self._sink_c - sink_end_c) * sink_left
        self._power_w = power_w

    def _count(self, seconds: float, begin_c: float) -> None:
        """Add a step to the outcome. `begin_c` is the temperature at its beginning, °C."""
        end_c = self._die_c
        highest_c = self._highest_c
        if highest_c > self._peak_c:
            self._peak_c, self._peak_s = highest_c, self.last_s
        self._seconds += seconds
        duty = self._speed
        rpm = duty / 100 * self._plant.full_scale_rpm
        if (begin_c > HOT_C) is not (end_c > HOT_C):
            share = (HOT_C - begin_c) / (end_c - begin_c)
            self._summary.add_reading(seconds * share, begin_c, rpm, duty)
            seconds *= 1 - share
        self._summary.add_reading(seconds, end_c, rpm, duty)
        self._course.append(Point(self.last_s, highest_c, duty))

    def _decide(self, seconds: float, neighbours_percent: Sequence[int]) -> None:
        """Let the controller decide after a step of `seconds`, and set the fans."""
        if self._minute < self.last_s // 60:
            self._minute = self.last_s // 60
            if self._instructions.update(self.gpu.info, self.last_s):
                self._controller.follow(self._instructions.current)
                self._reading_c = None
        reading_c = self._next_reading_c(seconds)
        if reading_c != self._reading_c or not self._controller.steady:
            self._reading_c = reading_c
            decision = self._controller.decide(
                self._clock_s,
                reading_c,
                self._power_w,
                self._speed,
                neighbours_percent,
                throttled=self._clock < 1,
            )
            self._duty = decision.duty_percent
        if self._duty is not None:
            self._speed = self._duty
            self._driver_percent = float(self._duty)
        else:
            self._driver_percent = self._plant.next_driver_percent(self._driver_percent, self._die_c, seconds)
            self._speed = round(self._driver_percent)

    def _next_reading_c(self, seconds: float) -> float:
        """Return the temperature for the controller after a step of `seconds`, °C.

        The driver reports whole degrees, every second.

        The curve law and the limits near the slowdown threshold follow the highest reading, so they get the highest
        reading of the step. The target law filters the readings, so it gets their mean: near half a degree, the ripple
        of the power and the noise of the sensor make the readings alternate.
        """
        if self._instructions.current.target_c is None or self._highest_c >= self._limits_from_c:
            # The highest of n normal values is about this far above their mean.
            jitter_k = 0.75 * self._jitter_k * math.sqrt(2 * math.log(seconds)) if seconds > 1 else 0.0
            return float(round(self._highest_c + max(jitter_k - self._ripple_k, 0.0)))
        # The readings count as evenly spread. Half the width of an even spread is 1.7 standard deviations.
        spread_k = max(self._ripple_k, 1.7 * self._jitter_k)
        if spread_k == 0:
            return float(round(self._die_c))
        whole_c = math.floor(self._die_c)
        return whole_c + min(max((self._die_c - whole_c - 0.5) / (2 * spread_k) + 0.5, 0.0), 1.0)
