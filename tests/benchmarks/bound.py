"""How quiet one could be at best: perfect foresight by dynamic programming, for one card that shares no air.

It knows the card and every watt of the hour to come. It may raise the duty at once and lower it by two points a
second, and has the least mean of rpm^5 among all ways to keep the temperature under a limit. That temperature is the
heatsink's plus what the load, without its noise, puts the die above it: the noise moves the die by a degree or two for
a second, which no fan can help, so no law is judged by it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpufan.gpu.simulated import Plant, SimulatedGpu, Workload, sound_db
from gpufan.report.summary import Swings
from tests.benchmarks import family

STEP_S = 5
FALL_PERCENT_PER_S = 2.0
"""As in gpufan's own laws."""

CHANGE_COST = 0.1
"""What a point of change costs, in shares of a step's mean energy. Without it a plan swings with every job for a gain
of hundredths of a decibel; with it, it is at most 0.15 dB(A) louder than the quietest of all."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plan:
    """The quietest hour under a limit."""

    duties: tuple[float, ...]
    """Percent, one for each step."""
    sound_db: float
    swings: int


@dataclass(frozen=True, slots=True)
class Bound:
    """The least sound at every limit, for one box and one workload."""

    lowest_c: float
    """The lowest limit that can be kept at all: the peak with full fans."""
    limits_c: Sequence[float]
    sounds_db: Sequence[float]
    swings: Sequence[int]

    def sound_db_at(self, limit_c: float) -> float:
        """dB(A); infinite where full fans break the limit, and between that and the first limit that first one's."""
        if limit_c < self.lowest_c - 0.1 or not self.limits_c:
            return math.inf
        return float(np.interp(limit_c, self.limits_c, self.sounds_db))

    def swings_at(self, limit_c: float) -> int:
        """Swings at the limit next to it."""
        nearest = min(range(len(self.limits_c)), key=lambda i: abs(self.limits_c[i] - limit_c), default=None)
        return 0 if nearest is None else self.swings[nearest]


class DieOffset:
    """What the load alone, without its noise, puts the die above the heatsink, as the simulated card models it."""

    def __init__(self, plant: Plant, workload: Workload) -> None:
        self._plant = plant
        self._workload = workload
        self.kelvin = 0.0

    def advance(self, now_s: float, seconds: float) -> None:
        """Let `seconds` pass from `now_s` on."""
        plant = self._plant
        asked_w = min(max(self._workload(now_s), 8.0), plant.power_limit_w)
        end_k = asked_w * plant.die_resistance
        self.kelvin = end_k + (self.kelvin - end_k) * math.exp(-seconds / plant.die_time_constant_s)


