"""The cards of a recording: their complete and credible readings, in stretches without gaps."""

import math
import statistics
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, TypeGuard

from gpufan.control.sensor_guard import VALID_C
from gpufan.core.gpu import GpuInfo
from gpufan.core.selection import matches
from gpufan.daemon.recording import Row
from gpufan.errors import InputError
from gpufan.gpu.simulated import Plant

MOST_READINGS = 7200
"""Only the last readings of each card count, so many at most: two hours at one a second."""

_GAP_S = 10.0
"""After a longer gap the work of the card in between is unknown, so a new stretch starts, s."""

_SHORTEST_S = 60.0
"""A shorter stretch shows nothing of a heatsink, s."""

_JUMP_W = 50.0
"""A larger change of the power is a jump, W."""

_MOST_W, _MOST_RPM, _MOST_PERCENT = 2000.0, 20_000.0, 200.0
"""Higher values of power and fan speed are not credible."""


class Reading(NamedTuple):
    """One complete reading of one card."""

    time_s: float
    temperature_c: float
    power_w: float
    speed_percent: float
    duty_percent: float | None
    """The duty set, percent; None while the driver controlled the fans."""
    others_w: float
    """Power of all other cards of the recording, W."""
    full_scale_rpm: float | None
    """Fan speed at 100 %, as it follows from this reading, rpm; None if unknown."""


Stretch = Sequence[Reading]
"""Readings in the order of time, without gaps."""


@dataclass(frozen=True)
class RecordedCard:
    """One card of a recording."""

    uuid: str
    label: str
    stretches: tuple[Stretch, ...]
    pci: str = ""
    """PCI address as NVML prints it; empty if unknown."""

    @property
    def info(self) -> GpuInfo:
        """The card as far as it is known; its duty range is not, so that of a nominal card is assumed."""
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
        return sum(seconds(stretch) for stretch in self.stretches)

    @property
    def full_scale_rpm(self) -> float | None:
        """Fan speed at 100 %, rpm; None if no row has rpm."""
        found = [reading.full_scale_rpm for reading in self.readings if reading.full_scale_rpm is not None]
        return statistics.median_high(found) if found else None


def collect(rows: Iterable[Row]) -> list[RecordedCard]:
    """Collect the cards of `rows`, in the order of their first rows. Incomplete and incredible rows are left out."""
    latest: dict[str, Row] = {}
    readings: defaultdict[str, deque[Reading]] = defaultdict(lambda: deque(maxlen=MOST_READINGS))
    for _, together in groupby(rows, key=lambda row: row.time_s):
        tick = {row.uuid: row for row in together}  # a card counts once, even if its row is there twice
        powers_w = {uuid: row.power_w if _credible(row.power_w, 0, _MOST_W) else 0.0 for uuid, row in tick.items()}
        for uuid, row in tick.items():
            known_pci = latest[uuid].pci if uuid in latest else ""
            latest[uuid] = row._replace(pci=row.pci or known_pci)
            reading = _reading(row, sum(powers_w.values()) - powers_w[uuid])
            if reading is not None:
                readings[uuid].append(reading)
    return [RecordedCard(uuid, row.label, _stretches(readings[uuid]), row.pci) for uuid, row in latest.items()]


def _reading(row: Row, others_w: float) -> Reading | None:
    """The reading of `row`; None if it is incomplete or not credible."""
    speed = row.duty_percent if row.speed_percent is None else row.speed_percent
    if not (
        _credible(row.temperature_c, *VALID_C)
        and _credible(row.power_w, 0, _MOST_W)
        and _credible(speed, 0, _MOST_PERCENT)
    ):
        return None
    # Whole percents are too coarse at low speed.
    rpm = row.speed_rpm / speed * 100 if speed >= 20 and _credible(row.speed_rpm, 1, _MOST_RPM) else None
    return Reading(row.time_s, row.temperature_c, row.power_w, speed, row.duty_percent, others_w, rpm)


def _credible(value: float | None, low: float, high: float) -> TypeGuard[float]:
    return value is not None and low <= value <= high


def _stretches(readings: Iterable[Reading]) -> tuple[Stretch, ...]:
    """Divide `readings` at their gaps; stretches that are too short are left out."""
    found: list[list[Reading]] = []
    last_s = math.inf
    for reading in readings:
        if not 0 < reading.time_s - last_s <= _GAP_S:
            found.append([])
        last_s = reading.time_s
        found[-1].append(reading)
    return tuple(_with_momentary_power(stretch) for stretch in found if seconds(stretch) >= _SHORTEST_S)


def _with_momentary_power(stretch: Stretch) -> Stretch:
    """`stretch` with another power in the middle of each jump.

    Many cards report the mean power of a second. In the middle of a jump this is neither the power before nor the power
    after it. The temperature follows within a second, so the power after it counts.
    """
    found = list(stretch)
    for before, (number, now), after in zip(stretch, enumerate(stretch[1:], 1), stretch[2:], strict=False):
        jump_w = after.power_w - before.power_w
        if abs(jump_w) > _JUMP_W and 0.05 < (now.power_w - before.power_w) / jump_w < 0.95:
            found[number] = now._replace(power_w=after.power_w)
    return found


def seconds(stretch: Stretch) -> float:
    """Length of `stretch`, s."""
    return stretch[-1].time_s - stretch[0].time_s


def choose(cards: Sequence[RecordedCard], names: Sequence[str], source: str) -> list[RecordedCard]:
    """The cards that match one of `names`; all cards if there are no names.

    Raises InputError for a name that matches no card; `source` is named there as the place of the search.
    """
    if not cards:
        raise InputError(f"{source} has no rows: `gpufan run --record FILE` writes them")
    for name in names:
        if not any(matches(card.info, name) for card in cards):
            known = ", ".join(f"{card.label} ({card.uuid})" for card in cards)
            raise InputError(f"--gpu {name}: no such card; {source} has {known}")
    return [card for card in cards if not names or any(matches(card.info, name) for name in names)]
