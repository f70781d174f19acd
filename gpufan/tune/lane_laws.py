"""The laws of `gpufan.control` for many lanes at once. Needs numpy.

A lane is a card in a part of the day. A law of this module decides for all its lanes together, which is some hundred
times faster than one decision after the other. The tests compare each decision with that of the law of real cards.

Left out are reasons, readings that cannot be trusted, and all that a law does at its start with an unknown card.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpufan.control.law import Learnt
from gpufan.control.quiet_limit import FALL_PERCENT_PER_S, YIELD_K
from gpufan.control.sensor_guard import VALID_C
from gpufan.control.target_law import (
    COOLER_FADES_S,
    COOLER_S_PER_K,
    LEARNT_PERCENT,
    LIMITED_PERCENT,
    ROOM_C,
    TUNABLES,
    TYPICAL_C,
)
from gpufan.core.card_settings import CardSettings
from gpufan.tune.day_load import Array
from gpufan.tune.lanes import Mask, PerLane

LEARN_S = 4.0
"""A target law learns only this often, s, since the number that it learns changes in minutes."""

_ROUNDING = 5e-7
"""A duty that is above a whole percent by less than this is that percent: the laws round to six digits."""


@dataclass(slots=True)
class LaneReadings:
    """The readings of all lanes of a law at one moment."""

    seconds: float
    """Time since the last moment, s."""
    reading_c: Array
    """Whole degrees."""
    speed_percent: Array
    log_power: Array
    """`Expected.log`."""
    pauses: Mask
    """`Expected.pauses`."""
    target_c: Array | None = None
    """The target of each lane, °C; None for that of the settings."""
    throttled: Mask | None = None
    """Which lanes lower their clocks for heat; None if none has done so yet."""
    shared: Array | None = None
    """The duty that helps the neighbours of each lane, percent; None if there are none."""


class TargetLanes(PerLane):
    """`control.target_law` for lanes with the same settings."""

    PER_LANE = ("learnt", "_filtered_c", "_level", "_shared_level", "_cooler_k", "_forced", "_saturated_s")

    def __init__(
        self,
        settings: CardSettings,
        limits: tuple[int, int],
        full_at_c: float,
        learnt: Sequence[Learnt],
        speed_percent: Array,
        temperature_c: Array,
    ) -> None:
        """Each lane begins with the fans at `speed_percent` and the temperature `temperature_c`, °C.

        `learnt` is what the law knows of the card of each lane. `limits` has the lowest and the highest duty, percent.
        """
        self._low, self._high = map(float, limits)
        self._full_at_c = full_at_c
        self._slew = settings.slew_percent_per_s
        self._target_c = min(settings.target_c or math.inf, full_at_c - TUNABLES.band_k)
        self._log_rise = _log_rise(self._target_c)
        self._range = tuple(map(math.log, LEARNT_PERCENT))
        logs = np.log([known.full_power_percent for known in learnt])
        self.learnt: Array = np.clip(logs, self._range[0], self._range[1])
        self._filtered_c = temperature_c.copy()
        self._level = np.clip(speed_percent, self._low, self._high)
        self._shared_level = self._level
        self._cooler_k = np.zeros(len(speed_percent))
        self._forced = np.zeros(len(speed_percent), bool)
        self.can_be_forced = False
        """Whether another law may set the duty too."""
        self.finds_saturated = False
        """Whether there are other cards that could help."""
        self.has_saturated = False
        """Whether any card was saturated until now."""
        self._saturated_s = np.zeros(len(speed_percent))
        self._since_learnt_s = 0.0

    @property
    def target(self) -> "TargetLanes":
        """This law."""
        return self

    @property
    def local_demand_percent(self) -> Array:
        """The duty for the own heat of each card, percent."""
        return _rounded_up(self._level)

    @property
    def memory(self) -> Array:
        """The state that fades most slowly: the logarithm of the learnt number."""
        return self.learnt

    @property
    def own_duty_percent(self) -> Array:
        """The duty before any limit, percent."""
        return _rounded_up(self._shared_level)

    @property
    def saturated(self) -> Mask:
        """Which cards stay too hot at full fan speed."""
        return self._saturated_s >= 10

    def decide(self, now: LaneReadings) -> Array:
        """Return the duty of each lane, percent."""
        seconds, low, high = now.seconds, self._low, self._high
        target_c: Any = self._target_c
        log_rise = self._log_rise
        if now.target_c is not None:
            target_c = np.minimum(now.target_c, self._full_at_c - TUNABLES.band_k)
            log_rise = _log_rise(target_c)
        left = math.exp(-seconds / TUNABLES.temperature_filter_s)
        self._filtered_c = now.reading_c + (self._filtered_c - now.reading_c) * left
        over_k = self._filtered_c - target_c
        if now.throttled is not None:
            self._sink_target(seconds, now.throttled)
            over_k += self._cooler_k
            log_rise = _log_rise(target_c - self._cooler_k)
        forward = self.learnt + now.log_power
        forward += log_rise
        feedback = over_k * TUNABLES.proportional_per_k
        demand = np.exp(np.minimum(forward + feedback, 5.0))
        self._since_learnt_s += seconds
        if self._since_learnt_s >= LEARN_S:
            self._learn(now, over_k, forward, feedback, demand)
            if self.finds_saturated:
                self._find_saturated(now, target_c, demand)
            self._since_learnt_s = 0.0
        floor = over_k * ((high - low) / TUNABLES.band_k)
        floor += low
        floor = np.minimum(np.maximum(floor, low), high)
        np.putmask(floor, now.reading_c >= self._full_at_c, high)
        self._move(seconds, np.minimum(np.maximum(demand, low / 2), high), floor)
        if now.shared is None:
            self._shared_level = self._level
            return self.local_demand_percent
        fallen = self._shared_level - self._slew * seconds
        self._shared_level = np.maximum(np.maximum(self._level, now.shared), fallen)
        return _rounded_up(self._shared_level)

    def force(self, lanes: Mask, duty_percent: Array) -> None:
        """Continue in `lanes` from a duty that another law has set."""
        self._level = np.where(lanes, duty_percent, self._level)
        self._shared_level = np.where(lanes, duty_percent, self._shared_level)
        self._forced = lanes.copy()

    def _sink_target(self, seconds: float, throttled: Mask) -> None:
        """Lower the target of each lane whose card throttles, and raise that of the others."""
        cooler_k = np.minimum(self._cooler_k + throttled * (seconds / COOLER_S_PER_K), TUNABLES.band_k)
        self._cooler_k = cooler_k * math.exp(-seconds / COOLER_FADES_S)

    def _learn(self, now: LaneReadings, over_k: Array, forward: Array, feedback: Array, demand: Array) -> None:
        """Learn from the error, as `TargetLaw` does, for the time since this was last done."""
        rise, fall = (
            self._since_learnt_s / tunable for tunable in (TUNABLES.integral_above_s, TUNABLES.integral_below_s)
        )
        is_limited = now.speed_percent < np.minimum(demand, self._high) - LIMITED_PERCENT
        is_known = forward <= math.log(1.05 * self._high)
        rises = (over_k > 0) & ~is_limited & is_known
        falls = (over_k < 0) & (demand > self._low) & ~now.pauses
        share = rises * rise + falls * fall
        least, most = self._range
        self.learnt = np.minimum(np.maximum(self.learnt + feedback * share, least), most)

    def _find_saturated(self, now: LaneReadings, target_c: Any, demand: Array) -> None:
        """Find the cards that stay too hot at full fan speed, as `TargetLaw` does."""
        hot = (now.reading_c > target_c + 1) & (demand >= self._high) & (now.speed_percent >= self._high - 10)
        self._saturated_s = np.where(hot, self._saturated_s + self._since_learnt_s, 0.0)
        self.has_saturated = self.has_saturated or bool(self.saturated.any())

    def _move(self, seconds: float, demand: Array, floor: Array) -> None:
        """Move the level: up to the demand at once, down by a law that closes wide gaps fast and narrow ones slowly."""
        gap = np.maximum(self._level - demand, 0.0)
        slow = gap / (1 + gap * (seconds / (100 * TUNABLES.fall_s)))
        if self.can_be_forced:
            self._forced = self._forced & (gap > 0)
            slow[self._forced] = 0.0
        slow += demand
        self._level = np.maximum(np.maximum(slow, self._level - self._slew * seconds), floor)


def _rounded_up(duty_percent: Array) -> Array:
    """Return duties as whole percents."""
    found: Array = np.ceil(duty_percent - _ROUNDING)
    return found


def _log_rise(target_c: Any) -> Any:
    """Return the term of the target law's equation that depends on the target, °C: a number, or an array."""
    return TUNABLES.exponent * np.log((TYPICAL_C - ROOM_C) / np.maximum(target_c - ROOM_C, 5.0))


