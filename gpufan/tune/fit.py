"""Fits a plant to the recording of a card, and states the uncertainty of its constants.

A plant is the thermal model of a card. The fit predicts the temperature from power and fan speed alone, and compares
the prediction with the recorded temperature. A constant that the recording does not determine stays near its value for
a typical card. A test shows how large the errors of predictions are: a fit of the first two thirds of the recording
predicts the last third.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gpufan.errors import GpufanError, MissingExtra
from gpufan.gpu.simulated import Plant
from gpufan.tune.plant import FittedPlant, steady_c
from gpufan.tune.recorded_cards import RecordedCard, Stretch, UsualWork, stretch_s

_SEEN = 2 / 3
"""For the test of predictions, a plant is fitted to this first share of the readings. It predicts the others."""

_SHORTEST_S = 30.0
"""For the test of predictions, a plant is not fitted to a piece of a stretch that is shorter than this, s."""

_FEWEST = 10
"""Predictions are tested only if at least this many predicted readings can be compared with the recording."""

_DRAWS = 400
"""Number of plants that represent the uncertainty of the fit."""


@dataclass(frozen=True)
class Fit:
    """The plant fitted to one card, and its uncertainty."""

    card: RecordedCard
    plant: FittedPlant
    draws: tuple[FittedPlant, ...]
    """Random plants that fit about as well as `plant`. A more probable plant is drawn more often."""
    misfit_k: float
    """Root mean square of recorded minus predicted temperature, K."""
    unseen_k: float | None
    """The error of predictions for the last third of the readings by a fit of the first two thirds, K.

    It is the root mean square of recorded minus predicted temperature. None if the recording is too short for this
    test.
    """

    def interval(self, value: Callable[[FittedPlant], float]) -> tuple[float, float]:
        """Return the lower and the upper end of an interval for a value of the card. `value` computes it from a plant.

        The interval contains the value of the real card with a probability of 90 %.
        """
        values = sorted(value(plant) for plant in self.draws)
        return values[len(values) // 20], values[-1 - len(values) // 20]

    def warm(self, power_w: float, duty_percent: float) -> FittedPlant:
        """Return the plant that is warmer than 95 % of `draws` at the power `power_w` and the duty `duty_percent`.

        For the heat of the other cards, the mean of their power is used. This mean is over the readings in which this
        card drew at least 90 % of `power_w`.
        """
        others_w = [reading.others_w for reading in self.card.readings if reading.power_w >= 0.9 * power_w]
        mean_w = statistics.fmean(others_w) if others_w else 0.0
        by_heat = sorted(self.draws, key=lambda plant: steady_c(plant, power_w, duty_percent) + plant.coupling * mean_w)
        return by_heat[-1 - len(by_heat) // 20]


def fit(card: RecordedCard) -> Fit:
    """Fit a plant to the recorded `card`.

    Raises GpufanError if the recording has too few readings of the card, MissingExtra if scipy is not installed.
    """
    try:
        from gpufan.tune.search import search
    except ImportError:
        raise MissingExtra("a fit needs", "scipy", "tune") from None
    if not card.stretches:
        raise GpufanError(
            f"{card.label}: the recording has no full minute with temperature, power and fan speed at least every 10 s:"
            " record for longer"
        )
    found = search(card.stretches, UsualWork.of(card.readings))
    full_scale_rpm = card.full_scale_rpm or Plant().full_scale_rpm
    plant, *draws = (replace(plant, full_scale_rpm=full_scale_rpm) for plant in (found.plant, *found.draws(_DRAWS)))
    return Fit(card, plant, tuple(draws), found.misfit_k, _fit_error_on_unseen_k(card.stretches))


def _fit_error_on_unseen_k(stretches: Sequence[Stretch]) -> float | None:
    """Return `Fit.unseen_k`, K: fit a plant to the first two thirds of the readings, and test it with the others.

    Returns None if the recording is too short for this test.
    """
    from gpufan.tune.course import prediction_errors_k
    from gpufan.tune.search import root_mean_square, search

    count = round(_SEEN * sum(map(len, stretches)))
    seen, rest = [], count
    for stretch in stretches:
        seen.append(stretch[:rest])
        rest = max(rest - len(stretch), 0)
    seen = [piece for piece in seen if piece and stretch_s(piece) >= _SHORTEST_S]
    if not seen:
        return None
    usual = UsualWork.of([reading for piece in seen for reading in piece])
    errors_k = prediction_errors_k(stretches, search(seen, usual).plant, count)
    return root_mean_square(errors_k) if len(errors_k) >= _FEWEST else None
