"""Fits a plant to the recording of a card, and states the uncertainty of its constants.

The fit predicts the temperature from power and fan speed alone, and compares it with the recorded temperature. A
constant that the recording does not determine stays near its value for a typical card. A test shows how far predictions
can be trusted: a fit of the first two thirds of the recording predicts the last third.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gpufan.errors import GpufanError, MissingExtra
from gpufan.gpu.simulated import Plant
from gpufan.tune.plant import FittedPlant, steady_c
from gpufan.tune.recorded_cards import RecordedCard, Stretch, UsualWork, stretch_s

_SEEN = 2 / 3
"""Share of the readings to which a plant is fitted that predicts the other readings."""

_SHORTEST_S = 30.0
"""A shorter piece of a stretch is not used to fit a plant, s."""

_FEWEST = 10
"""With fewer readings a prediction is not tested."""

_DRAWS = 400
"""Number of plants that represent the uncertainty of the fit."""


@dataclass(frozen=True)
class Fit:
    """The plant fitted to one card, and its uncertainty."""

    card: RecordedCard
    plant: FittedPlant
    draws: tuple[FittedPlant, ...]
    """Plants that fit about as well, drawn at random by their probability."""
    misfit_k: float
    """Root mean square of recorded minus predicted temperature, K."""
    unseen_k: float | None
    """The same for the last third, predicted by a fit of the first two thirds, K; None if it is too short."""

    def interval(self, value: Callable[[FittedPlant], float]) -> tuple[float, float]:
        """Lower and upper end of the interval that contains `value` of the real card with a probability of 90 %."""
        values = sorted(value(plant) for plant in self.draws)
        return values[len(values) // 20], values[-1 - len(values) // 20]

    def warm(self, power_w: float, duty_percent: float) -> FittedPlant:
        """Return the plant that is warmer than 95 % of `draws` at `power_w` and `duty_percent`.

        The power of the other cards is their mean power in the readings in which this card drew about `power_w`.
        """
        others_w = [reading.others_w for reading in self.card.readings if reading.power_w >= 0.9 * power_w]
        mean_w = statistics.fmean(others_w) if others_w else 0.0
        by_heat = sorted(self.draws, key=lambda plant: steady_c(plant, power_w, duty_percent) + plant.coupling * mean_w)
        return by_heat[-1 - len(by_heat) // 20]


def fit(card: RecordedCard) -> Fit:
    """Fit a plant to `card`. Raises GpufanError if there are too few readings, MissingExtra without scipy."""
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
    """Fit a plant to the first two thirds of the readings, and return `Fit.unseen_k`."""
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
