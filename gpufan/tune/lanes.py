"""Divides a day into lanes, which are parts of the day that are replayed side by side. Needs numpy.

A lane begins with half an hour that only warms up the card and its law: in long steps at first, then in seconds. In the
lanes at the beginning of the day, the first second of the day stands for the time before it. Nothing here depends on
settings.
"""

import copy
import math
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpufan.control.target_law import LEAST_POWER, STEADY_SHARE, TUNABLES
from gpufan.tune.day_load import Array, DayLoad
from gpufan.tune.plant import FittedPlant

Mask = NDArray[np.bool_]

Rows = NDArray[np.float32]
"""A row for each step, with an item for each lane."""

LANE_S = 240
"""Length of a lane after its warm-up, s. Its steps are seconds."""

PROBE_LANES = 6
"""A warm-up begins with long steps, which are as long as this many lanes."""

_PROBE = ((20.0, 36), (10.0, 72))
_WARM_UP = ((5.0, 24), (1.0, 120))
"""Length, s, and number of the long steps, and of the steps that follow them."""

STEPS_S = [seconds for seconds, count in (*_PROBE, *_WARM_UP, (1.0, LANE_S)) for _ in range(count)]
"""The length of each step, s."""

PROBE_STEPS = sum(count for _, count in _PROBE)
WARM_STEPS = len(STEPS_S) - LANE_S
WARM_UP_S = sum(STEPS_S[:WARM_STEPS])

_ENDS = np.array(list(accumulate(STEPS_S)), dtype=np.intp) - round(WARM_UP_S)
"""When each step ends, s after the beginning of the lane."""

_USUAL_DUTY = 60.0
"""The heat of other cards is delayed as by a heatsink at this duty, percent."""


_P = TypeVar("_P", bound="PerLane")


def lane_count(seconds: int) -> int:
    """Return the number of lanes of a day of `seconds`."""
    return math.ceil(seconds / LANE_S)


def at_step_ends(values: NDArray[Any]) -> NDArray[Any]:
    """Return the item of `values`, one each second, at the end of each step of each lane."""
    found: NDArray[Any] = values[np.clip(_ends(len(values)) - 1, 0, len(values) - 1)]
    return found


