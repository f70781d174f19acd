"""The physics of a card cooled by air: its thermal resistance, how it warms up, and how loud its fans are.

Each formula is written only here. The constants of a card are in `gpufan.gpu.simulated`.
"""

import math
from collections.abc import Iterable

SOUND_EXPONENT = 5
"""The sound power of a fan is proportional to its speed raised to this exponent.

A least-squares fit to the three measurements in the docstring of `sound_db` gives 5.05.
"""

SLOWDOWN_MARGIN_C = 5
"""Fans are at full speed from this many °C below the temperature at which the card slows itself down."""

DEFAULT_SLOWDOWN_C = 90
"""The slowdown temperature that is assumed if the card reports none or an absurd one, °C."""

_REFERENCE_RPM, _REFERENCE_DB = 2400, 44.5
_AUDIBLE_RPM = 100
"""A fan that turns more slowly than this is silent."""


def thermal_resistance(floor: float, flow: float, exponent: float, speed: float) -> float:
    """Return the thermal resistance from a card to its inlet air, K/W: floor + flow * speed^-exponent.

    `floor` is the part that no air flow removes, K/W. `flow` is the other part at `speed` 1, K/W. `speed` is the duty
    or fan speed as a share of the speed for which `flow` is given; it must be above 0. Forced convection has an
    exponent of 0.5 (laminar flow) to 0.8 (turbulent flow); the operating points of GTX 1080 Ti cards in reviews fit
    0.08 + 0.108 * duty^-0.8 K/W.

    >>> round(thermal_resistance(0.08, 0.108, 0.8, 0.5), 3)
    0.268
    """
    return floor + flow * math.pow(speed, -exponent)


def remaining_share(seconds: float, time_constant_s: float) -> float:
    """Return the share of a temperature difference that is left after `seconds`: e^(-seconds / time_constant_s).

    The time constant of a heatsink is its resistance (K/W) times its heat capacity (J/K).
    """
    return math.exp(-seconds / time_constant_s)


def approach(value: float, end: float, remaining: float) -> float:
    """Return a temperature or power after a time step. It moves exponentially from `value` towards `end`.

    `remaining` is the result of `remaining_share` for the step. The result is exact, so a step of any length is stable.

    >>> approach(20, 80, 0.25)
    65.0
    """
    return end + (value - end) * remaining


def full_speed_from_c(slowdown_c: float | None) -> float:
    """Return the temperature from which fans run at full speed, °C: 5 °C below the slowdown temperature `slowdown_c`.

    If the card reports no slowdown temperature (None), or an absurd one, 90 °C is assumed.

    >>> full_speed_from_c(96), full_speed_from_c(None)
    (91, 85)
    """
    if slowdown_c is None or not 60 <= slowdown_c <= 120:
        slowdown_c = DEFAULT_SLOWDOWN_C
    return slowdown_c - SLOWDOWN_MARGIN_C


def sound_db(rpm: float) -> float:
    """Return the sound of the fans of one card at `rpm`, dB(A); 0 below 100 rpm.

    The formula fits measurements of a GTX 1080 Ti Founders Edition: 29 dB(A) at 1100 rpm, 44.5 dB(A) at 2400 rpm and
    55 dB(A) at 3600 rpm (computerbase.de, March 2017).
    """
    return _REFERENCE_DB + 10 * SOUND_EXPONENT * math.log10(rpm / _REFERENCE_RPM) if rpm > _AUDIBLE_RPM else 0.0


def mean_sound_db(mean_energy: float) -> float:
    """Return the mean sound by energy, dB(A). `mean_energy` is the mean of rpm^`SOUND_EXPONENT` over time."""
    return sound_db(math.pow(mean_energy, 1 / SOUND_EXPONENT))


def total_sound_db(sounds_db: Iterable[float]) -> float:
    """Return the sound of several sources together, dB(A). A source of 0 is silent.

    >>> round(total_sound_db([40, 40, 0]), 1)
    43.0
    """
    audible = [level for level in sounds_db if level]
    return 10 * math.log10(sum(10 ** (level / 10) for level in audible)) if audible else 0.0