class CurveLanes(PerLane):
    """`control.curve_law` for lanes with the same settings."""

    PER_LANE = ("_window", "_held_c", "_level", "_duty")

    def __init__(self, settings: CardSettings, limits: tuple[int, int], full_at_c: float, lanes: int) -> None:
        """`limits` has the lowest and the highest duty, percent. From `full_at_c`, °C, on the fans run at the highest.

        `lanes` is the number of lanes.
        """
        self._settings = settings
        self._low, self._high = map(float, limits)
        self._lowest = float(np.clip(settings.curve.lowest_duty, *limits))
        whole_c = np.arange(VALID_C[1] + 1.0)
        on_curve = [settings.curve.duty_at(temperature_c) for temperature_c in whole_c]
        self._table = np.clip([math.nan if duty is None else duty for duty in on_curve], *limits)
        self._table[whole_c >= full_at_c] = self._high
        self._has_auto = bool(np.isnan(self._table).any())
        self._window = _HighestOfTime(settings.hold_s, lanes)
        self._held_c = np.full(lanes, -1000.0)
        self._level = np.full(lanes, -math.inf)
        self._duty = np.full(lanes, math.nan)

    @property
    def local_demand_percent(self) -> Array:
        """The duty of each lane, percent; NaN while the driver controls the fans."""
        return self._duty

    own_duty_percent = local_demand_percent

    @property
    def memory(self) -> Array:
        """The state that fades most slowly: the held temperature, °C."""
        return self._held_c

    def recall(self, other: "CurveLanes", lanes: NDArray[np.intp]) -> None:
        """Remember the held temperature and the duty of `lanes` of `other`."""
        self._held_c, self._level, self._duty = other._held_c[lanes], other._level[lanes], other._duty[lanes]

    def decide(self, now: LaneReadings) -> Array:
        """Return the duty of each lane, percent. NaN leaves the fans to the driver."""
        highest_c = self._window.add(now.seconds, now.reading_c)
        settings, held_c = self._settings, self._held_c
        is_new = (highest_c > held_c) | (highest_c <= held_c - settings.hysteresis_c)
        self._held_c = np.where(is_new, highest_c, held_c)
        on_curve = self._table.take(self._held_c.astype(np.intp), mode="clip")
        duty = self._duty
        was_none = np.isnan(duty)
        fallen = self._level - settings.slew_percent_per_s * now.seconds
        if self._has_auto:
            lowest = np.where(np.isnan(on_curve), self._lowest, on_curve)
            level = np.where(was_none, lowest, np.maximum(lowest, fallen))
            leaves = np.isnan(on_curve) & (was_none | (level == lowest))
        else:
            level = np.maximum(on_curve, fallen)
        self._level = level
        rounded = _rounded_up(level)
        changes = was_none | (duty < self._low) | (rounded == self._low) | (rounded == self._high)
        changes |= np.abs(rounded - duty) >= settings.step_percent
        self._duty = np.where(changes, rounded, duty)
        if self._has_auto:
            self._duty[leaves] = math.nan
        return self._duty

    def force(self, lanes: Mask, duty_percent: Array) -> None:
        """Continue in `lanes` from a duty that another law has set."""
        self._duty = np.where(lanes, duty_percent, self._duty)
        self._level = np.where(lanes, duty_percent, self._level)


