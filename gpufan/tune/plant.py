"""The plant (thermal model of a card) that a fit finds: its constants, and the parameters that the search varies.

The model is that of `gpufan.gpu.simulated`. The heatsink receives the power and gives it to the inlet air through a
thermal resistance R(d) = R0 + R1·d^-n K/W, with the duty d in 0..1. The die is a little warmer than the heatsink. The
other cards of the recording warm the inlet air, and the card itself warms it slowly.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from gpufan.core.thermal import thermal_resistance
from gpufan.gpu.simulated import Plant
from gpufan.tune.recorded_cards import UsualWork

P = TypeVar("P", bound=Plant)

_TYPICAL = replace(Plant(), resistance_floor=0.07, resistance_flow=0.068)
"""The plant of a typical card. The search starts from it.

Its thermal resistance between heatsink and air is 0.14 K/W at half fan speed. Fits of five recorded cards give 0.06 to
0.25 K/W. The simulated GTX 1080 Ti, a card with a blower, has 0.22 K/W.
"""

_TYPICAL_INLET_C = 30.0
"""Inlet temperature of a typical card in a case, °C. A cool room has less. Reviews suggest 39 °C."""

_TYPICAL_COUPLING = 0.01
"""Warming of the inlet air by each W of the other cards, K/W. The simulated boxes have 0 to 0.06 K/W."""

_TYPICAL_CASE_RESISTANCE = 0.02
"""Warming of the inlet air by each W of the card itself, K/W. Fits of real recordings give 0.01 to 0.05 K/W."""


@dataclass(frozen=True, slots=True)
class FittedPlant(Plant):
    """The plant of a card whose inlet air is also warmed by other cards in the box."""

    coupling: float = 0.0
    """Warming of the inlet air by each W that the heatsinks of other cards give to the air, K/W."""


def steady_c(plant: Plant, power_w: float, duty_percent: float) -> float:
    """Return the temperature at which `plant` settles at this power and duty, °C, if no other card warms its air."""
    return plant.inlet_c + power_w * (plant.resistance(duty_percent) + plant.case_resistance)


def plant_with_inlet(plant: P, inlet_c: float | None) -> P:
    """Return `plant` with the inlet temperature `inlet_c`, °C. If `inlet_c` is None, return `plant` unchanged."""
    return plant if inlet_c is None else replace(plant, inlet_c=inlet_c)


PARAMETERS = {
    "resistance": 0.6,
    "floor_share": 1.0,
    "exponent": 0.3,
    "die_resistance": 0.4,
    "die_time": 0.5,
    "heat_capacity": 0.5,
    "inlet": 6.0,
    "coupling": 1.5,
    "still_resistance": 0.5,
    "case_resistance": 0.02,
    "case_time": 0.6,
}
"""The parameters of `plant_from_parameters`, in their order, each with its standard deviation among cards.

`inlet` (K) and `case_resistance` (K/W) are differences from the typical value. Each other parameter is the logarithm of
a ratio to the typical value: 0.5 means a factor of 1.65. `floor_share` changes the share of the resistance that no air
flow removes. Its ratio applies to the odds of this share, so that the share stays within 0..1.
"""


def plant_from_parameters(values: Iterable[float], usual: UsualWork) -> FittedPlant:
    """Return the plant of a card. `values` are the values of `PARAMETERS`, and `usual` is the usual work of the card.

    If all values are 0, the plant is a typical card in a case. Each parameter has its own effect in a recording. For
    example, one parameter is the resistance between heatsink and air at the usual duty. Another is the part of this
    resistance that no air flow removes.

    If all cards work at the same times, the heat of the other cards looks like a higher resistance. If the other cards
    work evenly, their heat looks like warmer inlet air. So the parameters `resistance` and `inlet` include the heat of
    the other cards. This function subtracts this heat.
    """
    resistance, floor_share, exponent, die, die_time, capacity, inlet_k, log_coupling, still, case, case_time = (
        float(value) for value in values
    )
    typical_floor = _TYPICAL.resistance_floor - _TYPICAL.die_resistance
    typical_flow = thermal_resistance(0, _TYPICAL.resistance_flow, _TYPICAL.resistance_exponent, usual.duty)
    odds = typical_floor / typical_flow * math.exp(floor_share)
    coupling = _TYPICAL_COUPLING * math.exp(log_coupling)
    with_others = (typical_floor + typical_flow) * math.exp(resistance)
    alone = max(with_others - coupling * usual.others_slope, with_others / 4)
    die_resistance = _TYPICAL.die_resistance * math.exp(die)
    n = _TYPICAL.resistance_exponent * math.exp(exponent)
    return FittedPlant(
        resistance_floor=die_resistance + alone * odds / (1 + odds),
        resistance_flow=thermal_resistance(0, alone / (1 + odds), n, 1 / usual.duty),
        resistance_exponent=n,
        resistance_still=die_resistance + _TYPICAL.resistance_still * math.exp(still),
        die_resistance=die_resistance,
        die_time_constant_s=_TYPICAL.die_time_constant_s * math.exp(die_time),
        heat_capacity=_TYPICAL.heat_capacity * math.exp(capacity),
        # Beside other cards, air that warms slowly cannot be told from air that they warm.
        case_resistance=max(_TYPICAL_CASE_RESISTANCE + case, 0.0) if usual.alone else 0.0,
        case_time_constant_s=_TYPICAL.case_time_constant_s * math.exp(case_time),
        inlet_c=_TYPICAL_INLET_C + inlet_k - coupling * usual.others_w,
        coupling=coupling,
    )
