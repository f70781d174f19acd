"""A check of `pair.py`: perfect foresight for two cards at once, with both heatsinks as the state.

Duties may change freely, because a state with both duties too would be too large. So, except for the error of the
grid, no plan with limited or paid changes is quieter.
"""

import numpy as np
from numpy.typing import NDArray

from gpufan.gpu.simulated import Plant, simulated_dilution
from tests.benchmarks.bound import STEP_S, Array
from tests.benchmarks.pair import Pair


def energy(pair: Pair, limit_c: float, rows: int = 20, columns: int = 14, duties: int = 12) -> float:
    """Least mean sound energy of both cards as a share of that at full speed; infinite if full fans are too hot.

    `rows` and `columns` are the numbers of temperatures of cards 0 and 1 in the grid.
    """
    return _Joint(pair, limit_c, np.linspace(0, 1, rows) ** 2, np.linspace(0, 1, columns) ** 2, duties).solve()


class _Joint:
    """The grid: rows are temperatures of card 0, columns of card 1, from the coolest to the hottest allowed."""

    def __init__(self, pair: Pair, limit_c: float, rows: Array, columns: Array, duties: int) -> None:
        self.pair = pair
        self.rows, self.columns = rows, columns
        self.powers_w = [load.powers_w for load in pair.loads]
        self.steps = len(self.powers_w[0])
        self.duty = np.linspace(*pair.plants[0].duty_range, duties)
        limits = [limit_c - load.offsets_k for load in pair.loads]
        self._grid_of_lower(limits[1])
        self._grid_of_upper(limits[0])

    def solve(self) -> float:
        """Find the cost of each state backward in time, then the cheapest duties in whole percents forward."""
        value = np.zeros((len(self.rows), len(self.columns)))
        values = [value]
        for k in range(self.steps - 1, -1, -1):
            upper_c = self.upper_top[k] - self.upper_width[k] * self.rows[:, None]
            value = self._cost(k, upper_c, self._lower_c(k), self.duty, value).min(axis=(2, 3))
            values.append(value)
        values.reverse()

        low, high = self.pair.plants[0].duty_range
        duty = np.arange(low, high + 1.0)
        sinks_c = [plant.inlet_c + 5 for plant in self.pair.plants]
        total = 0.0
        for k in range(self.steps):
            cost = self._cost(k, np.array([[sinks_c[0]]]), np.array([sinks_c[1]]), duty, values[k + 1])[0, 0]
            if not np.isfinite(cost.min()):
                return float("inf")
            lower, upper = np.unravel_index(cost.argmin(), cost.shape)
            after_c, warming_k = self._lower_step(k, np.array([sinks_c[1]]), duty[[lower]])
            rest, decay = _card(self.pair.plants[0], duty[[upper]])
            end_c = self.pair.plants[0].inlet_c + warming_k[0, 0] + self.powers_w[0][k] * rest[0]
            sinks_c = [end_c + (sinks_c[0] - end_c) * decay[0], after_c[0, 0]]
            total += (duty[lower] / 100) ** 5 + (duty[upper] / 100) ** 5
        return float(total / self.steps / 2)

    def _grid_of_lower(self, limit_c: Array) -> None:
        plant = self.pair.plants[1]
        rest, decay = _card(plant, self.duty[[0, -1]])
        end_c = plant.inlet_c + self.powers_w[1][:, None] * rest
        hottest_c, coolest_c = _paths(plant.inlet_c + 5, end_c, decay)
        for k in range(self.steps - 1, -1, -1):
            limit_c[k] = min(limit_c[k], end_c[k, 1] + (limit_c[k + 1] - end_c[k, 1]) / decay[1])
        self.lower_limit = limit_c
        self.lower_top = np.minimum(limit_c, hottest_c)
        self.lower_width = np.maximum(self.lower_top - coolest_c, 1e-3)

    def _grid_of_upper(self, limit_c: Array) -> None:
        plant = self.pair.plants[0]
        rest, decay = _card(plant, self.duty[[0, -1]])
        end_c = plant.inlet_c + self.powers_w[0][:, None] * rest
        warmest_k = [self._lower_step(k, self.lower_top[[k]], self.duty)[1].max() for k in range(self.steps)]
        hottest_c, coolest_c = _paths(plant.inlet_c + 5, end_c + np.outer(warmest_k, (1, 0)), decay)
        limit = np.repeat(limit_c[:, None], len(self.columns), axis=1)
        for k in range(self.steps - 1, -1, -1):
            after_c, warming_k = self._lower_step(k, self._lower_c(k), self.duty[-1:])
            full_c = end_c[k, 1] + warming_k[:, 0]
            top_c = self._between(k + 1, after_c[:, 0], limit[k + 1])
            limit[k] = np.minimum(limit[k], full_c + (top_c - full_c) / decay[1])
        self.upper_limit = limit
        self.upper_top = np.minimum(limit, hottest_c[:, None])
        self.upper_width = np.maximum(self.upper_top - coolest_c[:, None], 1e-3)

    def _lower_c(self, k: int) -> Array:
        return self.lower_top[k] - self.lower_width[k] * self.columns

    def _lower_step(self, k: int, sink_c: Array, duty: Array) -> tuple[Array, Array]:
        """Temperature of card 1 after a step for each start and duty, and the warming of card 0's inlet air, K."""
        plant = self.pair.plants[1]
        rest, decay = _card(plant, duty)
        end_c = plant.inlet_c + self.powers_w[1][k] * rest
        after_c = end_c + (sink_c[:, None] - end_c) * decay
        exhaust_w = ((sink_c[:, None] + after_c) / 2 - plant.inlet_c) / rest
        return after_c, self.pair.coupling * exhaust_w * [
            simulated_dilution(d, self.pair.dilution_exponent) for d in duty
        ]

    def _between(self, k: int, lower_c: Array, of_columns: Array) -> Array:
        """Interpolate values of the columns (last axis) at step k to temperatures of card 1."""
        column, part = _locate((self.lower_top[k] - lower_c) / self.lower_width[k], self.columns)
        return of_columns[..., column] * (1 - part) + of_columns[..., column + 1] * part

    def _cost(self, k: int, upper_c: Array, lower_c: Array, duty: Array, value: Array) -> Array:
        """Cost of (row, column, card 1's duty, card 0's duty) from step k; infinite if a limit is exceeded."""
        rest, decay = _card(self.pair.plants[0], duty)
        lower_after_c, warming_k = self._lower_step(k, lower_c, duty)
        top_c, width_k, limit_c, future = (
            self._between(k + 1, lower_after_c, each)
            for each in (self.upper_top[k + 1], self.upper_width[k + 1], self.upper_limit[k + 1], value)
        )
        end_c = self.pair.plants[0].inlet_c + warming_k[..., None] + self.powers_w[0][k] * rest
        after_c = end_c + (upper_c[:, :, None, None] - end_c) * decay
        row, part = _locate((top_c[..., None] - after_c) / width_k[..., None], self.rows)
        flat = future.reshape(-1)
        index = row * top_c.size + np.arange(top_c.size).reshape(*top_c.shape, 1)
        near, far = flat[index], flat[index + top_c.size]
        sound = (duty / 100) ** 5
        cost: Array = sound + sound[:, None] + near + part * (far - near)
        cost[after_c > limit_c[..., None] + 1e-6] = np.inf
        cost[:, lower_after_c > self.lower_limit[k + 1] + 1e-6] = np.inf
        return cost


def _card(plant: Plant, duty: Array) -> tuple[Array, Array]:
    """Resistance from heatsink to air, K/W, and the remaining share of a difference after a step, at each duty."""
    rest = np.array([plant.resistance(d) for d in duty]) - plant.die_resistance
    return rest, np.exp(-STEP_S / (rest * plant.heat_capacity))


def _paths(start_c: float, end_c: Array, decay: Array) -> Array:
    """Temperature of the heatsink over time at each constant duty: one row for each duty."""
    path = [np.full(len(decay), start_c)]
    for each in end_c:
        path.append(each + (path[-1] - each) * decay)
    return np.array(path).T


def _locate(share: Array, grid: Array) -> tuple[NDArray[np.intp], Array]:
    """Cell of a share (0..1) in a grid of squares, and the position in it."""
    share = np.clip(share, 0, 1)
    cell = np.minimum((np.sqrt(share) * (len(grid) - 1)).astype(np.intp), len(grid) - 2)
    return cell, (share - grid[cell]) / (grid[cell + 1] - grid[cell])
