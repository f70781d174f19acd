"""The plant that a fit finds: its constants, and the parameters of which the search varies the values.

The model is that of `gpufan.gpu.simulated`. The heatsink receives the power and gives it to the inlet air through
R(d) = R0 + R1·d^-n K/W, with the duty d in 0..1. The die is a little warmer. The inlet air is warmed by the other cards
of the recording, and slowly by the card itself.
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
"""The plant of a typical card, from which the search starts. Between heatsink and air at half speed it has 0.14 K/W.
Fits of five recorded cards give 0.06 to 0.25 K/W. The simulated GTX 1080 Ti, a card with a blower, has 0.22 K/W."""

_TYPICAL_INLET_C = 30.0
"""Inlet temperature of a card in a case, °C: between a cool room and the 39 °C that reviews suggest."""

_TYPICAL_COUPLING = 0.01
"""Warming of the inlet air by each W of other cards, K/W; the simulated boxes have 0 to 0.06."""

_TYPICAL_CASE_RESISTANCE = 0.02
"""Warming of the inlet air by each W of the card itself, K/W; fits of real recordings give 0.01 to 0.05."""


@dataclass(frozen=True, slots=True)
class FittedPlant(Plant):
    """A plant with other cards beside it, which warm its inlet air."""

    coupling: float = 0.0
    """Warming of the inlet air by each W that the heatsinks of other cards give to the air, K/W."""


def steady_c(plant: Plant, power_w: float, duty_percent: float) -> float:
    """Temperature at which `plant` settles without other cards, °C."""
    return plant.inlet_c + power_w * (plant.resistance(duty_percent) + plant.case_resistance)


def plant_with_inlet(plant: P, inlet_c: float | None) -> P:
    """`plant` with the inlet temperature `inlet_c`, °C; unchanged if that is None."""
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

`inlet` (K) and `case_resistance` (K/W) are differences to the typical value. Each other parameter is the logarithm of
the ratio to the typical value: 0.5 is a factor of 1.65. `floor_share` is the logarithm of a factor to the odds of that
share, so that the share stays within 0..1.
"""


def plant_from_parameters(values: Iterable[float], usual: UsualWork) -> FittedPlant:
    """The plant with these values of `PARAMETERS`. If all are 0, it is a typical card in a case.

    The parameters are chosen so that each shows in another way in a recording: the resistance between heatsink and air
    at the usual duty, the part of it that no air flow removes, its exponent, and so on. If all cards work at the same
    times, the heat of the others looks like more resistance; if the others work evenly, it looks like warmer air. So
    resistance and inlet are parameters that include the heat of the others, which is subtracted here.
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
