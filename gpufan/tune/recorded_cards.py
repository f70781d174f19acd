"""The cards of a recording: their complete and credible readings, in stretches without gaps, and their usual work."""

import math
import statistics
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import NamedTuple, TypeGuard

from gpufan.control.sensor_guard import VALID_C
from gpufan.core.gpu import GpuInfo
from gpufan.core.selection import card_matches
from gpufan.daemon.recording import Row
from gpufan.errors import InputError
from gpufan.gpu.simulated import Plant

MOST_READINGS = 7200
"""Of each card, only the last readings up to this number are fitted: two hours with one reading a second."""

_GAP_S = 10.0
"""If more time than this (s) passes between two readings, a new stretch begins.

What the card did in such a gap is unknown.
"""

_SHORTEST_S = 60.0
"""A stretch shorter than this (s) is left out. It shows nothing about a heatsink."""

_JUMP_W = 50.0
"""A change of the power by more than this is a jump, W."""

_MOST_W, _MOST_RPM, _MOST_PERCENT = 2000.0, 20_000.0, 200.0
"""Power (W) and fan speed (rpm, percent) above these values are not credible."""


class Reading(NamedTuple):
    """A complete reading of a card: temperature, power and fan speed are known."""

    time_s: float
    temperature_c: float
    power_w: float
    speed_percent: float
    duty_percent: float | None
    """The duty that gpufan had set, percent. None while the driver controlled the fans."""
    others_w: float
    """Power of all other cards of the recording, W."""
    full_scale_rpm: float | None
    """Fan speed at 100 %, rpm, computed from the speed in this reading. None if the reading has no credible rpm."""


Stretch = Sequence[Reading]
"""Readings of a card in the order of time, without gaps."""


class UsualWork(NamedTuple):
    """How a card usually worked in a recording: its fan speed, and the power of the other cards."""

    duty: float
    """Median fan speed, 0..1."""
    others_slope: float
    others_w: float
    """The power of the other cards together is about `others_slope` * P + `others_w`, W.

    P is the power of this card, W.
    """
    alone: bool
    """Whether no other card is in the recording."""

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> "UsualWork":
        """Compute the usual work from the readings of a card."""
        powers_w, others_w = ([r.power_w for r in readings], [r.others_w for r in readings])
        duty = max(statistics.median(r.speed_percent for r in readings) / 100, 0.05)
        if min(powers_w) == max(powers_w):
            return cls(duty, 0.0, statistics.fmean(others_w), alone=not any(others_w))
        return cls(duty, *statistics.linear_regression(powers_w, others_w), alone=not any(others_w))