def hour(plant: Plant, workload: Workload, seed: int, seconds: int) -> tuple[Array, Array]:
    """Power in W, noise included, step by step, and the die's offset in K at every step's beginning and the end."""
    # A card that never drops its clocks draws what any unthrottled one of the same seed draws.
    gpu = SimulatedGpu(0, "card", replace(plant, target_c=1e6, slowdown_c=10**6), workload, seed)
    offset = DieOffset(plant, workload)
    powers, offsets = [], [0.0]
    for step in range(seconds // STEP_S):
        total_w = 0.0
        for half in range(2 * STEP_S):
            offset.advance(step * STEP_S + half / 2, 0.5)
            gpu.advance(0.5)
            total_w += gpu.power_w
        powers.append(total_w / (2 * STEP_S))
        offsets.append(offset.kelvin)
    return np.array(powers), np.array(offsets)


def plans(
    plant: Plant,
    powers_w: Array,
    offsets_k: Array,
    limits_c: Sequence[float],
    temperatures: int = 48,
    duties: int = 55,
) -> dict[float, Plan]:
    """The best plan for each limit in °C, leaving out those that even full fans break.

    `temperatures` and `duties` are the sizes of the grid.
    """
    start_c = plant.inlet_c + 5
    problem = _Problem(plant, powers_w, np.linspace(0, 1, temperatures), duties)
    tops_c = {limit_c: problem.highest(limit_c - offsets_k) for limit_c in limits_c}
    kept = {limit_c: top_c for limit_c, top_c in tops_c.items() if start_c <= top_c[0]}
    return dict(zip(kept, problem.solve(start_c, np.array(list(kept.values()))), strict=True)) if kept else {}


class _Problem:
    """One card, one hour, several limits at once: the first axis of most arrays is the limit's.

    Heatsink temperatures are a grid of their own at each step: from what full fans would have brought it to, to the
    hottest that full fans can still keep to the limit from there on. So every point of the grid has a finite cost.
    """

    def __init__(self, plant: Plant, powers_w: Array, shares: Array, duties: int) -> None:
        low, high = plant.duty_range
        self.plant = plant
        self.shares = shares
        self.duty = np.linspace(low, high, duties)
        self.column = np.arange(duties)
        rest = np.array([plant.resistance(d) for d in self.duty]) - plant.die_resistance
        self.decay = np.exp(-STEP_S / (rest * plant.heat_capacity))
        self.end_c = plant.inlet_c + powers_w[:, None] * rest
        self.energy = (self.duty / 100) ** 5
        self.fall_cells = int(FALL_PERCENT_PER_S * STEP_S / (self.duty[1] - self.duty[0]) + 1e-9)

    def highest(self, limit_c: Array) -> Array:
        """The hottest that the heatsink may be at each step, so that full fans can keep to the limit from there on."""
        top = limit_c.copy()
        end, decay = self.end_c[:, -1], self.decay[-1]
        for k in range(len(end) - 1, -1, -1):
            top[k] = min(top[k], end[k] + (top[k + 1] - end[k]) / decay)
        return top

    def constant(self, start_c: float) -> Array:
        """Where the heatsink goes at each duty, held for the hour: one row a step."""
        path = [np.full(len(self.duty), start_c)]
        for end in self.end_c:
            path.append(end + (path[-1] - end) * self.decay)
        return np.array(path)

    def solve(self, start_c: float, tops_c: Array) -> list[Plan]:
        """Backward over what each heatsink temperature and duty will cost, then forward along the cheapest."""
        steps, limits = len(self.end_c), np.arange(len(tops_c))
        constant_c = self.constant(start_c)
        self.limit = tops_c + 1e-6
        self.top = np.minimum(tops_c, constant_c[:, 0])
        self.width = np.maximum(self.top - constant_c[:, -1], 1e-3)
        # A rough mean of the energy: that of the lowest constant duty that keeps to the limit.
        keeps = np.all(constant_c[None] <= self.limit[..., None], axis=1)
        keeps[:, -1] = True
        change = (CHANGE_COST * self.energy[keeps.argmax(axis=1)])[:, None, None]

        value = np.zeros((len(tops_c), len(self.shares), len(self.duty)))
        values = [value]
        climb = change * self.duty
        for k in range(steps - 1, -1, -1):
            temperature = self.top[:, k, None] - self.width[:, k, None] * self.shares
            cost = self._cost(k, temperature, value)
            # Up to any duty, or down by a few cells.
            value = np.minimum.accumulate((cost + climb)[..., ::-1], axis=-1)[..., ::-1] - climb
            for cells in range(1, self.fall_cells + 1):
                fallen = cost[..., :-cells] + change * (self.duty[cells] - self.duty[0])
                np.minimum(value[..., cells:], fallen, out=value[..., cells:])
            values.append(value.astype(np.float32))
        values.reverse()

        temperature = np.full((len(limits), 1), start_c)
        at, chosen = np.zeros(len(limits), np.intp), []
        for k in range(steps):
            cost = self._cost(k, temperature, values[k + 1])[:, 0]
            cost += change[:, 0] * np.abs(self.duty - self.duty[at, None])
            cost[self.column < at[:, None] - self.fall_cells] = np.inf
            at = cost.argmin(axis=1)
            end = self.end_c[k, at, None]
            temperature = end + (temperature - end) * self.decay[at, None]
            chosen.append(at)
        return [self._plan(row) for row in np.array(chosen).T]

    def _cost(self, k: int, temperature: Array, value: Array) -> Array:
        """What each duty costs at step k from each temperature on, infinite where it would break the limit."""
        end_c = self.end_c[k] + (temperature[..., None] - self.end_c[k]) * self.decay
        where = (self.top[:, k + 1, None, None] - end_c) * ((len(self.shares) - 1) / self.width[:, k + 1, None, None])
        cell = np.clip(where.astype(np.intp), 0, len(self.shares) - 2)
        share = np.clip(where - cell, 0, 1)
        flat, first = value.reshape(-1), np.arange(len(value))[:, None, None] * len(self.shares)
        index = (first + cell) * len(self.duty) + self.column
        near, far = flat[index], flat[index + len(self.duty)]
        cost: Array = self.energy + near + share * (far - near)
        cost[end_c > self.limit[:, k + 1, None, None]] = np.inf
        return cost

    def _plan(self, chosen: NDArray[np.intp]) -> Plan:
        swings = Swings()
        for i in chosen:
            swings.add(float(self.duty[i]))
        rpm = float(np.mean(self.energy[chosen])) ** 0.2 * self.plant.full_scale_rpm
        return Plan(tuple(float(self.duty[i]) for i in chosen), sound_db(rpm), swings.count)


LIMITS_C = range(26, 88, 2)
"""Above 84 °C cards drop their clocks, and nothing is compared any more."""


def bound(workload: str, number: int) -> tuple[float, list[float], list[float], list[int]]:
    """What `Bound` is made of, for box `number` at `workload`."""
    box = family.build(number, workload)
    if len(box.gpus) > 1:
        return math.inf, [], [], []
    gpu = box.gpus[0]
    powers_w, offsets_k = hour(gpu.plant, gpu.workload, number, family.HOUR_S)
    start_c = gpu.plant.inlet_c + 5
    coolest_c, hottest_c = _Problem(gpu.plant, powers_w, np.zeros(1), 2).constant(start_c).T[[1, 0]]
    lowest_c = float(np.max(coolest_c + offsets_k))
    # At the first limit above what the lowest duty leads to, that is the plan, and there is no need to ask further.
    limits_c = [c for c in LIMITS_C if lowest_c <= c < float(np.max(hottest_c + offsets_k)) + 2]
    found = plans(gpu.plant, powers_w, offsets_k, limits_c)
    kept = sorted(found)
    return lowest_c, [float(c) for c in kept], [found[c].sound_db for c in kept], [found[c].swings for c in kept]
