"""The temperature of a card over a stretch of its recording, as a plant predicts it. Needs numpy and scipy.

Each step is that of `gpufan.core.thermal.approach`. All steps are solved at once, because a fit makes some hundred
predictions.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded

from gpufan.tune.plant import FittedPlant
from gpufan.tune.recorded_cards import Stretch

Array = NDArray[np.float64]

_START_DEVIATION_K = 5.0
"""Standard deviation of the heatsink's temperature at the start from that of a die that has settled, K."""


class Course:
    """One stretch. Predicts the temperature at each reading but the first, from power and fan speed alone."""

    def __init__(self, stretch: Stretch) -> None:
        time_s, temperature_c, power_w, speed_percent, _, others_w, _ = map(np.array, zip(*stretch, strict=True))
        self.temperature_c = temperature_c[1:]
        """The recorded temperature at each reading but the first, °C."""
        self._first = stretch[0]
        self._seconds = np.diff(time_s)
        self._power_w = power_w[1:]
        self._others_w = others_w[1:]
        self._speeds, self._speed_numbers = np.unique(speed_percent[1:], return_inverse=True)

    def predict(self, plant: FittedPlant, known: int | None = None) -> Array:
        """Temperature at each reading but the first, °C.

        The temperature of the heatsink at the start is that which fits best, to the first `known` readings if given.
        """
        return self._solve(plant, known)[0]

    def start(self, plant: FittedPlant) -> tuple[float, float]:
        """Temperature of the heatsink in °C, and warming of the inlet air by the card in K, at the first reading.

        No reading shows them, and the card may have been at work before. They are chosen so that the prediction fits
        best.
        """
        sink_c, case_k = self._solve(plant)[1]
        return float(sink_c), float(case_k)

    def _solve(self, plant: FittedPlant, known: int | None = None) -> tuple[Array, Array]:
        """Return the values of `predict` and of `start`."""
        resistances = np.array([plant.resistance(speed) - plant.die_resistance for speed in self._speeds])
        resistance = resistances[self._speed_numbers]
        sink_left = np.exp(-self._seconds / (resistance * plant.heat_capacity))
        case_left = np.exp(-self._seconds / plant.case_time_constant_s)
        die_left = np.exp(-self._seconds / plant.die_time_constant_s)
        # The heatsinks of the others delay their heat about as much as this one does.
        others_w = _approach(sink_left, self._others_w, self._first.others_w)

        # The temperature is linear in both values of the start. Column 0: the temperature if both are 0. Columns 1 and
        # 2: what is left later of 1 K in the heatsink, and of 1 K in the inlet air.
        power_w = np.zeros((len(resistance), 3))
        power_w[:, 0] = self._power_w
        air_c = _approach(case_left, power_w * plant.case_resistance, np.array([0.0, 0.0, 1.0]))
        air_c[:, 0] += plant.inlet_c + plant.coupling * others_w
        sink_c = _approach(sink_left, air_c + power_w * resistance[:, None], np.array([0.0, 1.0, 0.0]))
        die_start_c = np.array([self._first.temperature_c, 0.0, 0.0])
        die_c = _approach(die_left, sink_c + power_w * plant.die_resistance, die_start_c)

        base_c, left = die_c[:, 0], die_c[:, 1:]
        fitted = slice(None if known is None else known - 1)
        start = self._best_start(plant, left[fitted], (self.temperature_c - base_c)[fitted])
        return base_c + left @ start, start

    def _best_start(self, plant: FittedPlant, left: Array, missing_k: Array) -> Array:
        """The values of `start` with which `left`, times these values, explains `missing_k` best."""
        # Both are likely to be those of a card that has settled, at any power, with the present temperature.
        sink_c = self._first.temperature_c - self._first.power_w * plant.die_resistance
        resistance = plant.resistance(self._first.speed_percent) - plant.die_resistance
        case_share = plant.case_resistance / (plant.case_resistance + resistance)
        case_k = max(sink_c - plant.inlet_c, 0.0) * case_share
        certainty = np.array([_START_DEVIATION_K, max(case_k / 2, 1e-3)]) ** -2.0
        likely = np.array([sink_c, case_k])
        start: Array = np.linalg.solve(left.T @ left + np.diag(certainty), left.T @ missing_k + certainty * likely)
        return start


def _approach(left: Array, ends: Array, start: Any) -> Array:
    """Value after each step from `start` on: `left` is the `remaining_share` of each step, `ends` is where it goes."""
    left_column = left if ends.ndim == 1 else left[:, None]
    right = (1 - left_column) * ends
    right[0] += left[0] * start
    bands = np.ones((2, len(left)))
    bands[1, :-1] = -left[1:]
    values: Array = solve_banded((1, 0), bands, right, check_finite=False)
    return values