@dataclass(frozen=True)
class RecordedCard:
    """A card of a recording."""

    uuid: str
    label: str
    stretches: tuple[Stretch, ...]
    pci: str = ""
    """PCI address as NVML prints it. Empty if the address is unknown."""

    @property
    def info(self) -> GpuInfo:
        """The identity of the card. A recording has no duty range, so the duty range of a GTX 1080 Ti is assumed."""
        index, _, name = self.label.partition(" ")
        number = int(index) if index.isdecimal() else 0
        return GpuInfo(self.uuid, self.pci, number, name or self.label, 1, Plant().duty_range, None, "recorded")

    @property
    def readings(self) -> list[Reading]:
        """All readings, in the order of time."""
        return [reading for stretch in self.stretches for reading in stretch]

    @property
    def seconds(self) -> float:
        """Total length of the stretches, s."""
        return sum(map(stretch_s, self.stretches))

    @property
    def full_scale_rpm(self) -> float | None:
        """Fan speed at 100 %, rpm. None if no reading has a credible rpm."""
        found = [reading.full_scale_rpm for reading in self.readings if reading.full_scale_rpm is not None]
        return statistics.median_high(found) if found else None

    def steps(self) -> Iterator[tuple[float, Reading]]:
        """Yield each reading with the seconds since the previous reading, in the order of time.

        The first reading of each stretch is left out.
        """
        for stretch in self.stretches:
            for before, after in pairwise(stretch):
                yield after.time_s - before.time_s, after

    def usual_range(self, value: Callable[[Reading], float]) -> tuple[float, float]:
        """Return the lowest and the highest value of the readings. `value` returns the value of one reading.

        The lowest 2 % and the highest 2 % of the values do not count.
        """
        ordered = sorted(map(value, self.readings))
        return ordered[len(ordered) // 50], ordered[-1 - len(ordered) // 50]


def recorded_cards(rows: Iterable[Row], most_readings: int = MOST_READINGS) -> list[RecordedCard]:
    """Return the cards of a recording in the order of their first rows, each with its last `most_readings` readings.

    Rows that are incomplete or not credible are left out.
    """
    latest: dict[str, Row] = {}
    readings: defaultdict[str, deque[Reading]] = defaultdict(lambda: deque(maxlen=most_readings))
    for _, together in groupby(rows, key=lambda row: row.time_s):
        tick = {row.uuid: row for row in together}  # a row that is there twice counts once
        powers_w = {uuid: row.power_w if _is_credible(row.power_w, 0, _MOST_W) else 0.0 for uuid, row in tick.items()}
        for uuid, row in tick.items():
            known_pci = latest[uuid].pci if uuid in latest else ""
            latest[uuid] = row._replace(pci=row.pci or known_pci)
            reading = _credible_reading(row, sum(powers_w.values()) - powers_w[uuid])
            if reading is not None:
                readings[uuid].append(reading)
    return [RecordedCard(uuid, row.label, _into_stretches(readings[uuid]), row.pci) for uuid, row in latest.items()]


def _credible_reading(row: Row, others_w: float) -> Reading | None:
    """Return the reading in `row`. Returns None if the reading is incomplete or not credible.

    `others_w` is the power of all other cards, W. If the fan speed is unknown, the duty replaces it.
    """
    speed = row.duty_percent if row.speed_percent is None else row.speed_percent
    if not (
        _is_credible(row.temperature_c, *VALID_C)
        and _is_credible(row.power_w, 0, _MOST_W)
        and _is_credible(speed, 0, _MOST_PERCENT)
    ):
        return None
    # Whole percents are too coarse at low speed.
    rpm = row.speed_rpm / speed * 100 if speed >= 20 and _is_credible(row.speed_rpm, 1, _MOST_RPM) else None
    return Reading(row.time_s, row.temperature_c, row.power_w, speed, row.duty_percent, others_w, rpm)


def _is_credible(value: float | None, low: float, high: float) -> TypeGuard[float]:
    """Return whether `value` is known and lies from `low` to `high`."""
    return value is not None and low <= value <= high


def _into_stretches(readings: Iterable[Reading]) -> tuple[Stretch, ...]:
    """Divide the readings of a card into stretches without gaps. Stretches shorter than `_SHORTEST_S` are left out."""
    found: list[list[Reading]] = []
    last_s = math.inf
    for reading in readings:
        if not 0 < reading.time_s - last_s <= _GAP_S:
            found.append([])
        last_s = reading.time_s
        found[-1].append(reading)
    return tuple(_with_momentary_power(stretch) for stretch in found if stretch_s(stretch) >= _SHORTEST_S)


def _with_momentary_power(stretch: Stretch) -> Stretch:
    """Return `stretch` with corrected powers. A reading in the middle of a jump gets the power of the next reading.

    Many cards report the mean power of the last second. During a jump, this mean is between the power before the jump
    and the power after it. The temperature follows the real power within a second.
    """
    found = list(stretch)
    for before, (number, now), after in zip(stretch, enumerate(stretch[1:], 1), stretch[2:], strict=False):
        jump_w = after.power_w - before.power_w
        if abs(jump_w) > _JUMP_W and 0.05 < (now.power_w - before.power_w) / jump_w < 0.95:
            found[number] = now._replace(power_w=after.power_w)
    return found


def stretch_s(stretch: Stretch) -> float:
    """Return the length of `stretch`, s."""
    return stretch[-1].time_s - stretch[0].time_s


def with_mean_power(card: RecordedCard, step_s: float) -> RecordedCard:
    """Return `card` with fewer readings: each is the last in `step_s` seconds, with the mean power of these seconds.

    `step_s` must be below the 10 s that count as a gap.
    """

    def steps(stretch: Stretch) -> Iterator[Reading]:
        yield stretch[0]
        group: list[Reading] = []
        begin_s = stretch[0].time_s
        for reading in stretch[1:]:
            group.append(reading)
            if reading.time_s - begin_s >= step_s or reading is stretch[-1]:
                power_w, speed, others_w = (
                    statistics.fmean(values)
                    for values in zip(*((r.power_w, r.speed_percent, r.others_w) for r in group), strict=True)
                )
                yield reading._replace(power_w=power_w, speed_percent=speed, others_w=others_w)
                group, begin_s = [], reading.time_s

    return replace(card, stretches=tuple(list(steps(stretch)) for stretch in card.stretches))


def choose_recorded(cards: Sequence[RecordedCard], names: Sequence[str], source: str) -> list[RecordedCard]:
    """Return the cards that the options `--gpu` with the values `names` select. Without names, return all cards.

    Raises InputError if a name matches no card, or if `cards` is empty. The error names `source`, from which the cards
    were read.
    """
    if not cards:
        raise InputError(f"{source} has no rows: `gpufan run --record FILE` writes them")
    for name in names:
        if not any(card_matches(card.info, name) for card in cards):
            known = ", ".join(f"{card.label} ({card.uuid})" for card in cards)
            raise InputError(f"--gpu {name}: no such card; {source} has {known}")
    return [card for card in cards if not names or any(card_matches(card.info, name) for name in names)]