class _HighestOfTime(PerLane):
    """The highest value of the last seconds in each lane: a step costs the same for any number of seconds.

    The values are stored in blocks as long as this time. The highest is that of the present block until now, or of the
    block before from the same place on.
    """

    PER_LANE = ("_highest", "_so_far", "_block", "_before")

    def __init__(self, hold_s: float, lanes: int) -> None:
        self._hold_s = hold_s
        self._seconds = 0.0
        self._highest = self._so_far = np.full(lanes, -1000, np.int16)
        self._block = self._before = np.empty((0, lanes), np.int16)
        self._place = 0

    def add(self, seconds: float, values: Array) -> NDArray[np.int16]:
        """Add the values after a step of `seconds`, whole numbers. Return the highest of each lane."""
        whole = values.astype(np.int16)
        if seconds != self._seconds:
            self._begin(seconds)
        self._block[self._place] = whole
        self._so_far = np.maximum(self._so_far, whole) if self._place else whole
        self._place += 1
        self._highest = np.maximum(self._so_far, self._before[self._place])
        if self._place == len(self._block):
            np.maximum.accumulate(self._block[::-1], axis=0, out=self._before[-2::-1])
            self._place = 0
        return self._highest

    def _begin(self, seconds: float) -> None:
        """Begin a new block for steps of `seconds`. The highest value until now counts for the time of a block."""
        self._seconds = seconds
        length = max(math.ceil(self._hold_s / seconds), 1)
        self._block = np.empty((length, len(self._highest)), np.int16)
        self._before = np.empty((length + 1, len(self._highest)), np.int16)
        self._before[:-1], self._before[-1] = self._highest, -1000
        self._place = 0


