"""The readings of the last ten minutes, and the bars that show them. Older readings are in `history/`."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.daemon.recording import Row
from gpufan.errors import GpufanError

_SPAN_S = 600.0
"""The time that a line of bars covers, s."""

_BARS = (30, 60)
"""Possible numbers of bars in a line. The larger one is used if it fits. Both divide `_SPAN_S` without remainder."""

_BAR_CHARACTERS = "▁▂▃▄▅▆▇█"

Quantity = Callable[[GpuState | Row], float | None]
"""A function that returns a value of a card from its state or from a row of its history; None if it is unknown."""


class RecentReadings:
    """The readings of each card in the last ten minutes."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        """Begin with `rows` of the history, the oldest row first. All rows are older than the first snapshot."""
        self._latest_s = -math.inf
        self._readings: dict[str, deque[tuple[float, GpuState | Row]]] = {}
        for row in rows:
            self._readings.setdefault(row.uuid, deque()).append((row.time_s, row))
            self._latest_s = row.time_s

    def add(self, snapshot: Snapshot) -> None:
        """Add a snapshot, unless it has the same time as the last one. Remove readings older than ten minutes."""
        now_s = snapshot.time_s if snapshot.simulated_s is None else snapshot.simulated_s
        if now_s < self._latest_s:  # the clock was set back, or another simulation began
            self._readings.clear()
        elif now_s == self._latest_s:
            return
        self._latest_s = now_s
        for gpu in snapshot.states:
            readings = self._readings.setdefault(gpu.key, deque())
            readings.append((now_s, gpu))
            while readings[0][0] <= now_s - _SPAN_S:
                readings.popleft()

    def extremes(self, card: str, quantity: Quantity) -> tuple[float, float] | None:
        """Return the lowest and the highest value of `quantity` of a card; None if no value is known.

        `card` is the key of the card.
        """
        values = [value for _, gpu in self._readings.get(card, ()) if (value := quantity(gpu)) is not None]
        return (min(values), max(values)) if values else None

    def maxima(self, card: str, quantity: Quantity, count: int) -> list[float | None]:
        """Divide the ten minutes into `count` parts. Return the highest value of `quantity` in each part.

        The oldest part comes first. If no value is known in a part, its result is None. `card` is the key of the card.
        """
        part_s = _SPAN_S / count
        last = math.floor(self._latest_s / part_s)
        found: list[float | None] = [None] * count
        for time_s, gpu in self._readings.get(card, ()):
            place = math.floor(time_s / part_s) - last + count - 1
            value = quantity(gpu)
            if value is not None and place >= 0:
                found[place] = max(value, found[place] or -math.inf)
        return found


class BarScale(NamedTuple):
    """The scale on which the bars of a quantity are drawn."""

    unit: str
    quantity: Quantity
    low: float
    """The value of the lowest bar."""
    high: float
    """The value of the highest bar. A higher reading makes the scale longer."""


TEMPERATURE = BarScale("°C", lambda gpu: gpu.temperature_c, 30, 90)
DUTY = BarScale("%", lambda gpu: gpu.duty_percent, 0, 100)
POWER = BarScale("W", lambda gpu: gpu.power_w, 0, 250)


def bar_scales_row(scales: Sequence[BarScale]) -> Text:
    """Return the row that explains the bars: `bars: 10 minutes, 30 to 90 °C`."""
    return Text(f"bars: 10 minutes, {', '.join(f'{s.low:g} to {s.high:g} {s.unit}' for s in scales)}", style="dim")


@dataclass(frozen=True)
class BarLine:
    """A line of bars for one quantity of one card. The unit stands before the bars, the extremes after them."""

    readings: RecentReadings
    card: str
    """The key of the card: `GpuState.key`."""
    scale: BarScale

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        room = options.max_width - len("°C  100..999")
        count = max((count for count in _BARS if count <= room), default=max(room, 1))
        unit, quantity, low, high = self.scale
        extremes = self.readings.extremes(self.card, quantity) or ()
        line = Text(f"{unit:2} ", style="dim", no_wrap=True, overflow="crop")
        values = self.readings.maxima(self.card, quantity, count)
        line.append(bars(values, low, max((high, *extremes))), style="not dim cyan")
        line.append(" " + "..".join(dict.fromkeys(f"{value:.0f}" for value in extremes)))
        yield line


def bars(values: Iterable[float | None], low: float, high: float) -> str:
    """Return a text with a bar for each value, on a scale from `low` to `high`. A value of None gives a space.

    >>> bars([30, 60, None, 89, 120], 30, 90)
    '▁▅ ██'
    """
    line = ""
    for value in values:
        if value is None:
            line += " "
        else:
            step = int((value - low) / (high - low) * len(_BAR_CHARACTERS))
            line += _BAR_CHARACTERS[min(max(step, 0), len(_BAR_CHARACTERS) - 1)]
    return line


def recent_readings(folder: Path) -> list[Row]:
    """Return the rows of the last ten minutes from the history in `folder`.

    The result is empty if there is no history, or if the history cannot be read.
    """
    from gpufan.history.reader import HistoryReader, TimeRange  # needs SQLite, which only this function uses

    now_s = time.time()
    with suppress(GpufanError), HistoryReader(folder) as reader:
        return list(reader.readings(reader.cards(), TimeRange(now_s - _SPAN_S, now_s)))
    return []
