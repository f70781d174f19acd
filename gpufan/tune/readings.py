"""What of a recording tells about a card's physics: temperature, power and fan speed, without what is in doubt."""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from gpufan.control.sensor_guard import VALID_C
from gpufan.core.gpu import GpuInfo
from gpufan.core.selection import matches
from gpufan.daemon.recording import Row
from gpufan.errors import InputError
from gpufan.gpu.simulated import Plant

LONGEST = 7200
"""So many readings of each card count, the last ones: two hours at one a second."""

_GAP_S = 10.0
"""Over a longer gap nothing is known of what the card did: what comes after is a new stretch, s."""

_SHORTEST_S = 60.0
"""A shorter stretch tells nothing about a heatsink, s."""


_MOST_W, _MOST_RPM = 2000.0, 20_000.0
"""No card draws more, and no fan turns faster: what says so is absurd."""


class Reading(NamedTuple):
    """One reading of one card, complete."""

    time_s: float
    temperature_c: float
    power_w: float
    speed_percent: float
    duty_percent: float | None
    others_w: float
    """What the other cards of the recording drew together."""


Stretch = Sequence[Reading]
"""Readings in the order of time, without gaps."""


@dataclass(frozen=True)
class RecordedCard:
    """One card of a recording."""

    uuid: str
    label: str
    stretches: tuple[Stretch, ...]
    full_scale_rpm: float | None
    """Speed of the first fan at 100 %; None where rpm were not told."""
    pci: str = ""
    """Address as NVML prints it; empty where it is not known."""

    @property
    def info(self) -> GpuInfo:
        """What is known of it; that its fans take any duty is not, and assumed as for a nominal card."""
        index, _, name = self.label.partition(" ")
        number = int(index) if index.isdecimal() else 0
        return GpuInfo(self.uuid, self.pci, number, name or self.label, 1, Plant().duty_range, None, "recorded")

    @property
    def readings(self) -> list[Reading]:
        """All readings, in the order in which they were made."""
        return [reading for stretch in self.stretches for reading in stretch]

    @property
    def seconds(self) -> float:
        """How long the card was seen."""
        return sum(stretch[-1].time_s - stretch[0].time_s for stretch in self.stretches)


class _Collector:
    """The last readings of one card, as its rows come."""

    def __init__(self, row: Row) -> None:
        self.uuid = row.uuid
        self.label = row.label
        self.pci = row.pci
        self._readings: deque[Reading] = deque(maxlen=LONGEST)
        self._full_scale_rpm: deque[float] = deque(maxlen=LONGEST)

    def add(self, row: Row, others_w: float) -> None:
        """Take a row, if it is complete."""
        self.label, self.pci = row.label, row.pci or self.pci
        speed = row.duty_percent if row.speed_percent is None else row.speed_percent
        if row.temperature_c is None or row.power_w is None or speed is None:
            return
        if not VALID_C[0] <= row.temperature_c <= VALID_C[1] or not _is_power(row.power_w) or not 0 <= speed <= 200:
            return
        self._readings.append(Reading(row.time_s, row.temperature_c, row.power_w, speed, row.duty_percent, others_w))
        # At low speed the whole percents are too coarse.
        if row.speed_rpm and 0 < row.speed_rpm <= _MOST_RPM and speed >= 20:
            self._full_scale_rpm.append(row.speed_rpm / speed * 100)

    def card(self) -> RecordedCard:
        """What has come together."""
        stretches: list[list[Reading]] = []
        last_s = math.inf
        for reading in self._readings:
            if not 0 < reading.time_s - last_s <= _GAP_S:
                stretches.append([])
            last_s = reading.time_s
            stretches[-1].append(reading)
        long = tuple(stretch for stretch in stretches if stretch[-1].time_s - stretch[0].time_s >= _SHORTEST_S)
        rpm = sorted(self._full_scale_rpm)
        return RecordedCard(self.uuid, self.label, long, rpm[len(rpm) // 2] if rpm else None, self.pci)


def _is_power(power_w: float) -> bool:
    return 0 <= power_w <= _MOST_W


def collect(rows: Iterable[Row]) -> list[RecordedCard]:
    """Sort `rows` by card, in the order in which the cards first appear; what is incomplete or absurd is left out."""
    cards: dict[str, _Collector] = {}
    for _, together in groupby(rows, key=lambda row: row.time_s):
        tick = list({row.uuid: row for row in together}.values())  # what is told twice counts once
        powers_w = [row.power_w if row.power_w is not None and _is_power(row.power_w) else 0.0 for row in tick]
        for row, power_w in zip(tick, powers_w, strict=True):
            if row.uuid not in cards:
                cards[row.uuid] = _Collector(row)
            cards[row.uuid].add(row, sum(powers_w) - power_w)
    return [collector.card() for collector in cards.values()]


def choose(cards: Sequence[RecordedCard], names: Sequence[str], source: str) -> list[RecordedCard]:
    """The cards that `names` name, all where there are none. Raises InputError for a name that fits no card.

    `source` says there where they were looked for.
    """
    if not cards:
        raise InputError(f"{source} has no rows: `gpufan run --record FILE` makes them while it runs")
    for name in names:
        if not any(matches(card.info, name) for card in cards):
            known = ", ".join(f"{card.label} ({card.uuid})" for card in cards)
            raise InputError(f"--gpu {name}: no such card; {source} has {known}")
    return [card for card in cards if not names or any(matches(card.info, name) for name in names)]
