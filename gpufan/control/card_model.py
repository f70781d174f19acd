"""The thermal model of one card for the target law: how the temperature follows from power and duty.

The model learns from the readings of the card with an extended Kalman filter. It predicts; it decides nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gpufan.core.thermal import (
    SOUND_EXPONENT,
    approach,
    remaining_share,
    speed_for_resistance,
    thermal_resistance,
)

STEP_S = 5.0
"""Predictions, and the power that they are made from, are in steps of this length, s."""


State = tuple[float, float, float, float, float, float]
"""Of heatsink °C; inlet air °C; natural logarithm of the flow resistance over that of the nominal card; exponent of the
flow resistance over duty; natural logarithm of the heat capacity over that of the nominal card; K/W from die to
heatsink."""

_SINK, _INLET, _FLOW, _EXPONENT, _CAPACITY, _DIE = _STATES = range(6)


@dataclass(frozen=True, slots=True)
class ModelTunables:
    """All constants of `CardModel`."""

    # The learnt values.
    start: State = (0.0, 28.0, 0.0, 0.75, 0.0, 0.05)
    """Values of an unknown card."""
    deviation: State = (2.0, 6.0, 0.25, 0.15, 0.4, 0.012)
    """Standard deviation of each start value."""
    lowest: State = (0.0, 0.0, -1.2, 0.3, -1.5, 0.0)
    highest: State = (150.0, 60.0, 1.2, 1.2, 1.5, 0.12)
    """The learnt values stay between `lowest` and `highest`."""
    drift: State = (0.1, 0.03, 0.0008, 0.0008, 0.0008, 0.0001)
    """Standard deviation of the change in a second. The larger it is, the sooner old readings are forgotten."""

    # The nominal card: the GTX 1080 Ti of `gpufan.gpu.simulated`.
    resistance_floor: float = 0.03
    """Thermal resistance from heatsink to inlet air that no air flow removes, K/W."""
    flow_at_half: float = 0.188
    """Thermal resistance on top of the floor at half duty, K/W."""
    heat_capacity: float = 350.0
    """Heat capacity of the heatsink, J/K."""
    die_time_constant_s: float = 1.5
    """Time constant of the die over the heatsink, s."""

    # Readings.
    noise_c: float = 2.0
    """Standard deviation of a reading, °C. Larger than rounding alone, because the errors of rounding repeat."""
    surprise_limit: float = 3.0
    """A reading that differs from its prediction by more than this many deviations counts as this many: an odd reading
    must not outweigh hundreds of others."""

    # Predictions.
    ease_c: float = 0.6
    """A limit is this much higher at the beginning of a prediction, °C. No fan can change the next seconds, so a small
    excess there must not call for full fans."""
    ease_s: float = 20.0
    """The ease falls by a factor of e in this time, s."""


TUNABLES = ModelTunables()


def _over_half(duty_percent: float) -> float:
    """The duty over half duty. A duty below 5 % counts as 5 %, so that the resistance stays finite."""
    return max(duty_percent, 5.0) / 50


class Learnt(NamedTuple):
    """The part of a card's model that is stored from one run to the next."""

    values: tuple[float, float, float, float]
    """The last four of `State`."""
    deviations: tuple[float, float, float, float]
    """Standard deviation of each."""


