"""Fits the thermal model of `gpufan.gpu.simulated` to the recording of a card, with the uncertainty of each constant.

The model is the simulator's: a heatsink receives the power and gives it to the inlet air through R(d) = R0 + R1·d^-n
K/W, with the duty d in 0..1; the die is a little warmer. The fit finds the seven constants, and how much other cards of
the recording warm the air, by least squares: it predicts the temperature from power and fan speed alone and compares it
with the recorded temperature. Constants that the recording does not determine stay near those of a GTX 1080 Ti, which
are uncertain by a factor of about two.
"""

import math
import operator
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from gpufan.core.thermal import approach, remaining_share, thermal_resistance
from gpufan.errors import GpufanError, MissingExtra
from gpufan.gpu.simulated import Plant
from gpufan.tune.recorded_cards import RecordedCard, Stretch

_NOMINAL = Plant()

_NOMINAL_INLET_C = 30.0
"""Inlet temperature of a card in a case, °C: between a cool room and the 39 °C that reviews suggest."""

_NOMINAL_COUPLING = 0.01
"""Warming of the inlet air by each W of other cards, K/W; the simulated boxes have 0 to 0.06."""

_DEVIATIONS = (0.5, 1.0, 0.4, 0.5, 0.4, 0.5, 8.0, 1.5)
"""Standard deviation of each parameter of `_plant` before the recording; 0.5 of a logarithm is a factor of 1.65."""

_ROUNDING_K = 1 / math.sqrt(12)
"""Standard deviation that rounding to whole degrees adds, K."""

_DRAWS = 400
"""Number of plants that represent the uncertainty of the fit."""


@dataclass(frozen=True, slots=True)
class FittedPlant(Plant):
    """A plant with other cards beside it."""

    coupling: float = 0.0
    """Warming of the inlet air by each W of other cards, after it has passed through their heatsinks, K/W."""


