"""The search for the plant that fits a recording best, by least squares. Needs numpy and scipy."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import least_squares

from gpufan.tune.course import Array, Course
from gpufan.tune.plant import PARAMETERS, FittedPlant, Usual, plant_of
from gpufan.tune.recorded_cards import Stretch

_MODEL_K = 0.5
"""Standard deviation of the error that a model of so few parts has on a real card, K."""

_MODEL_S = 40.0
"""Time for which such an error lasts, s: all readings within it count as one."""

_KNOWN_S = 60.0
"""At the start of a stretch, the temperature is known for so long before it is predicted, s."""


@dataclass(frozen=True)
class Found:
    """The result of a search."""

    usual: Usual
    values: Array
    """Values of `PARAMETERS`."""
    covariance: Array
    misfit_k: float
    """Root mean square of recorded minus predicted temperature, K."""

    @property
    def plant(self) -> FittedPlant:
        """The plant that fits best."""
        return plant_of(self.values, self.usual)

    def draws(self, count: int) -> list[FittedPlant]:
        """Plants that explain the recording about as well, drawn by their probability; the same every time."""
        drawn = np.random.default_rng(1).multivariate_normal(self.values, self.covariance, count)
        return [plant_of(values, self.usual) for values in drawn]


def search(stretches: Sequence[Stretch], usual: Usual) -> Found:
    """Find the plant that fits `stretches` best."""
    courses = [Course(stretch) for stretch in stretches]
    deviations = np.array(list(PARAMETERS.values()))
    interval_s = statistics.median(after.time_s - before.time_s for s in stretches for before, after in pairwise(s))
    repeated = max(_MODEL_S / interval_s, 1.0)

    def misfits_k(values: Array) -> Array:
        # No card is further away than the limits, and the numbers stay finite.
        plant = plant_of(np.clip(values, -6 * deviations, 6 * deviations), usual)
        return np.concatenate([course.temperature_c - course.predict(plant) for course in courses])

    def errors(values: Array, reading_k: float) -> Array:
        return np.append(misfits_k(values) / reading_k, values / deviations)

    values, misfit_k = np.zeros(len(deviations)), 0.0
    # The weight of a reading depends on how well the model fits, so the second round uses the misfit of the first.
    for _ in range(2):
        reading_k = max(misfit_k, _MODEL_K) * repeated**0.5
        found = least_squares(errors, values, args=(reading_k,), method="lm", x_scale=deviations, xtol=1e-4, ftol=1e-6)
        values = found.x
        misfit_k = root_mean_square(misfits_k(values))
    return Found(usual, values, np.linalg.inv(found.jac.T @ found.jac), misfit_k)


def unseen_misfits_k(stretches: Sequence[Stretch], plant: FittedPlant, seen: int = 0) -> Array:
    """Recorded minus predicted temperature at each reading after the first `seen` readings of `stretches`, K.

    How warm the heatsink was at the start of a stretch follows from its readings before those, or from its first
    minute, which then does not count.
    """
    found = [np.empty(0)]
    for stretch in stretches:
        known = max(seen, sum(reading.time_s < stretch[0].time_s + _KNOWN_S for reading in stretch))
        seen = max(seen - len(stretch), 0)
        if known < len(stretch):
            course = Course(stretch)
            found.append((course.temperature_c - course.predict(plant, known))[known - 1 :])
    return np.concatenate(found)


def root_mean_square(values: Array) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(values**2)))
