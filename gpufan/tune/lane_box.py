"""All lanes of the cards of a box: the input of each step, and the state that a step advances. Needs numpy."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from time import struct_time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpufan.control.law import Learnt, duty_range
from gpufan.core.card_settings import CardSettings
from gpufan.core.gpu import GpuInfo
from gpufan.core.quiet_hours import Quiet, quiet_at
from gpufan.core.thermal import full_speed_from_c
from gpufan.tune.day_load import Array
from gpufan.tune.lane_help import Helper, HelpLanes
from gpufan.tune.lane_laws import CurveLanes, LaneReadings, QuietLanes, SwitchingLanes, TargetLanes
from gpufan.tune.lane_plants import PlantLanes
from gpufan.tune.lanes import WARM_STEPS, LaneLoad, Mask, PerLane, Rows, at_step_ends
from gpufan.tune.plant import FittedPlant

LocalTime = Callable[[float], struct_time]
"""Converts a time of the load, s, to the local time, for quiet hours."""

Places = NDArray[np.intp]


@dataclass(frozen=True)
class DayCard:
    """A card, its plant (thermal model), its load and its settings, for a replay."""

    info: GpuInfo
    plant: FittedPlant
    load: LaneLoad
    settings: CardSettings
    learnt: Learnt | None = None
    """What the target law knows of the card at the beginning; None if the card never has a target."""

    @property
    def limits(self) -> tuple[int, int]:
        """The lowest and the highest duty, percent."""
        return duty_range(self.info.duty_range, self.settings.min_duty_percent)

    @property
    def full_at_c(self) -> float:
        """The temperature from which the fans run at the highest duty, °C."""
        return full_speed_from_c(self.info.slowdown_c)


def lanes_of(places: Places, cards: int, lanes: int) -> Places:
    """Return the numbers of the lanes at `places` of each card, if each of `cards` has `lanes`."""
    found: Places = (np.arange(cards)[:, None] * lanes + places[None, :]).reshape(-1)
    return found


@dataclass(frozen=True)
class BoxRows:
    """The input of each step: a row for each step, with an item for each lane. The lanes of a card are side by side."""

    power_w: Rows
    air_c: Rows
    """Temperature of the air at the heatsink."""
    log_power: Rows
    """`lanes.Expected.log`."""
    pauses: Mask
    """`lanes.Expected.pauses`."""
    known: Mask
    """Whether the card was recorded."""
    noise_k: Rows | None
    """Noise of the sensor; None if there is none."""
    max_duty_percent: Rows | None
    target_c: Rows | None
    """Limits and targets of quiet hours; NaN where there is none, None if there are none at any time."""

    @classmethod
    def of(cls, cards: Sequence[DayCard], wall_clock: LocalTime) -> "BoxRows":
        """Return the rows of `cards`."""
        loads = [card.load for card in cards]

        def joined(name: str) -> NDArray[Any]:
            return np.concatenate([getattr(load, name) for load in loads], axis=1)

        noise_k = joined("noise_k")
        limits: Rows | None = None
        targets_c: Rows | None = None
        if any(card.settings.quiet_hours for card in cards):
            quiet = [_quiet_rows(card, wall_clock) for card in cards]
            limits, targets_c = (np.concatenate(rows, axis=1) for rows in zip(*quiet, strict=True))
            limits, targets_c = (None if np.isnan(rows).all() else rows for rows in (limits, targets_c))
        return cls(
            power_w=joined("power_w"),
            air_c=np.concatenate([card.load.air_c(card.plant) for card in cards], axis=1),
            log_power=joined("log_power"),
            pauses=joined("pauses"),
            known=joined("known"),
            noise_k=noise_k if noise_k.any() else None,
            max_duty_percent=limits,
            target_c=targets_c,
        )

    def after_warm_up(self, lanes: Places | slice = slice(None)) -> "BoxRows":
        """Return the rows of `lanes` after the warm-up."""
        changes: dict[str, Any] = {}
        for field in fields(self):
            rows = getattr(self, field.name)
            changes[field.name] = None if rows is None else rows[WARM_STEPS:, lanes]
        return replace(self, **changes)


def _quiet_rows(card: DayCard, wall_clock: LocalTime) -> tuple[Rows, Rows]:
    """Return the highest duty and the target in quiet hours at the end of each step. NaN stands for none."""
    minutes, places = np.unique(card.load.time_s // 60, return_inverse=True)
    hours = card.settings.quiet_hours
    quiet = [quiet_at(hours, wall_clock(minute * 60)) if hours else None for minute in minutes]
    values = [(q or _NOT_QUIET)[:2] for q in quiet]
    table = np.array([[math.nan if value is None else value for value in pair] for pair in values], np.float32)
    rows = table[at_step_ends(places).astype(np.intp)]
    return rows[..., 0], rows[..., 1]


_NOT_QUIET = Quiet(None, None, "")


class _Group(PerLane):
    """The laws of cards with the same settings."""

    def __init__(self, cards: Sequence[DayCard], rows: BoxRows) -> None:
        first = cards[0]
        settings, limits, full_at_c = first.settings, first.limits, first.full_at_c
        self.cards = len(cards)
        count = len(cards) * len(first.load.start_c)
        target: TargetLanes | None = None
        self._own_target_c = math.nan if settings.target_c is None else settings.target_c
        hours = settings.quiet_hours
        self._has_quiet_target = rows.target_c is not None and any(each.target_c is not None for each in hours)
        has_quiet_limit = rows.max_duty_percent is not None and any(each.max_duty_percent is not None for each in hours)
        if settings.target_c is not None or self._has_quiet_target:
            learnt = [card.learnt for card in cards for _ in card.load.start_c if card.learnt is not None]
            speeds = np.concatenate([card.load.start_percent for card in cards])
            starts_c = np.concatenate([card.load.start_c for card in cards])
            target = TargetLanes(settings, limits, full_at_c, learnt, speeds, starts_c)
        self.law: TargetLanes | CurveLanes | SwitchingLanes
        if target is not None and settings.target_c is not None:
            self.law = target
        else:
            curve = CurveLanes(settings, limits, full_at_c, count)
            self.law = curve if target is None else SwitchingLanes(curve, target)
        self._quiet = QuietLanes(limits, full_at_c, count) if has_quiet_limit else None
        self.PER_LANE = ("law",) if self._quiet is None else ("law", "_quiet")

    @property
    def target(self) -> TargetLanes | None:
        """The target law; None if no card has a target at any time."""
        return None if isinstance(self.law, CurveLanes) else self.law.target

    def duty(self, now: LaneReadings, rows: BoxRows, step: int, lanes: slice) -> Array:
        """Return the duty of each lane after `step`, percent. NaN leaves the fans to the driver."""
        if self._has_quiet_target and rows.target_c is not None:
            quiet_c = rows.target_c[step, lanes]
            now.target_c = np.where(np.isnan(quiet_c), self._own_target_c, quiet_c)
        duty = self.law.decide(now)
        if self._quiet is None or rows.max_duty_percent is None:
            return duty
        return self._quiet.limited(duty, now, rows.max_duty_percent[step, lanes])

    @property
    def demand_percent(self) -> Array:
        """The duty that each card needs for its own heat, percent. NaN while the driver controls the fans."""
        return self.limited_percent(self.law.local_demand_percent)

    def limited_percent(self, duty_percent: Array) -> Array:
        """Return duties, lowered to the highest that quiet hours allowed at the last reading."""
        return duty_percent if self._quiet is None else np.minimum(duty_percent, self._quiet.highest_percent)


class Record(NamedTuple):
    """The temperature, °C, and the fan speed of each lane after each step."""

    temperature_c: Rows
    speed_percent: Rows

    @classmethod
    def empty(cls, steps: int, lanes: int) -> "Record":
        """Return a record for `steps`, to be filled."""
        return cls(np.empty((steps, lanes), np.float32), np.empty((steps, lanes), np.float32))


class BoxLanes:
    """The state of all lanes of a box."""

    def __init__(self, cards: Sequence[DayCard], rows: BoxRows) -> None:
        """Begin with the cards settled at their recorded temperatures."""
        self.cards = len(cards)
        self.count = len(cards[0].load.start_c)
        """Number of lanes of each card."""
        by_driver = any(None in {duty for _, duty in card.settings.curve.points} for card in cards)
        self.plants = PlantLanes([card.plant for card in cards], [card.load for card in cards], by_driver=by_driver)
        self.duty_percent = self.plants.speed_percent.copy()
        """The duty that was set, percent. NaN while the driver controls the fans."""
        self._help = HelpLanes([Helper(card.info, card.settings, card.limits[1]) for card in cards], self.count)
        self.groups = [
            _Group(list(same), rows)
            for _, same in groupby(cards, lambda card: (card.settings, card.limits, card.full_at_c))
        ]
        for target in self.targets:
            target.finds_saturated = len(cards) > 1

    @property
    def targets(self) -> list[TargetLanes]:
        """The target laws, in the order of the cards."""
        return [group.target for group in self.groups if group.target is not None]

    def run(self, rows: BoxRows, steps_s: Sequence[float], record: Record | None = None) -> None:
        """Make steps of `steps_s`, s, with the first `rows`."""
        for step, seconds in enumerate(steps_s):
            self.plants.advance(seconds, rows.power_w[step], rows.air_c[step], self.duty_percent)
            if record is not None:
                record.temperature_c[step] = self.plants.die_c
                record.speed_percent[step] = self.plants.speed_percent
            self._decide(seconds, rows, step)

    def selected(self, places: Places) -> "BoxLanes":
        """Return a copy that has only the lanes at `places` of each card."""
        found = copy.copy(self)
        found.count = len(places)
        lanes = lanes_of(places, self.cards, self.count)
        found.plants, found.duty_percent = self.plants.selected(lanes), self.duty_percent[lanes]
        found._help = self._help.selected(places)
        found.groups = [group.selected(lanes_of(places, group.cards, self.count)) for group in self.groups]
        return found

    def replace_lanes(self, places: Places, other: "BoxLanes") -> None:
        """Replace the lanes at `places` of each card by those of `other`, which has these lanes only."""
        lanes = lanes_of(places, self.cards, self.count)
        self.plants.replace_lanes(lanes, other.plants)
        self.duty_percent[lanes] = other.duty_percent
        self._help.replace_lanes(places, other._help)
        for group, new in zip(self.groups, other.groups, strict=True):
            group.replace_lanes(lanes_of(places, group.cards, self.count), new)

    @property
    def has_curve(self) -> Mask:
        """Which lanes follow a curve at all times."""
        return np.repeat(
            [isinstance(group.law, CurveLanes) for group in self.groups],
            [group.cards * self.count for group in self.groups],
        )

    def signs(self) -> Array:
        """Return values of each lane by which two states are compared.

        They are the duty, the temperature, and `memory` of the law: the learnt number, or the held temperature.
        """
        duties = np.concatenate([np.nan_to_num(group.law.own_duty_percent) for group in self.groups])
        return np.array([duties, self.plants.die_c, np.concatenate([group.law.memory for group in self.groups])])

    def recall(self, other: "BoxLanes", sources: Places, learnt: Array) -> None:
        """Let curves remember what they do in the lanes `sources` of `other`, and let targets know `learnt`."""
        begin, begin_other = 0, 0
        for group, of_other in zip(self.groups, other.groups, strict=True):
            lanes = slice(begin, begin + group.cards * self.count)
            if group.target is not None:
                group.target.learnt = learnt[lanes]
            if isinstance(group.law, CurveLanes) and isinstance(of_other.law, CurveLanes):
                group.law.recall(of_other.law, sources[lanes] - begin_other)
                self.duty_percent[lanes] = group.limited_percent(group.law.own_duty_percent)
            begin, begin_other = lanes.stop, begin_other + of_other.cards * other.count

    def _decide(self, seconds: float, rows: BoxRows, step: int) -> None:
        """Let the laws decide after a step of `seconds`."""
        plants = self.plants
        die_c = plants.die_c
        readings_c = np.rint(die_c if rows.noise_k is None else die_c + rows.noise_k[step])
        throttled = plants.throttled
        shared = self._shared(seconds, rows.known[step]) if self._needs_help() else None
        begin = 0
        for group in self.groups:
            lanes = slice(begin, begin + group.cards * self.count)
            begin = lanes.stop
            now = LaneReadings(
                seconds,
                readings_c[lanes],
                plants.speed_percent[lanes],
                rows.log_power[step, lanes],
                rows.pauses[step, lanes],
                throttled=None if throttled is None else throttled[lanes],
                shared=None if shared is None else shared[lanes],
            )
            self.duty_percent[lanes] = group.duty(now, rows, step, lanes)

    def _needs_help(self) -> bool:
        """Whether a card may help another one."""
        if self._help.has_neighbours:
            return bool(self.targets)
        return self.cards > 1 and any(target.has_saturated for target in self.targets)

    def _shared(self, seconds: float, known: Mask) -> Array:
        """Return the duty of each lane for the other cards, percent, from the decisions before this step."""
        shape = self.cards, self.count
        demands = np.concatenate([group.demand_percent for group in self.groups])
        demands = np.where(known & ~np.isnan(demands), demands, 0.0)
        saturated = [
            np.zeros(group.cards * self.count, bool) if group.target is None else group.target.saturated
            for group in self.groups
        ]
        found = self._help.duties_percent(seconds, demands.reshape(shape), np.concatenate(saturated).reshape(shape))
        return found.reshape(-1)
