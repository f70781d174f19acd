"""The bound for one card that shares no air: the least sound with perfect foresight, by dynamic programming.

The plan knows the card and the power of the hour to come. It may raise the duty at once and lower it by two points a
second, and each change has a price. Of all plans that stay under a temperature limit it has the least mean of rpm^5,
price included. The temperature is that of the heatsink plus the rise of the die under the load without its noise. The
noise moves the die by a degree or two for a second, and no fan can prevent that, so no law is judged by it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpufan.core.thermal import sound_db
from gpufan.daemon.summary import Swings
from gpufan.gpu.simulated import Plant, SimulatedGpu, Workload, simulated_dilution
from tests.benchmarks import family

STEP_S = 5

FALL_PERCENT_PER_S = 2.0
"""The same as in gpufan's laws."""

CHANGE_PRICE_S = 0.08
"""Price of a change by one point: the sound energy of this time at full speed, s. Without a price the plan swings with
every short job, to gain half a decibel; with a price it finds one duty for a series of them."""

LIMITS_C = (28, 36, 44, 60, 68, 72, 76, 80, 84)
"""Limits with a bound, °C; bounds between them are interpolated. From 84 °C cards lower their clocks."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Plan:
    """The quietest hour under a limit."""

    duties: Array
    """Duty of each step, percent."""
    full_scale_rpm: float

    @property
    def energy(self) -> float:
        """Mean sound energy, as a share of that at full speed."""
        return float(np.mean((self.duties / 100) ** 5))

    @property
    def sound_db(self) -> float:
        """Energy mean of the sound, dB(A)."""
        return sound_db(self.energy**0.2 * self.full_scale_rpm)

    @property
    def cost(self) -> float:
        """The cost that the plan minimises: the energy and the price of all changes."""
        changes = np.abs(np.diff(self.duties)).sum()
        return self.energy + CHANGE_PRICE_S * float(changes) / (len(self.duties) * STEP_S)

    @property
    def swings(self) -> int:
        """Number of swings, counted as for laws."""
        swings = Swings()
        for duty in self.duties:
            swings.add(float(duty))
        return swings.count


@dataclass(frozen=True, slots=True)
class Bound:
    """The least sound at every limit, for one box and one workload."""

    lowest_c: float
    """The lowest limit that is possible: the peak with full fans, °C."""
    limits_c: Sequence[float]
    sounds_db: Sequence[float]
    swings: Sequence[int]

    def sound_db_at(self, limit_c: float) -> float:
        """Sound in dB(A); infinite if full fans exceed the limit. Below the first limit it is constant."""
        if limit_c < self.lowest_c - 0.1 or not self.limits_c:
            return math.inf
        return float(np.interp(limit_c, self.limits_c, self.sounds_db))

    def swings_at(self, limit_c: float) -> int:
        """Swings at the nearest limit."""
        return min(zip(self.limits_c, self.swings, strict=True), key=lambda at: abs(at[0] - limit_c), default=(0, 0))[1]


class DieOffset:
    """Rise of the die over the heatsink under the load without its noise, as in the simulated card."""

    def __init__(self, plant: Plant, workload: Workload) -> None:
        self._plant = plant
        self._workload = workload
        self.kelvin = 0.0

    def advance(self, now_s: float, seconds: float) -> None:
        """Let `seconds` pass from `now_s`."""
        plant = self._plant
        asked_w = min(max(self._workload(now_s), 8.0), plant.power_limit_w)
        end_k = asked_w * plant.die_resistance
        self.kelvin = end_k + (self.kelvin - end_k) * math.exp(-seconds / plant.die_time_constant_s)


@dataclass(frozen=True, slots=True)
class Hour:
    """The load of one card for an hour."""

    powers_w: Array
    """Power of each step, noise included."""
    offsets_k: Array
    """Rise of the die over the heatsink, at the beginning of each step and at the end."""


def hour(plant: Plant, workload: Workload, seed: int, seconds: int = family.HOUR_S, card: int = 0) -> Hour:
    """The load of card number `card` of a box with `seed`, without lowered clocks."""
    gpu = SimulatedGpu(card, "card", replace(plant, target_c=1e6, slowdown_c=10**6), workload, seed)
    offset = DieOffset(plant, workload)
    powers_w, offsets_k = [], [0.0]
    for step in range(seconds // STEP_S):
        total_w = 0.0
        for half in range(2 * STEP_S):
            offset.advance(step * STEP_S + half / 2, 0.5)
            gpu.advance(0.5)
            total_w += gpu.power_w
        powers_w.append(total_w / (2 * STEP_S))
        offsets_k.append(offset.kelvin)
    return Hour(np.array(powers_w), np.array(offsets_k))


class Problem:
    """One card and its hour. Several limits are solved at once; the limit is the first axis of most arrays.

    Each step has its own grid of heatsink temperatures. It goes from the temperature that full fans would have reached
    to the highest from which full fans can still hold the limit. So each point of the grid has a finite cost. The grid
    is finer near the top, where the card is most of the hour.
    """

    def __init__(
        self,
        plant: Plant,
        load: Hour,
        *,
        temperatures: int = 96,
        spacing: float = 1.0,
        price_s: float = CHANGE_PRICE_S,
        warming_k: Array | float = 0.0,
        burden: Array | float = 0.0,
        dilution_exponent: float = 0.0,
    ) -> None:
        """The grid has `temperatures` points, and duties `spacing` points apart: whole percents by default, as in laws.

        `price_s` is described at `CHANGE_PRICE_S`. `warming_k` is the warming of the inlet air by a neighbour at each
        step. `burden` is the cost for a neighbour of each W that leaves the card at half duty, as a share of the energy
        of a step at full speed.
        """
        self.plant = plant
        self.load = load
        self.steps = len(load.powers_w)
        self.start_c = plant.inlet_c + 5
        low, high = plant.duty_range
        self.duty = np.linspace(low, high, round((high - low) / spacing) + 1)
        self.energy = (self.duty / 100) ** 5
        self._shares = np.linspace(0, 1, temperatures) ** 2
        self._column = np.arange(len(self.duty))
        self._price = price_s / STEP_S
        self._fall_cells = int(FALL_PERCENT_PER_S * STEP_S / (self.duty[1] - self.duty[0]) + 1e-9)
        rest = np.array([plant.resistance(d) for d in self.duty]) - plant.die_resistance
        self._decay = np.exp(-STEP_S / (rest * plant.heat_capacity))
        self._inlet_c = np.broadcast_to(plant.inlet_c + warming_k, load.powers_w.shape)
        self._end_c = self._inlet_c[:, None] + load.powers_w[:, None] * rest
        self._burden = np.broadcast_to(burden, load.powers_w.shape)
        self._exhaust = np.array([simulated_dilution(d, dilution_exponent) for d in self.duty]) / rest

    def peaks_c(self) -> Array:
        """The peak at each constant duty, °C."""
        return np.max(self._constant() + self.load.offsets_k[:, None], axis=0)

    def exhaust_w(self, duties: Array) -> Array:
        """Heat that leaves the card at each step of a plan, converted to half duty, W."""
        sink_c, result = self.start_c, []
        for k, column in enumerate(np.searchsorted(self.duty, duties - 1e-6)):
            after_c = self._end_c[k, column] + (sink_c - self._end_c[k, column]) * self._decay[column]
            result.append(((sink_c + after_c) / 2 - self._inlet_c[k]) * self._exhaust[column])
            sink_c = after_c
        return np.array(result)

    def plans(self, limits_c: Iterable[float]) -> dict[float, Plan]:
        """The best plan for each limit in °C; limits that full fans exceed are left out."""
        tops_c = {limit_c: self._highest(limit_c - self.load.offsets_k) for limit_c in limits_c}
        kept = {limit_c: top_c for limit_c, top_c in tops_c.items() if self.start_c <= top_c[0]}
        if not kept:
            return {}
        chosen = self._solve(np.array(list(kept.values())))
        return {c: Plan(self.duty[row], self.plant.full_scale_rpm) for c, row in zip(kept, chosen, strict=True)}

    def _constant(self) -> Array:
        """Temperature of the heatsink at each constant duty: one row for each step."""
        path = [np.full(len(self.duty), self.start_c)]
        for end_c in self._end_c:
            path.append(end_c + (path[-1] - end_c) * self._decay)
        return np.array(path)

    def _highest(self, limit_c: Array) -> Array:
        """Highest temperature of the heatsink at each step from which full fans can still hold the limit."""
        top_c = limit_c.copy()
        for k in range(self.steps - 1, -1, -1):
            end_c = self._end_c[k, -1]
            top_c[k] = min(top_c[k], end_c + (top_c[k + 1] - end_c) / self._decay[-1])
        return top_c

    def _solve(self, tops_c: Array) -> NDArray[np.intp]:
        """Find the cost of each heatsink temperature and duty backward in time, then the cheapest duties forward."""
        constant_c = self._constant()
        self._limit_c = tops_c + 1e-6
        self._top_c = np.minimum(tops_c, constant_c[:, 0])
        self._width_k = np.maximum(self._top_c - constant_c[:, -1], 1e-3)

        value = np.zeros((len(tops_c), len(self._shares), len(self.duty)))
        values = [value]
        climb = self._price * self.duty
        for k in range(self.steps - 1, -1, -1):
            sink_c = self._top_c[:, k, None] - self._width_k[:, k, None] * self._shares
            cost = self._cost(k, sink_c, value)
            # A rise to any duty, or a fall by a few cells; the window of falls is built from ever wider windows.
            value = np.minimum.accumulate((cost + climb)[..., ::-1], axis=-1)[..., ::-1] - climb
            reach = 0
            while reach < self._fall_cells:
                cells = min(reach + 1, self._fall_cells - reach)
                fallen = cost[..., :-cells] + self._price * (self.duty[cells] - self.duty[0])
                np.minimum(cost[..., cells:], fallen, out=cost[..., cells:])
                reach += cells
            np.minimum(value, cost, out=value)
            values.append(value.astype(np.float32))
        values.reverse()

        sink_c = np.full((len(tops_c), 1), self.start_c)
        at, chosen = np.zeros(len(tops_c), np.intp), []
        for k in range(self.steps):
            cost = self._cost(k, sink_c, values[k + 1])[:, 0]
            cost += self._price * np.abs(self.duty - self.duty[at, None])
            cost[self._column < at[:, None] - self._fall_cells] = np.inf
            at = cost.argmin(axis=1)
            end_c = self._end_c[k, at, None]
            sink_c = end_c + (sink_c - end_c) * self._decay[at, None]
            chosen.append(at)
        return np.array(chosen).T

    def _cost(self, k: int, sink_c: Array, value: Array) -> Array:
        """Cost of each duty from step k at each temperature; infinite if it exceeds the limit."""
        after_c = self._end_c[k] + (sink_c[..., None] - self._end_c[k]) * self._decay
        share = np.clip((self._top_c[:, k + 1, None, None] - after_c) / self._width_k[:, k + 1, None, None], 0, 1)
        cell = np.minimum((np.sqrt(share) * (len(self._shares) - 1)).astype(np.intp), len(self._shares) - 2)
        part = (share - self._shares[cell]) / (self._shares[cell + 1] - self._shares[cell])
        flat, first = value.reshape(-1), np.arange(len(value))[:, None, None] * len(self._shares)
        index = (first + cell) * len(self.duty) + self._column
        near, far = flat[index], flat[index + len(self.duty)]
        cost: Array = self.energy + near + part * (far - near)
        if self._burden[k]:
            mean_c = (sink_c[..., None] + after_c) / 2
            cost += self._burden[k] * self._exhaust * (mean_c - self._inlet_c[k])
        cost[after_c > self._limit_c[:, k + 1, None, None]] = np.inf
        return cost


def bound(workload: str, number: int) -> Bound:
    """The bound for the single card of box `number` under `workload`."""
    (plant,) = family.draw(number).plants
    load = hour(plant, family.load(workload, number, 0), number)
    problem = Problem(plant, load)
    hottest_c, *_, coolest_c = problem.peaks_c()
    # Above the first limit that the lowest duty holds, the bound does not change.
    limits_c = [coolest_c + 0.2, *(c for c in LIMITS_C if coolest_c + 0.2 < c < hottest_c + 8)]
    found = problem.plans(limits_c)
    plans = [found[c] for c in sorted(found)]
    return Bound(float(coolest_c), sorted(map(float, found)), [p.sound_db for p in plans], [p.swings for p in plans])