class SwitchingLanes(PerLane):
    """A curve, and in quiet hours a target."""

    PER_LANE = ("_curve", "target", "_has_target", "_duty")

    def __init__(self, curve: CurveLanes, target: TargetLanes) -> None:
        self._curve, self.target = curve, target
        target.can_be_forced = True
        self._duty = np.full(len(target.learnt), math.nan)
        self._has_target = np.zeros(len(target.learnt), bool)

    @property
    def local_demand_percent(self) -> Array:
        """The duty for the own heat of each card, percent; NaN while the driver controls the fans."""
        return np.where(self._has_target, self.target.local_demand_percent, self._curve.local_demand_percent)

    @property
    def memory(self) -> Array:
        """The state that fades most slowly: the logarithm of the learnt number."""
        return self.target.learnt

    @property
    def own_duty_percent(self) -> Array:
        """The duty before any limit, percent; NaN while the driver controls the fans."""
        return self._duty

    def decide(self, now: LaneReadings) -> Array:
        """Return the duty of each lane, percent. NaN leaves the fans to the driver.

        A lane follows the target if its target is not NaN.
        """
        assert now.target_c is not None  # there are quiet hours with a target
        has_target = ~np.isnan(now.target_c)
        changed = (has_target != self._has_target) & ~np.isnan(self._duty)
        if changed.any():
            self.target.force(changed & has_target, self._duty)
            self._curve.force(changed & ~has_target, self._duty)
        self._has_target = has_target
        on_curve = self._curve.decide(now)
        now.target_c = np.where(has_target, now.target_c, _NO_TARGET_C)
        self._duty = np.where(has_target, self.target.decide(now), on_curve)
        return self._duty


_NO_TARGET_C = 100.0
"""The target law decides with this target, °C, where the curve applies; its decision is not used."""


class QuietLanes(PerLane):
    """`control.quiet_limit` for lanes with the same range of duties."""

    PER_LANE = ("_above", "highest_percent")

    def __init__(self, limits: tuple[int, int], full_at_c: float, lanes: int) -> None:
        """`limits` has the lowest and the highest duty, percent. From `full_at_c`, °C, on there is no limit."""
        self._low, self._high = map(float, limits)
        self._begins_c = full_at_c - YIELD_K
        self._above = np.zeros(lanes)
        self.highest_percent = np.full(lanes, self._high)
        """The highest duty that was allowed at the last reading, percent."""

    def limited(self, duty_percent: Array, now: LaneReadings, max_duty_percent: Array) -> Array:
        """Return the duties, lowered to `max_duty_percent`. Each array has a value for each lane, percent.

        NaN stands for a duty of the driver, and for no limit.
        """
        limit = np.clip(np.where(np.isnan(max_duty_percent), self._high, max_duty_percent), self._low, self._high)
        share = np.clip((now.reading_c - self._begins_c) / YIELD_K, 0.0, 1.0)
        fallen = self._above - FALL_PERCENT_PER_S * now.seconds
        self._above = np.where(limit < self._high, np.maximum((self._high - limit) * share, fallen), 0.0)
        self.highest_percent = np.minimum(limit + np.ceil(self._above), self._high)
        found: Array = np.minimum(duty_percent, self.highest_percent)
        return found
