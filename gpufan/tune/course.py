"""Predicts from a plant the temperature of a card over a stretch of its recording. Needs numpy and scipy.

A plant is the thermal model of a card. A stretch is a part of the recording without gaps. Each step is computed as in
`gpufan.core.thermal.approach`. All steps are solved at once, because a fit makes some hundred predictions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded

from gpufan.tune.plant import FittedPlant
from gpufan.tune.recorded_cards import Stretch

Array = NDArray[np.float64]

_START_DEVIATION_K = 5.0
"""Standard deviation of the heatsink temperature at the start of a stretch, K.

The mean is the heatsink temperature of a card that has settled at its first recorded temperature.
"""

_KNOWN_S = 60.0
"""A prediction may use the recorded temperatures of this first part of a stretch, s."""


class Course:
    """Predicts the temperature at each reading of one stretch except the first reading.

    The prediction uses the recorded power and fan speed. It uses recorded temperatures only to find the state at the
    start.
    """

    def __init__(self, stretch: Stretch) -> None:
        time_s, temperature_c, power_w, speed_percent, _, others_w, _ = map(np.array, zip(*stretch, strict=True))
        self.temperature_c = temperature_c[1:]
        """The recorded temperature at each reading except the first, °C."""
        self._first = stretch[0]
        self._seconds = np.diff(time_s)
        self._power_w = power_w[1:]
        self._others_w = others_w[1:]
        self._speeds, self._speed_numbers = np.unique(speed_percent[1:], return_inverse=True)

    def predict(self, plant: FittedPlant, known: int | None = None) -> Array:
        """Return the temperature that `plant` predicts at each reading except the first, °C.

        The prediction starts with the values of `start`. These values are chosen so that the prediction fits the first
        `known` readings best. If `known` is None, the prediction fits all readings best.
        """
        return self._solve(plant, known)[0]

    def start(self, plant: FittedPlant) -> tuple[float, float]:
        """Return two values at the first reading: the heatsink temperature, °C, and the warming of the inlet air, K.

        Only the warming by the card itself counts. The recording contains neither value, and the card may have been at
        work before the recording began. So the result is the two values with which the prediction of `plant` fits the
        stretch best.
        """
        sink_c, case_k = self._solve(plant)[1]
        return float(sink_c), float(case_k)

    def _solve(self, plant: FittedPlant, known: int | None = None) -> tuple[Array, Array]:
        """Return the result of `predict` and the result of `start`. `known` is that of `predict`."""
        resistances = np.array([plant.resistance(speed) - plant.die_resistance for speed in self._speeds])
        resistance = resistances[self._speed_numbers]
        sink_left = np.exp(-self._seconds / (resistance * plant.heat_capacity))
        case_left = np.exp(-self._seconds / plant.case_time_constant_s)
        die_left = np.exp(-self._seconds / plant.die_time_constant_s)
        # The heatsinks of the other cards delay their heat about as much as the heatsink of this card.
        others_w = _course_towards(sink_left, self._others_w, self._first.others_w)

        # The temperature is linear in both values of the start. Column 0 is the temperature if both are 0. Columns 1
        # and 2 are the rest that is left later of 1 K in the heatsink at the start, and of 1 K in the inlet air.
        power_w = np.zeros((len(resistance), 3))
        power_w[:, 0] = self._power_w
        air_c = _course_towards(case_left, power_w * plant.case_resistance, np.array([0.0, 0.0, 1.0]))
        air_c[:, 0] += plant.inlet_c + plant.coupling * others_w
        sink_c = _course_towards(sink_left, air_c + power_w * resistance[:, None], np.array([0.0, 1.0, 0.0]))
        die_start_c = np.array([self._first.temperature_c, 0.0, 0.0])
        die_c = _course_towards(die_left, sink_c + power_w * plant.die_resistance, die_start_c)

        base_c, left = die_c[:, 0], die_c[:, 1:]
        fitted = slice(None if known is None else known - 1)
        start = self._best_start(plant, left[fitted], (self.temperature_c - base_c)[fitted])
        return base_c + left @ start, start

    def _best_start(self, plant: FittedPlant, left: Array, missing_k: Array) -> Array:
        """Find the values of `start` for which `left @ start` is nearest to `missing_k` by least squares.

        `left` has a row for each reading and a column for each value of `start`. An item is the effect of 1 K in this
        value on the temperature at this reading. `missing_k` is the recorded temperature minus the prediction with
        both values at 0, K. The result also stays near the values of a card that has settled.
        """
        # Likely values are those of a card that has settled, at any power, with the present temperature.
        sink_c = self._first.temperature_c - self._first.power_w * plant.die_resistance
        resistance = plant.resistance(self._first.speed_percent) - plant.die_resistance
        case_share = plant.case_resistance / (plant.case_resistance + resistance)
        case_k = max(sink_c - plant.inlet_c, 0.0) * case_share
        certainty = np.array([_START_DEVIATION_K, max(case_k / 2, 1e-3)]) ** -2.0
        likely = np.array([sink_c, case_k])
        start: Array = np.linalg.solve(left.T @ left + np.diag(certainty), left.T @ missing_k + certainty * likely)
        return start


def _course_towards(left: Array, ends: Array, start: Any) -> Array:
    """Return the values of a quantity after each step. Before the first step, its value is `start`.

    In each step the quantity approaches the item of `ends` for this step. `left` is the `core.thermal.remaining_share`
    of each step. If `ends` has several columns, each is a quantity of its own.
    """
    left_column = left if ends.ndim == 1 else left[:, None]
    right = (1 - left_column) * ends
    right[0] += left[0] * start
    bands = np.ones((2, len(left)))
    bands[1, :-1] = -left[1:]
    values: Array = solve_banded((1, 0), bands, right, check_finite=False)
    return values


def prediction_errors_k(stretches: Sequence[Stretch], plant: FittedPlant, seen: int = 0) -> Array:
    """Return the recorded minus the predicted temperature, K, at the readings that the prediction did not use.

    A prediction may use the first `seen` readings of all `stretches`, to find the heatsink temperature at the start of
    a stretch. It may always use the first minute of each stretch.
    """
    found = [np.empty(0)]
    for stretch in stretches:
        known = max(seen, sum(reading.time_s < stretch[0].time_s + _KNOWN_S for reading in stretch))
        seen = max(seen - len(stretch), 0)
        if known < len(stretch):
            course = Course(stretch)
            found.append((course.temperature_c - course.predict(plant, known))[known - 1 :])
    return np.concatenate(found)
