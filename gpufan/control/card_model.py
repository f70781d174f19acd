"""The thermal model of one card: how its temperature follows from power and duty. It predicts; it decides nothing.

    c dT/dt = p - (T - inlet) / rise,   rise = FLOOR_K + flow * (duty / 50 %)^-exponent,   die = T + die_k * p

T is the heatsink, `rise` its excess over the inlet air at the power limit, K. Power p is a share of the power limit, so
that cards of 30 W and of 450 W start from the same values. An extended Kalman filter learns all values but FLOOR_K.
"""

import math
from typing import NamedTuple

from gpufan.core.thermal import approach, remaining_share, speed_for_resistance, thermal_resistance

FLOOR_K = 7.5
"""The part of `rise` that no air flow removes, K."""

DIE_TIME_CONSTANT_S = 1.5
NOISE_C = 2.0
"""Standard deviation of a reading, °C. Larger than rounding alone, because the errors of rounding repeat."""

START = (0.0, 28.0, math.log(47.0), 0.7, math.log(2.6), 12.5)
"""Of any card: heatsink and inlet air, °C; log of `flow`, K; exponent; log of `c`, J/K per W; `die_k`, K."""

DEVIATION = (2.0, 5.0, 0.3, 0.15, 0.6, 3.0)
"""Standard deviation of each. Learnt values stay within 4 of these of the start."""

DRIFT_SHARE = 0.005
"""A value may drift by this share of its deviation in the square root of a second; the heatsink's by ten times that."""

_SINK, _INLET, _FLOW, _EXPONENT, _CAPACITY, _DIE = _VALUES = range(6)


class Learnt(NamedTuple):
    """What is stored of a card's model from one run to the next: the last four of `START`, and their deviations."""

    values: tuple[float, float, float, float]
    deviations: tuple[float, float, float, float]


class CardModel:
    """Heatsink and die of one card, with the uncertainty of each value. Power is a share of the power limit."""

    def __init__(self, learnt: Learnt | None = None) -> None:
        self._x, deviations = list(START), list(DEVIATION)
        if learnt is not None:
            for i in range(_FLOW, _DIE + 1):
                self._x[i] = _within(i, learnt.values[i - _FLOW])
                # Dust and fresh thermal paste change a card between two runs.
                deviations[i] = min(deviations[i], max(2 * learnt.deviations[i - _FLOW], deviations[i] / 4))
        self._p = [[deviations[i] ** 2 if i == j else 0.0 for j in _VALUES] for i in _VALUES]
        self._die_power = 0.0  # that the die has settled at

    @property
    def learnt(self) -> Learnt:
        """The learnt values and their deviations at this moment."""
        _, _, *values = self._x
        _, _, *deviations = (math.sqrt(self._p[i][i]) for i in _VALUES)
        return Learnt(*map(tuple, (values, deviations)))  # type: ignore[arg-type]  # both have four

    def rise_k(self, duty_percent: float) -> float:
        """Heatsink over inlet air at the power limit, K."""
        return thermal_resistance(FLOOR_K, math.exp(self._x[_FLOW]), self._x[_EXPONENT], _over_half(duty_percent))

    def die_c(self, power: float) -> float:
        """Temperature of the die if the power were `power` and the heatsink as it is, °C."""
        return self._x[_SINK] + self._x[_DIE] * power

    def duty_for(self, power: float, temperature_c: float) -> float:
        """Duty in percent at which the die stays at `temperature_c`; infinite if no duty is enough."""
        if power <= 0:
            return 0.0
        rise_k = (temperature_c - self._x[_INLET]) / power - self._x[_DIE]
        return 50 * speed_for_resistance(FLOOR_K, math.exp(self._x[_FLOW]), self._x[_EXPONENT], rise_k)

    def anchor(self, temperature_c: float, power: float) -> None:
        """Start from a reading; nothing is known of the heatsink before it."""
        x, p = self._x, self._p
        self._die_power = power
        x[_SINK] = temperature_c - x[_DIE] * power
        x[_INLET] = _within(_INLET, min(x[_INLET], temperature_c))
        for i in _VALUES:
            p[_SINK][i] = p[i][_SINK] = 0.0
        p[_SINK][_SINK] = DEVIATION[_SINK] ** 2 + (x[_DIE] * power) ** 2

    def learn(self, elapsed_s: float, temperature_c: float, power: float, duty_percent: float) -> None:
        """Predict the reading from power and duty during `elapsed_s`, and learn from the difference.

        These are the equations of the extended Kalman filter. Only the heatsink moves by itself, so the prediction
        changes only one row of the covariance.
        """
        x, p = self._x, self._p
        rise_k, capacity = self.rise_k(duty_percent), math.exp(x[_CAPACITY])
        flow = (x[_SINK] - x[_INLET]) / rise_k
        share = remaining_share(elapsed_s, rise_k * capacity)
        # The change of the new heatsink temperature with each value.
        by_rise = elapsed_s * flow / (rise_k * capacity) * (rise_k - FLOOR_K)
        by_exponent, by_capacity = -by_rise * math.log(_over_half(duty_percent)), elapsed_s * (flow - power) / capacity
        slopes = (share, 1 - share, by_rise, by_exponent, by_capacity, 0.0)
        x[_SINK] = approach(x[_SINK], x[_INLET] + power * rise_k, share)
        row = [sum(slopes[k] * p[k][j] for k in _VALUES) for j in _VALUES]
        row[_SINK] = sum(row[k] * slopes[k] for k in _VALUES)
        p[_SINK] = row
        for j in _VALUES:
            p[j][_SINK] = row[j]
            # An idle month, which teaches nothing, must not leave more doubt than there was at first.
            if p[j][j] < DEVIATION[j] ** 2:
                p[j][j] += (DEVIATION[j] * DRIFT_SHARE * (10 if j == _SINK else 1)) ** 2 * elapsed_s

        share = remaining_share(elapsed_s, DIE_TIME_CONSTANT_S)
        self._die_power = approach(self._die_power, power, share)
        # Just after a jump of power the lag of the die decides, and it is not modelled to a tenth of a second.
        lag_c = x[_DIE] * abs(power - self._die_power)
        shared = [p[j][_SINK] + p[j][_DIE] * self._die_power for j in _VALUES]
        variance = shared[_SINK] + shared[_DIE] * self._die_power + NOISE_C**2 + lag_c**2
        most_c = 3 * math.sqrt(variance)  # an odd reading must not outweigh hundreds of others
        surprise_c = min(max(temperature_c - x[_SINK] - x[_DIE] * self._die_power, -most_c), most_c)
        for i in _VALUES:
            gain = shared[i] / variance
            x[i] = _within(i, x[i] + gain * surprise_c)
            for j in range(i):
                p[i][j] = p[j][i] = p[i][j] - gain * shared[j]
            p[i][i] = max(p[i][i] - gain * shared[i], 1e-9)


def _over_half(duty_percent: float) -> float:
    """The duty over half duty. A duty below 5 % counts as 5 %, so that `rise` stays finite."""
    return max(duty_percent, 5.0) / 50


def _within(i: int, value: float) -> float:
    """Limit value number `i` to what a card can have."""
    low, high = (0.0, 150.0) if i == _SINK else (START[i] - 4 * DEVIATION[i], START[i] + 4 * DEVIATION[i])
    return min(max(value, low), high)
