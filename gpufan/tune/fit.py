"""Fits the thermal model of `gpufan.gpu.simulated` to what was recorded of a card, and says how sure that is.

The model is the simulator's: a heatsink that takes up power and gives it to the inlet air over
R(d) = R0 + R1·d^-n K/W at duty d in 0..1, and a die a little above it. Its seven constants, and how much other cards of
the recording warm the air, are found by least squares on the temperature that it predicts over the whole recording
from power and fan speed alone. What a recording does not tell is filled up from the constants of a GTX 1080 Ti, each
held to be uncertain by a factor of about two.
"""

import math
import operator
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from gpufan.errors import GpufanError, MissingExtra
from gpufan.gpu.simulated import Plant
from gpufan.tune.readings import Card, Stretch

_NOMINAL = Plant()

_NOMINAL_INLET_C = 30.0
"""Of a card in a case: between a cool room and the 39 °C that reviews suggest."""

_NOMINAL_COUPLING = 0.01
"""K/W; the simulated boxes have 0 to 0.06."""

_WIDTHS = (0.5, 1.0, 0.4, 0.5, 0.4, 0.5, 8.0, 1.5)
"""Standard deviation of each parameter of `_plant` before anything is seen; 0.5 of a logarithm is a factor of 1.65."""

_ROUNDING_K = 1 / math.sqrt(12)
"""Standard deviation of what rounding to whole degrees adds."""

_DRAWS = 400
"""Plants that stand for what the recording leaves open."""


@dataclass(frozen=True, slots=True)
class FittedPlant(Plant):
    """A plant among others."""

    coupling: float = 0.0
    """K that each W of other cards adds to the inlet, once it has passed through their heatsinks."""