@dataclass(frozen=True)
class Fit:
    """The result for one card."""

    card: RecordedCard
    plant: FittedPlant
    draws: tuple[FittedPlant, ...]
    """Plants that explain the recording about as well, drawn by their probability."""
    misfit_k: float
    """Root mean square of recorded minus predicted temperature, K."""

    def interval(self, value: Callable[[FittedPlant], float]) -> tuple[float, float]:
        """The interval that contains `value` of the card with a probability of 90 %."""
        values = sorted(value(plant) for plant in self.draws)
        return values[len(values) // 20], values[-1 - len(values) // 20]

    def warm(self, power_w: float, duty_percent: float) -> FittedPlant:
        """A plant that is warmer than 95 % of the draws at `power_w` and `duty_percent`.

        The other cards draw what they drew when this card drew about `power_w`.
        """
        others_w = [reading.others_w for reading in self.card.readings if reading.power_w >= 0.9 * power_w]
        mean_w = statistics.fmean(others_w) if others_w else 0.0
        by_heat = sorted(self.draws, key=lambda plant: steady_c(plant, power_w, duty_percent) + plant.coupling * mean_w)
        return by_heat[-1 - len(by_heat) // 20]


def steady_c(plant: Plant, power_w: float, duty_percent: float) -> float:
    """Temperature at which `plant` settles without other cards, °C."""
    return plant.inlet_c + power_w * plant.resistance(duty_percent)


def predict(plant: FittedPlant, stretch: Stretch) -> list[float]:
    """Temperature at each reading of `stretch` but the first, °C, from power and fan speed alone.

    No reading shows the temperature of the heatsink at the start. It is chosen so that the prediction fits best.
    """
    rest = {speed: plant.resistance(speed) - plant.die_resistance for speed in {r.speed_percent for r in stretch}}
    sink_c = die_c = stretch[0].temperature_c
    # How much is left of 1 K more in the heatsink at the start.
    sink_share, die_share = 1.0, 0.0
    others_w = stretch[0].others_w
    predicted, shares = [], []
    before_s = stretch[0].time_s
    for time_s, _, power_w, speed_percent, _, others_now_w, _ in stretch[1:]:
        seconds, before_s = time_s - before_s, time_s
        resistance = rest[speed_percent]
        remaining = remaining_share(seconds, resistance * plant.heat_capacity)
        die_remaining = remaining_share(seconds, plant.die_time_constant_s)
        # The heatsinks of the others delay their heat about as much as this one does.
        others_w = approach(others_w, others_now_w, remaining)
        sink_c = approach(sink_c, plant.inlet_c + plant.coupling * others_w + power_w * resistance, remaining)
        die_c = approach(die_c, sink_c + power_w * plant.die_resistance, die_remaining)
        sink_share *= remaining
        die_share = approach(die_share, sink_share, die_remaining)
        predicted.append(die_c)
        shares.append(die_share)
    missing = sum(s * (r.temperature_c - p) for s, r, p in zip(shares, stretch[1:], predicted, strict=True))
    start_k = missing / max(sum(s * s for s in shares), 1e-9)
    return [p + start_k * s for p, s in zip(predicted, shares, strict=True)]


def fit(card: RecordedCard) -> Fit:
    """Fit a plant to `card`. Raises GpufanError if there are too few readings, MissingExtra without scipy."""
    try:
        import numpy as np
        from scipy.optimize import least_squares
    except ImportError:
        raise MissingExtra("a fit needs", "scipy", "tune") from None
    if not card.stretches:
        raise GpufanError(
            f"{card.label}: the recording has no full minute with temperature, power and fan speed at least every 10 s:"
            " record for longer"
        )
    usual = _Usual.of(card)

    def misfits(values: Sequence[float]) -> list[float]:
        plant = _plant(values, usual)
        return [
            reading.temperature_c - predicted
            for stretch in card.stretches
            for reading, predicted in zip(stretch[1:], predict(plant, stretch), strict=True)
        ]

    # The weight of a reading depends on how well the model fits, so each round uses the misfit of the one before.
    deviations = np.array(_DEVIATIONS)
    values, reading_k = np.zeros(len(deviations)), 1.0
    for _ in range(3):
        result = least_squares(
            lambda v: np.concatenate([np.array(misfits(v)) / reading_k, v / deviations]),  # noqa: B023  # called at once
            values,
            bounds=(-6 * deviations, 6 * deviations),  # no card is outside, and the numbers stay finite
            x_scale=deviations,
            xtol=1e-4,
            ftol=1e-6,
        )
        values = result.x
        rest_k = misfits(values)
        misfit_k = math.sqrt(sum(k * k for k in rest_k) / len(rest_k))
        reading_k = max(misfit_k, _ROUNDING_K) * math.sqrt(_repetition(card, rest_k))
    covariance = np.linalg.inv(result.jac.T @ result.jac)
    draws = np.random.default_rng(1).multivariate_normal(values, covariance, _DRAWS)
    full_scale_rpm = card.full_scale_rpm or _NOMINAL.full_scale_rpm
    plant, *others = (replace(_plant(v, usual), full_scale_rpm=full_scale_rpm) for v in (values, *draws))
    return Fit(card, plant, tuple(others), misfit_k)


class _Usual(NamedTuple):
    """How a card usually worked in the recording: its fan speed, and the power of the other cards."""

    duty: float
    """Median fan speed, 0..1."""
    others_slope: float
    others_w: float
    """The power of the other cards is about `others_slope` times its own power plus `others_w`, W."""

    @classmethod
    def of(cls, card: RecordedCard) -> "_Usual":
        """Compute these values from the readings of `card`."""
        powers_w, others_w = ([r.power_w for r in card.readings], [r.others_w for r in card.readings])
        duty = max(statistics.median(r.speed_percent for r in card.readings) / 100, 0.05)
        if min(powers_w) == max(powers_w):
            return cls(duty, 0.0, statistics.fmean(others_w))
        return cls(duty, *statistics.linear_regression(powers_w, others_w))


def _plant(values: Sequence[float], usual: _Usual) -> FittedPlant:
    """The plant for the parameters `values`; all 0 is the nominal card in a case.

    The parameters are chosen so that each shows in another way in a recording: the resistance between heatsink and air
    at the usual duty, the part of it that no air flow removes, its exponent, and so on. If all cards work at the same
    times, the heat of the others looks like more resistance; if the others work evenly, it looks like warmer air. So
    resistance and inlet are parameters that include the heat of the others, which is subtracted here.
    """
    resistance, share, exponent, die, die_time, capacity, inlet, log_coupling = (float(value) for value in values)
    nominal_floor = _NOMINAL.resistance_floor - _NOMINAL.die_resistance
    nominal_flow = thermal_resistance(0, _NOMINAL.resistance_flow, _NOMINAL.resistance_exponent, usual.duty)
    # The logarithm of the odds is the parameter, so that the share of the floor stays between 0 and 1.
    odds = nominal_floor / nominal_flow * math.exp(share)
    coupling = _NOMINAL_COUPLING * math.exp(log_coupling)
    with_others = (nominal_floor + nominal_flow) * math.exp(resistance)
    alone = max(with_others - coupling * usual.others_slope, with_others / 4)
    die_resistance = _NOMINAL.die_resistance * math.exp(die)
    n = _NOMINAL.resistance_exponent * math.exp(exponent)
    return FittedPlant(
        resistance_floor=die_resistance + alone * odds / (1 + odds),
        resistance_flow=thermal_resistance(0, alone / (1 + odds), n, 1 / usual.duty),
        resistance_exponent=n,
        die_resistance=die_resistance,
        die_time_constant_s=_NOMINAL.die_time_constant_s * math.exp(die_time),
        heat_capacity=_NOMINAL.heat_capacity * math.exp(capacity),
        inlet_c=_NOMINAL_INLET_C + inlet - coupling * usual.others_w,
        coupling=coupling,
    )


def _repetition(card: RecordedCard, misfits_k: Sequence[float]) -> float:
    """How many readings count as one, because they repeat the same error.

    A temperature in whole degrees that does not change repeats its rounding error, and so does a change that comes
    again in every epoch. An error of the model lasts for a while.
    """
    new = {
        (before.temperature_c, after.temperature_c, round(after.power_w, -1), round(after.speed_percent))
        for stretch in card.stretches
        for before, after in pairwise(stretch)
        if before.temperature_c != after.temperature_c
    }
    power = sum(k * k for k in misfits_k) or 1e-9
    correlated = 1.0
    for lag in range(1, len(misfits_k) // 4):
        correlation = sum(map(operator.mul, misfits_k, misfits_k[lag:])) / power
        if correlation < 0.05:
            break
        correlated += 2 * correlation
    return max(len(misfits_k) / (len(new) + 1), correlated)
