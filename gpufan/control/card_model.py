"""What is believed of a card: how the heatsink's temperature follows from power and duty, learnt from its readings."""

import math
from collections.abc import Sequence
from typing import NamedTuple

STEP_S = 5.0
"""Power to come is given in steps of so many seconds."""


EASE_C = 0.6
"""By how much a limit is eased at first: what comes within seconds no fan can change, so a little too much of it must
not call for all of them."""

EASE_S = 20.0
"""The ease shrinks by a factor of e in this time."""


class Learnt(NamedTuple):
    """What is worth keeping of a card's model from one run to the next."""

    values: tuple[float, float, float, float]
    """Natural logarithm of the flow resistance over that of a GTX 1080 Ti at half duty; how that falls with duty;
    natural logarithm of the heat capacity over that of a GTX 1080 Ti; K/W between die and heatsink."""
    deviations: tuple[float, float, float, float]
    """Standard deviation of each."""


_SINK, _INLET, _FLOW, _EXPONENT, _CAPACITY, _DIE = range(6)
_STATES = range(6)


class CardModel:
    """Heatsink and die of one card, and how sure of them we are.

    The heatsink of capacity C takes up the power P and loses its heat to the inlet air through R(d):

        C dT/dt = P - (T - inlet) / R(d),   R(d) = 0.03 + 0.188 e^flow (2d)^-exponent   [K/W, d in 0..1]

    and the die is P times the die's resistance above it. With flow 0 and exponent 0.8 that is the fit to published
    operating points of the GTX 1080 Ti that `gpufan.gpu.simulated` explains.
    """

    _START = (0.0, 28.0, 0.0, 0.75, 0.0, 0.05)
    _DEVIATION = (2.0, 6.0, 0.25, 0.15, 0.4, 0.012)
    """What is believed of an unknown card: of heatsink °C, inlet °C, flow, exponent, capacity, die resistance."""
    _LOWEST = (0.0, 0.0, -1.2, 0.3, -1.5, 0.0)
    _HIGHEST = (150.0, 60.0, 1.2, 1.2, 1.5, 0.12)
    """Nothing learnt goes beyond."""
    _DRIFT = (0.1, 0.03, 0.0008, 0.0008, 0.0008, 0.0001)
    """By how much each may change in a second (standard deviation), and so how slowly what was learnt is forgotten."""

    _FLOOR = 0.03
    _HALF = 0.188
    _CAPACITY_J_PER_K = 350.0
    _DIE_S = 1.5
    """Time constant of the die over the heatsink, s."""
    _NOISE_C = 2.0
    """Deviation of one reading. More than rounding alone explains, since its errors repeat from second to second."""

    def __init__(self, learnt: Learnt | None = None) -> None:
        self._x = list(self._START)
        deviations = list(self._DEVIATION)
        if learnt is not None:
            for i in range(_FLOW, _DIE + 1):
                self._x[i] = min(max(learnt.values[i - _FLOW], self._LOWEST[i]), self._HIGHEST[i])
                # Dust and fresh paste change a card between two runs.
                deviations[i] = min(deviations[i], max(2 * learnt.deviations[i - _FLOW], deviations[i] / 4))
        self._p = [[deviations[i] ** 2 if i == j else 0.0 for j in _STATES] for i in _STATES]
        self._die_w = 0.0
        # Up to how many W the die may lag behind its power after the first reading.
        self._unsettled_w = 0.0

    @property
    def learnt(self) -> Learnt:
        """What is believed now."""
        flow, exponent, capacity, die = (math.sqrt(self._p[i][i]) for i in range(_FLOW, _DIE + 1))
        return Learnt(
            (self._x[_FLOW], self._x[_EXPONENT], self._x[_CAPACITY], self._x[_DIE]), (flow, exponent, capacity, die)
        )

    def die_c(self, power_w: float) -> float:
        """Temperature at a steady `power_w`, free of the noise of single readings, °C."""
        return self._x[_SINK] + self._x[_DIE] * power_w

    @property
    def growth_s(self) -> float:
        """Time in which the quietest way to a limit raises the duty by a factor of e, s.

        The way that minimises the sound, rpm^5, on the way to a limit has a costate that grows with the heatsink's
        time constant, and a duty that follows it to the power 1 / (5 - exponent).
        """
        return (5 - self._x[_EXPONENT]) * self.resistance(50) * self.capacity

    @property
    def inlet_c(self) -> float:
        """Temperature of the air that the card takes in, °C."""
        return self._x[_INLET]

    @property
    def capacity(self) -> float:
        """Heat capacity of the heatsink, J/K."""
        return self._CAPACITY_J_PER_K * math.exp(self._x[_CAPACITY])

    def resistance(self, duty_percent: float) -> float:
        """K/W from heatsink to inlet air."""
        d = max(duty_percent / 100, 0.05)
        return self._FLOOR + self._HALF * math.exp(self._x[_FLOW]) * math.pow(2 * d, -self._x[_EXPONENT])

    def power(self, temperature_c: float, duty_percent: float) -> float:
        """Power in W that would keep the card at `temperature_c`."""
        return max(temperature_c - self._x[_INLET], 0.0) / (self.resistance(duty_percent) + self._x[_DIE])

    def duty_for(self, power_w: float, temperature_c: float) -> float:
        """Duty in percent that would keep the card at `temperature_c`; infinite where none can."""
        if power_w <= 0:
            return 0.0
        flow = (temperature_c - self._x[_INLET]) / power_w - self._x[_DIE] - self._FLOOR
        if flow <= 0:
            return math.inf
        return 50 * math.pow(self._HALF * math.exp(self._x[_FLOW]) / flow, 1 / self._x[_EXPONENT])

    def sink_for_jump_c(self, limit_c: float, power_w: float, duty_percent: float) -> float:
        """How hot the heatsink may be so that a jump to `power_w` leaves the die at `limit_c` or under, °C.

        A jump to more than `duty_percent` can hold at the limit is not prepared for.
        """
        return limit_c - self._x[_DIE] * min(power_w, self.power(limit_c, duty_percent))

    def anchor(self, temperature_c: float, power_w: float) -> None:
        """Begin with a reading before which nothing is known of the heatsink.

        The die is taken to have settled at `power_w`, but the next readings will tell.
        """
        x, p = self._x, self._p
        self._die_w = self._unsettled_w = power_w
        x[_SINK] = min(max(temperature_c - x[_DIE] * power_w, self._LOWEST[_SINK]), self._HIGHEST[_SINK])
        x[_INLET] = min(x[_INLET], max(temperature_c, self._LOWEST[_INLET]))
        for i in _STATES:
            p[_SINK][i] = p[i][_SINK] = 0.0
        p[_SINK][_SINK] = self._DEVIATION[_SINK] ** 2 + (x[_DIE] * power_w) ** 2

    def learn(self, elapsed_s: float, temperature_c: float, power_w: float, duty_percent: float) -> None:
        """Predict the reading from what the card did for `elapsed_s`, and learn from the difference.

        The equations are those of any extended Kalman filter; only the heatsink moves by itself, so one row of the
        covariance does.
        """
        x, p = self._x, self._p
        d = max(duty_percent / 100, 0.05)
        resistance, capacity = self.resistance(duty_percent), self.capacity
        flow_w = (x[_SINK] - x[_INLET]) / resistance
        keeps = math.exp(-elapsed_s / (resistance * capacity))
        by_resistance = elapsed_s * flow_w / (resistance * capacity) * (resistance - self._FLOOR)
        slopes = (
            keeps,
            1 - keeps,
            by_resistance,
            -by_resistance * math.log(2 * d),
            -elapsed_s * (power_w - flow_w) / capacity,
            0.0,
        )
        end_c = x[_INLET] + power_w * resistance
        x[_SINK] = end_c + (x[_SINK] - end_c) * keeps
        row = [sum(slopes[k] * p[k][j] for k in _STATES) for j in _STATES]
        row[_SINK] = sum(row[k] * slopes[k] for k in _STATES)
        p[_SINK] = row
        for j in _STATES:
            p[j][_SINK] = row[j]
            # What an idle month teaches nothing of is no less known than at first.
            if p[j][j] < self._DEVIATION[j] ** 2:
                p[j][j] += self._DRIFT[j] ** 2 * elapsed_s

        settles = math.exp(-elapsed_s / self._DIE_S)
        self._die_w += (power_w - self._die_w) * (1 - settles)
        self._unsettled_w *= settles
        # Just after a jump of power the die's lag decides, and that is not modelled to the tenth of a second.
        lag_c = x[_DIE] * (abs(power_w - self._die_w) + self._unsettled_w)
        shared = [p[j][_SINK] + p[j][_DIE] * self._die_w for j in _STATES]
        variance = shared[_SINK] + shared[_DIE] * self._die_w + self._NOISE_C**2 + lag_c**2
        surprise_c = temperature_c - x[_SINK] - x[_DIE] * self._die_w
        # One odd reading may not overthrow what hundreds have taught.
        surprise_c = min(max(surprise_c, -3 * math.sqrt(variance)), 3 * math.sqrt(variance))
        for i in _STATES:
            gain = shared[i] / variance
            x[i] = min(max(x[i] + gain * surprise_c, self._LOWEST[i]), self._HIGHEST[i])
            for j in range(i):
                p[i][j] = p[j][i] = p[i][j] - gain * shared[j]
            p[i][i] = max(p[i][i] - gain * shared[i], 1e-9)

    def stays_under(
        self,
        limit_c: float,
        powers_w: Sequence[float],
        duty_percent: float,
        growth_s: float = math.inf,
        ease_s: float = EASE_S,
        sink_limit_c: float = math.inf,
    ) -> bool:
        """Whether the card stays at `limit_c` or under through `powers_w`, a step of `STEP_S` each.

        So must its heatsink at `sink_limit_c`. The duty begins at `duty_percent` and grows by a factor of e in
        `growth_s`, to full speed at most. Both limits are eased by `EASE_C` at first, and by e times less every
        `ease_s`.
        """
        inlet_c, sink_c, die = self._x[_INLET], self._x[_SINK], self._x[_DIE]
        rate = -STEP_S / self.capacity
        flow = self.resistance(duty_percent) - self._FLOOR
        shrinks = math.exp(-STEP_S / growth_s * self._x[_EXPONENT])
        least_flow = self.resistance(100) - self._FLOOR
        ease_c, fades = EASE_C, math.exp(-STEP_S / ease_s)
        least_rise_k = limit_c - sink_limit_c
        for power_w in powers_w:
            resistance = self._FLOOR + flow
            end_c = inlet_c + power_w * resistance
            sink_c = end_c + (sink_c - end_c) * math.exp(rate / resistance)
            if sink_c + max(die * power_w, least_rise_k) > limit_c + ease_c:
                return False
            flow = max(flow * shrinks, least_flow)
            ease_c *= fades
        return True