@dataclass(frozen=True)
class Fit:
    """What a recording tells about a card."""

    card: Card
    plant: FittedPlant
    draws: tuple[FittedPlant, ...]
    """Plants that explain the recording about as well, drawn by how likely they are."""
    misfit_k: float
    """Root mean square of temperature read less predicted, K."""

    def interval(self, value: Callable[[FittedPlant], float]) -> tuple[float, float]:
        """Where `value` of a plant lies with a probability of nine tenths."""
        values = sorted(value(plant) for plant in self.draws)
        return values[len(values) // 20], values[-1 - len(values) // 20]

    def warm(self, power_w: float, duty_percent: float) -> FittedPlant:
        """A plant warmer than nineteen in twenty, at `power_w` and `duty_percent` beside others as they were then."""
        beside_w = [reading.others_w for reading in self.card.readings if reading.power_w >= 0.9 * power_w]
        others_w = statistics.fmean(beside_w) if beside_w else 0.0
        by_heat = sorted(
            self.draws, key=lambda plant: steady_c(plant, power_w, duty_percent) + plant.coupling * others_w
        )
        return by_heat[-1 - len(by_heat) // 20]


def steady_c(plant: Plant, power_w: float, duty_percent: float) -> float:
    """Temperature that `plant` comes to when it is alone, °C."""
    return plant.inlet_c + power_w * plant.resistance(duty_percent)


def predict(plant: FittedPlant, stretch: Stretch) -> list[float]:
    """Temperature at each reading of `stretch` but the first, °C, from its power and fan speed alone.

    What the heatsink had at the first is not told by any reading, and chosen so that the rest fits best.
    """
    rest = {speed: plant.resistance(speed) - plant.die_resistance for speed in {r.speed_percent for r in stretch}}
    sink_c = die_c = stretch[0].temperature_c
    # How much of one K more in the heatsink at the beginning is left.
    sink_share, die_share = 1.0, 0.0
    others_w = stretch[0].others_w
    predicted, shares = [], []
    before_s = stretch[0].time_s
    for time_s, _, power_w, speed_percent, _, others_now_w in stretch[1:]:
        seconds, before_s = time_s - before_s, time_s
        resistance = rest[speed_percent]
        kept = math.exp(-seconds / (resistance * plant.heat_capacity))
        die_kept = math.exp(-seconds / plant.die_time_constant_s)
        # The others' heatsinks give their heat off about as late as this one.
        others_w = others_now_w + (others_w - others_now_w) * kept
        end_c = plant.inlet_c + plant.coupling * others_w + power_w * resistance
        sink_c = end_c + (sink_c - end_c) * kept
        end_c = sink_c + power_w * plant.die_resistance
        die_c = end_c + (die_c - end_c) * die_kept
        sink_share *= kept
        die_share = sink_share + (die_share - sink_share) * die_kept
        predicted.append(die_c)
        shares.append(die_share)
    missing = sum(s * (r.temperature_c - p) for s, r, p in zip(shares, stretch[1:], predicted, strict=True))
    start_k = missing / max(sum(s * s for s in shares), 1e-9)
    return [p + start_k * s for p, s in zip(predicted, shares, strict=True)]


def fit(card: Card) -> Fit:
    """Fit a plant to `card`. Raises GpufanError where nothing can be said at all, MissingExtra without scipy."""
    try:
        import numpy as np
        from scipy.optimize import least_squares
    except ImportError:
        raise MissingExtra("a fit needs", "scipy", "tune") from None
    if not card.stretches:
        raise GpufanError(
            f"{card.label}: no whole minute of readings that follow one another within 10 s, with temperature,"
            " power and fan speed"
        )
    usual = _Usual.of(card)

    def misfits(values: Sequence[float]) -> list[float]:
        plant = _plant(values, usual)
        return [
            reading.temperature_c - predicted
            for stretch in card.stretches
            for reading, predicted in zip(stretch[1:], predict(plant, stretch), strict=True)
        ]

    # What a reading weighs depends on how well the model fits, so that is found in a first round.
    widths = np.array(_WIDTHS)
    values, width_k = np.zeros(len(widths)), 1.0
    for _ in range(3):
        result = least_squares(
            lambda v: np.concatenate([np.array(misfits(v)) / width_k, v / widths]),  # noqa: B023  # called at once
            values,
            bounds=(-6 * widths, 6 * widths),  # nobody lives there, and numbers stay within what can be computed
            x_scale=widths,
            xtol=1e-4,
            ftol=1e-6,
        )
        values = result.x
        rest_k = misfits(values)
        misfit_k = math.sqrt(sum(k * k for k in rest_k) / len(rest_k))
        width_k = max(misfit_k, _ROUNDING_K) * math.sqrt(_repetition(card, rest_k))
    covariance = np.linalg.inv(result.jac.T @ result.jac)
    draws = np.random.default_rng(1).multivariate_normal(values, covariance, _DRAWS)
    full_scale_rpm = card.full_scale_rpm or _NOMINAL.full_scale_rpm
    plant, *others = (replace(_plant(v, usual), full_scale_rpm=full_scale_rpm) for v in (values, *draws))
    return Fit(card, plant, tuple(others), misfit_k)


class _Usual(NamedTuple):
    """How a card was worked while it was recorded."""

    duty: float
    """Of its fans, 0..1."""
    others_slope: float
    others_w: float
    """The power of other cards is about `others_slope` times its own and `others_w` more."""

    @classmethod
    def of(cls, card: Card) -> "_Usual":
        """What was usual for `card`."""
        powers_w, others_w = ([r.power_w for r in card.readings], [r.others_w for r in card.readings])
        duty = max(statistics.median(r.speed_percent for r in card.readings) / 100, 0.05)
        if min(powers_w) == max(powers_w):
            return cls(duty, 0.0, statistics.fmean(others_w))
        return cls(duty, *statistics.linear_regression(powers_w, others_w))


def _plant(values: Sequence[float], usual: _Usual) -> FittedPlant:
    """The plant that `values` stand for; all 0 are the nominal card in a case.

    Chosen so that each is told by something else in a recording, as far as can be. First the resistance between
    heatsink and air at the usual duty, then how much of it no air flow can remove, and how the rest falls. Where all
    cards work at once, the heat of the others looks like more of that resistance, and where they work on evenly, like
    warmer air: so both are found with it, and then without.
    """
    resistance, share, exponent, die, die_time, capacity, inlet, log_coupling = (float(value) for value in values)
    nominal_floor = _NOMINAL.resistance_floor - _NOMINAL.die_resistance
    nominal_flow = _NOMINAL.resistance_flow * usual.duty**-_NOMINAL.resistance_exponent
    # In the logarithm of the odds, so that it stays within 0 and 1.
    odds = nominal_floor / nominal_flow * math.exp(share)
    coupling = _NOMINAL_COUPLING * math.exp(log_coupling)
    with_others = (nominal_floor + nominal_flow) * math.exp(resistance)
    whole = max(with_others - coupling * usual.others_slope, with_others / 4)
    die_resistance = _NOMINAL.die_resistance * math.exp(die)
    n = _NOMINAL.resistance_exponent * math.exp(exponent)
    return FittedPlant(
        resistance_floor=die_resistance + whole * odds / (1 + odds),
        resistance_flow=whole / (1 + odds) * usual.duty**n,
        resistance_exponent=n,
        die_resistance=die_resistance,
        die_time_constant_s=_NOMINAL.die_time_constant_s * math.exp(die_time),
        heat_capacity=_NOMINAL.heat_capacity * math.exp(capacity),
        inlet_c=_NOMINAL_INLET_C + inlet - coupling * usual.others_w,
        coupling=coupling,
    )


def _repetition(card: Card, misfits_k: Sequence[float]) -> float:
    """How many readings say the same as another: so many count as one.

    A reading of whole degrees that stays where it is repeats its error of rounding, as does one that comes again with
    every epoch; and what the model does not know stays wrong for a while.
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