def _means(values: Array) -> Array:
    """Return the mean of `values`, one each second, in each step of each lane."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = _ends(len(values))
    seconds = np.array(STEPS_S, dtype=np.intp)[:, None]
    # Before the first second and after the last one, these values stay the same.
    low, high = np.minimum(ends - seconds, 0), np.maximum(ends - len(values), 0)
    inside = sums[np.clip(ends, 0, len(values))] - sums[np.clip(ends - seconds, 0, len(values))]
    before = np.minimum(-low, seconds) * values[0]
    after = np.minimum(high, seconds) * values[-1]
    found: Array = (inside + before + after) / seconds
    return found


def _ends(seconds: int) -> NDArray[np.intp]:
    """Return when each step of each lane ends, s after the beginning of a day of `seconds`."""
    return _ENDS[:, None] + LANE_S * np.arange(lane_count(seconds))[None, :]


class PerLane:
    """An object with values for each lane: arrays whose last axis has the lanes, or objects like this one."""

    PER_LANE: tuple[str, ...] = ()
    """The names of these values."""

    def selected(self: _P, lanes: NDArray[np.intp]) -> _P:
        """Return a copy that has only the lanes with the indices `lanes`, in this order."""
        found = copy.copy(self)
        for name in self.PER_LANE:
            value = getattr(self, name)
            setattr(found, name, value.selected(lanes) if isinstance(value, PerLane) else value[..., lanes])
        return found

    def replace_lanes(self: _P, lanes: NDArray[np.intp], other: _P) -> None:
        """Replace the values of `lanes` by those of `other`, which has these lanes only."""
        for name in self.PER_LANE:
            value, new = getattr(self, name), getattr(other, name)
            if isinstance(value, PerLane):
                value.replace_lanes(lanes, new)
            else:
                changed = value.copy()
                changed[..., lanes] = new
                setattr(self, name, changed)


class Expected:
    """The power for which the fans of a card are ready. It depends on the load alone."""

    def __init__(self, power_w: Array, power_limit_w: float) -> None:
        """`power_w` is the power in each second, W. `power_limit_w` is the limit that the law knows, W."""
        power = np.maximum(power_w / power_limit_w, LEAST_POWER)
        filtered = low_passed(power, TUNABLES.power_filter_s)
        expected = _highest_of_last(filtered, round(TUNABLES.hold_s) + 1)
        self.log = TUNABLES.exponent * np.log(expected)
        """The logarithm of the expected power as a share of the limit, times the exponent of the law."""
        self.pauses = filtered < STEADY_SHARE * expected
        """Whether the power is well below the expected one."""


def low_passed(values: Array, time_constant_s: float) -> Array:
    """Return `values`, one each second, through a filter of first order that begins settled at the first value."""
    left = math.exp(-1 / time_constant_s)
    powers = left ** np.arange(_BLOCK + 1)
    count = math.ceil(len(values) / _BLOCK)
    blocks = np.pad(values, (0, count * _BLOCK - len(values)), mode="edge").reshape(count, _BLOCK)
    places = np.arange(_BLOCK)
    weights = np.where(places[:, None] <= places, (1 - left) * powers[np.abs(places - places[:, None])], 0.0)
    found = blocks @ weights
    carried = values[0]
    for block in found:
        block += carried * powers[1:]
        carried = block[-1]
    passed: Array = found.reshape(-1)[: len(values)]
    return passed


_BLOCK = 128
"""So many values are filtered at once."""


def _highest_of_last(values: Array, count: int) -> Array:
    """Return the highest of the last `count` values at each place."""
    width = 1
    while width < count:
        step = min(width, count - width)
        values = np.concatenate([values[:step], np.maximum(values[step:], values[:-step])])
        width += step
    return values


class LaneLoad:
    """The load of a card in lanes. It is made once, and used for all settings."""

    def __init__(self, load: DayLoad, power_limit_w: float, jitter_k: float) -> None:
        """`jitter_k` is the standard deviation of the temperature from reading to reading, K."""
        self.load = load
        self.time_s = load.time_s
        self.known: Mask = at_step_ends(load.known).astype(np.bool_)
        expected = Expected(load.power_w, power_limit_w)
        self.power_w: Rows = _means(load.power_w).astype(np.float32)
        self.log_power: Rows = at_step_ends(expected.log).astype(np.float32)
        self.pauses = at_step_ends(expected.pauses).astype(np.bool_)
        noise_k = np.random.default_rng(1).normal(0, 1, len(load.power_w)) * jitter_k
        self.noise_k: Rows = at_step_ends(noise_k).astype(np.float32)
        first = np.maximum(_ENDS[0] + LANE_S * np.arange(lane_count(len(load.power_w))), 0)
        self.start_c = load.temperature_c[first]
        self.start_percent = np.clip(np.rint(load.speed_percent[first]), 0, 100)
        self._air_c: dict[FittedPlant, Rows] = {}

    def air_c(self, plant: FittedPlant) -> Rows:
        """Return the temperature of the air at the heatsink of `plant`, °C: other cards and the card itself warm it."""
        if plant not in self._air_c:
            load = self.load
            warming_k = np.zeros(len(load.power_w))
            if plant.coupling:
                delay_s = (plant.resistance(_USUAL_DUTY) - plant.die_resistance) * plant.heat_capacity
                warming_k += plant.coupling * low_passed(load.others_w, delay_s)
            if plant.case_resistance:
                own_w = low_passed(load.power_w, plant.case_time_constant_s)
                warming_k += plant.case_resistance * own_w
            self._air_c[plant] = (at_step_ends(warming_k) + plant.inlet_c).astype(np.float32)
        return self._air_c[plant]