class CardModel:
    """Heatsink and die of one card, with the uncertainty of each value.

    The heatsink of heat capacity C receives the power P and loses heat to the inlet air through the resistance R:

        C dT/dt = P - (T - inlet) / R,   R = floor + flow * (duty / 0.5)^-exponent   [K/W, duty in 0..1]

    The die is warmer than the heatsink by P times the die's resistance.
    """

    def __init__(self, learnt: Learnt | None = None, tunables: ModelTunables = TUNABLES) -> None:
        self.tunables = tunables
        self._x = list(tunables.start)
        deviations = list(tunables.deviation)
        if learnt is not None:
            for i in range(_FLOW, _DIE + 1):
                self._x[i] = min(max(learnt.values[i - _FLOW], tunables.lowest[i]), tunables.highest[i])
                # Dust and fresh thermal paste change a card between two runs.
                deviations[i] = min(deviations[i], max(2 * learnt.deviations[i - _FLOW], deviations[i] / 4))
        self._p = [[deviations[i] ** 2 if i == j else 0.0 for j in _STATES] for i in _STATES]
        # The power that the die has settled at, W, and by how much that may be wrong after the first reading.
        self._die_w = self._unsettled_w = 0.0

    @property
    def learnt(self) -> Learnt:
        """The learnt values and their deviations at this moment."""
        flow, exponent, capacity, die = (math.sqrt(self._p[i][i]) for i in range(_FLOW, _DIE + 1))
        return Learnt(
            (self._x[_FLOW], self._x[_EXPONENT], self._x[_CAPACITY], self._x[_DIE]), (flow, exponent, capacity, die)
        )

    @property
    def growth_s(self) -> float:
        """Time in which the quietest way to a limit raises the duty by a factor of e, s.

        To minimise the sound energy on the way to a limit, the costate grows with the time constant of the heatsink,
        and the duty with the costate to the power 1 / (`SOUND_EXPONENT` - exponent).
        """
        return (SOUND_EXPONENT - self._x[_EXPONENT]) * self.resistance(50) * self.capacity

    @property
    def capacity(self) -> float:
        """Heat capacity of the heatsink, J/K."""
        return self.tunables.heat_capacity * math.exp(self._x[_CAPACITY])

    @property
    def _flow_at_half(self) -> float:
        return self.tunables.flow_at_half * math.exp(self._x[_FLOW])

    def resistance(self, duty_percent: float) -> float:
        """Thermal resistance from heatsink to inlet air, K/W."""
        floor, exponent = self.tunables.resistance_floor, self._x[_EXPONENT]
        return thermal_resistance(floor, self._flow_at_half, exponent, _over_half(duty_percent))

    def power(self, temperature_c: float, duty_percent: float) -> float:
        """Constant power in W at which the die stays at `temperature_c`."""
        return max(temperature_c - self._x[_INLET], 0.0) / (self.resistance(duty_percent) + self._x[_DIE])

    def duty_for(self, power_w: float, temperature_c: float) -> float:
        """Duty in percent at which the die stays at `temperature_c`; infinite if no duty is enough."""
        if power_w <= 0:
            return 0.0
        resistance = (temperature_c - self._x[_INLET]) / power_w - self._x[_DIE]
        floor = self.tunables.resistance_floor
        return 50 * speed_for_resistance(floor, self._flow_at_half, self._x[_EXPONENT], resistance)

    def sink_for_jump_c(self, limit_c: float, power_w: float, duty_percent: float) -> float:
        """Highest temperature of the heatsink from which a jump to `power_w` leaves the die at `limit_c` or below, °C.

        A power that `duty_percent` cannot hold at the limit counts as the highest power that it can hold.
        """
        return limit_c - self._x[_DIE] * min(power_w, self.power(limit_c, duty_percent))

    def anchor(self, temperature_c: float, power_w: float) -> None:
        """Start from a reading; nothing is known of the heatsink before it.

        The die counts as settled at `power_w`, with an uncertainty that the next readings remove.
        """
        x, p, tunables = self._x, self._p, self.tunables
        self._die_w = self._unsettled_w = power_w
        x[_SINK] = min(max(temperature_c - x[_DIE] * power_w, tunables.lowest[_SINK]), tunables.highest[_SINK])
        x[_INLET] = min(x[_INLET], max(temperature_c, tunables.lowest[_INLET]))
        for i in _STATES:
            p[_SINK][i] = p[i][_SINK] = 0.0
        p[_SINK][_SINK] = tunables.deviation[_SINK] ** 2 + (x[_DIE] * power_w) ** 2

    def learn(self, elapsed_s: float, temperature_c: float, power_w: float, duty_percent: float) -> None:
        """Predict the reading from power and duty during `elapsed_s`, and learn from the difference.

        These are the equations of the extended Kalman filter. Only the heatsink moves by itself, so the prediction
        changes only one row of the covariance.
        """
        x, p, tunables = self._x, self._p, self.tunables
        resistance, capacity = self.resistance(duty_percent), self.capacity
        flow_w = (x[_SINK] - x[_INLET]) / resistance
        share = remaining_share(elapsed_s, resistance * capacity)
        # The change of the new heatsink temperature with each value of the state.
        by_resistance = elapsed_s * flow_w / (resistance * capacity) * (resistance - tunables.resistance_floor)
        slopes = (
            share,
            1 - share,
            by_resistance,
            -by_resistance * math.log(_over_half(duty_percent)),
            -elapsed_s * (power_w - flow_w) / capacity,
            0.0,
        )
        x[_SINK] = approach(x[_SINK], x[_INLET] + power_w * resistance, share)
        row = [sum(slopes[k] * p[k][j] for k in _STATES) for j in _STATES]
        row[_SINK] = sum(row[k] * slopes[k] for k in _STATES)
        p[_SINK] = row
        for j in _STATES:
            p[j][_SINK] = row[j]
            # An idle month, which teaches nothing, must not leave more doubt than there was at first.
            if p[j][j] < tunables.deviation[j] ** 2:
                p[j][j] += tunables.drift[j] ** 2 * elapsed_s

        share = remaining_share(elapsed_s, tunables.die_time_constant_s)
        self._die_w = approach(self._die_w, power_w, share)
        self._unsettled_w *= share
        # Just after a jump of power the lag of the die decides, and it is not modelled to a tenth of a second.
        lag_c = x[_DIE] * (abs(power_w - self._die_w) + self._unsettled_w)
        shared = [p[j][_SINK] + p[j][_DIE] * self._die_w for j in _STATES]
        variance = shared[_SINK] + shared[_DIE] * self._die_w + tunables.noise_c**2 + lag_c**2
        most_c = tunables.surprise_limit * math.sqrt(variance)
        surprise_c = min(max(temperature_c - x[_SINK] - x[_DIE] * self._die_w, -most_c), most_c)
        for i in _STATES:
            gain = shared[i] / variance
            x[i] = min(max(x[i] + gain * surprise_c, tunables.lowest[i]), tunables.highest[i])
            for j in range(i):
                p[i][j] = p[j][i] = p[i][j] - gain * shared[j]
            p[i][i] = max(p[i][i] - gain * shared[i], 1e-9)

    def stays_under(
        self,
        limit_c: float,
        powers_w: Sequence[float],
        duty_percent: float,
        growth_s: float = math.inf,
        ease_s: float = TUNABLES.ease_s,
        sink_limit_c: float = math.inf,
    ) -> bool:
        """Whether die and heatsink stay at their limits or below during `powers_w`, one step of `STEP_S` each.

        The limit is `limit_c` for the die and `sink_limit_c` for the heatsink. Both are higher by `ease_c` at first;
        this ease falls by a factor of e in `ease_s`. The duty starts at `duty_percent` and grows by a factor of e in
        `growth_s`, up to full duty.
        """
        inlet_c, sink_c, die = self._x[_INLET], self._x[_SINK], self._x[_DIE]
        # A step over the heat capacity, to be divided by the resistance.
        step, floor = STEP_S / self.capacity, self.tunables.resistance_floor
        flow = self.resistance(duty_percent) - floor
        # A duty that grows by a constant factor lowers the flow resistance by a constant factor.
        shrinks = remaining_share(STEP_S * self._x[_EXPONENT], growth_s)
        least_flow = self.resistance(100) - floor
        ease_c, fades = self.tunables.ease_c, remaining_share(STEP_S, ease_s)
        least_rise_k = limit_c - sink_limit_c
        for power_w in powers_w:
            resistance = floor + flow
            end_c = inlet_c + power_w * resistance
            sink_c = approach(sink_c, end_c, remaining_share(step, resistance))
            if sink_c + max(die * power_w, least_rise_k) > limit_c + ease_c:
                return False
            flow = max(flow * shrinks, least_flow)
            ease_c *= fades
        return True
