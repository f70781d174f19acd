"""The recorded load of cards second by second, on a grid of time that all cards of a box share. Needs numpy.

`day_replay.py` replays it. Nothing here depends on settings or on the plant (the thermal model) of a card.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpufan.tune.recorded_cards import RecordedCard

Array = NDArray[np.floating[Any]]

_JUMP_W = 25.0
"""A reading counts as noise of the sensor only if the power changes by less than this, W."""


@dataclass(frozen=True, eq=False)
class DayLoad:
    """The load of one card. Each array has an item for each second of the grid. Gaps of the recording are left out."""

    time_s: Array
    """When the second begins, seconds since the epoch, or since the start of the recording."""
    power_w: Array
    others_w: Array
    """Power of all other cards, W."""
    temperature_c: Array
    """The recorded temperature, °C."""
    speed_percent: Array
    """The recorded fan speed."""
    known: NDArray[np.bool_]
    """Whether the card was recorded in this second. If not, its values are those of the nearest reading."""

    def __getstate__(self) -> dict[str, Any]:
        """Return the arrays for another process, with half of the bytes. The power is exact to a few mW."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: a.astype(np.float32) if name in _SHRUNK else a for name, a in arrays.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, array in state.items():
            object.__setattr__(self, name, array.astype(np.float64) if name in _SHRUNK else array)


_SHRUNK = ("power_w", "others_w", "temperature_c", "speed_percent")


def day_loads(cards: Sequence[RecordedCard]) -> list[DayLoad]:
    """Return the load of each card. The grid has the seconds in which at least one card was recorded."""
    seconds = [_seconds_of(card) for card in cards]
    grid = np.unique(np.concatenate([*seconds, np.empty(0, np.int64)]))
    return [_on_grid(card, own, grid) for card, own in zip(cards, seconds, strict=True)]


def _seconds_of(card: RecordedCard) -> NDArray[np.int64]:
    """Return the seconds in which `card` was recorded, in the order of time."""
    found = [np.arange(round(part[0].time_s), round(part[-1].time_s), dtype=np.int64) for part in card.stretches]
    return np.unique(np.concatenate([*found, np.empty(0, np.int64)]))


def _on_grid(card: RecordedCard, own: NDArray[np.int64], grid: NDArray[np.int64]) -> DayLoad:
    """Return the load of `card`, which was recorded in the seconds `own`, on `grid`."""
    readings = sorted(card.readings, key=lambda reading: reading.time_s)
    if not readings:
        nothing = np.zeros(len(grid))
        return DayLoad(grid.astype(float), nothing, nothing, nothing, nothing, np.zeros(len(grid), bool))
    table = np.array([(r.time_s, r.power_w, r.others_w, r.temperature_c, r.speed_percent) for r in readings])
    # A reading has the power of the time before it.
    places = np.minimum(np.searchsorted(table[:, 0], grid + 0.5), len(readings) - 1)
    power_w, others_w, temperature_c, speed_percent = (table[places, column] for column in range(1, 5))
    known = np.isin(grid, own, assume_unique=True)
    return DayLoad(grid.astype(float), power_w, others_w, temperature_c, speed_percent, known)


def reading_jitter_k(card: RecordedCard) -> float:
    """Return the standard deviation of the temperature from reading to reading, K, apart from rounding.

    The driver rounds to whole degrees. A temperature that stands still, with noise of a standard deviation s, changes
    from reading to reading and back in a share of 0.56 s of the cases, if s is well below 1 K.
    """
    count = changes = 0
    for stretch in card.stretches:
        for one, two, three in zip(stretch, stretch[1:], stretch[2:], strict=False):
            if max(abs(two.power_w - one.power_w), abs(three.power_w - two.power_w)) < _JUMP_W:
                count += 1
                changes += one.temperature_c == three.temperature_c != two.temperature_c
    return min(changes / count / 0.56, 1.0) if count else 0.0
