"""Searches by least squares for the plant (thermal model) that fits a recording best. Needs numpy and scipy."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import least_squares

from gpufan.tune.course import Array, Course
from gpufan.tune.plant import PARAMETERS, FittedPlant, plant_from_parameters
from gpufan.tune.recorded_cards import Stretch, UsualWork

_MODEL_K = 0.5
"""Standard deviation of the error of the model on a real card, K. The model has few parts, so it is never exact."""

_MODEL_S = 40.0
"""An error of the model lasts for about this time, s. All readings within this time together count as one."""


@dataclass(frozen=True)
class SearchResult:
    """The plant that fits best, and its uncertainty."""

    usual: UsualWork
    values: Array
    """The values of `PARAMETERS` for `plant`."""
    covariance: Array
    """Covariance of `values`."""
    misfit_k: float
    """Root mean square of recorded minus predicted temperature, K."""

    @property
    def plant(self) -> FittedPlant:
        """The plant that fits best."""
        return plant_from_parameters(self.values, self.usual)

    def draws(self, count: int) -> list[FittedPlant]:
        """Return `count` random plants that fit about as well as `plant`. A more probable plant is drawn more often.

        Each call returns the same plants.
        """
        drawn = np.random.default_rng(1).multivariate_normal(self.values, self.covariance, count)
        return [plant_from_parameters(values, self.usual) for values in drawn]


def search(stretches: Sequence[Stretch], usual: UsualWork) -> SearchResult:
    """Search for the plant that fits `stretches` of a card best. `usual` is the usual work of the card."""
    courses = [Course(stretch) for stretch in stretches]
    deviations = np.array(list(PARAMETERS.values()))
    interval_s = statistics.median(after.time_s - before.time_s for s in stretches for before, after in pairwise(s))
    repeated = max(_MODEL_S / interval_s, 1.0)

    def misfits_k(values: Array) -> Array:
        # No card is outside these limits, and with them the numbers stay finite.
        plant = plant_from_parameters(np.clip(values, -6 * deviations, 6 * deviations), usual)
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
    return SearchResult(usual, values, np.linalg.inv(found.jac.T @ found.jac), misfit_k)


def root_mean_square(values: Array) -> float:
    """Return the square root of the mean of the squares of `values`."""
    return float(np.sqrt(np.mean(values**2)))
