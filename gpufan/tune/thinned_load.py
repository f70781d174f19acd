"""Thins the recorded load of a card: the readings of a day become some thousand parts of nearly constant power.

`day_replay.py` replays these parts in place of single seconds. Nothing here depends on settings or on the plant (the
thermal model) of the card.
"""

import math
import statistics
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from gpufan.tune.recorded_cards import Reading, RecordedCard, Stretch

LONGEST_S = 14.0
"""Longest step of a replay while something changes, s. The laws and the sensor guard treat 15 s as a gap."""

LONGEST_CALM_S = 60.0
"""Longest part of the load while its power stays the same, s."""

MOST_PARTS = 7000
"""A load with more parts than this is thinned again, more coarsely. A replay needs about 15 µs for a part."""


class _Coarseness(NamedTuple):
    """How finely a load is divided."""

    first_s: float
    """Length of the part after a jump of the power, s. The law must see the jump soon."""
    growth: float
    """Each part may be longer than the part before by this factor, until the next jump."""
    jump: float
    """The limit of a jump is multiplied by this."""


_COARSENESS = (_Coarseness(1.0, 1.6, 1.0), _Coarseness(2.0, 2.0, 1.4), _Coarseness(4.0, 2.5, 2.0))
"""From fine to coarse."""

_CALM_AFTER_S = 300.0
"""The load is calm if its power has not jumped for this time, s. A heatsink has nearly settled then."""

_JUMP_W, _JUMP_NOISE = 25.0, 2.2
"""The power jumps if its filtered value differs from that at the beginning of the part by more than a limit.

The limit is `_JUMP_W`, or `_JUMP_NOISE` times the median change from reading to reading if that is higher.
"""

_FILTER_S = 2.5
"""Time constant of this filter, s. A die follows its power with about the same time constant."""


class LoadPart(NamedTuple):
    """A part of the recorded load, in which the power is nearly constant."""

    end_s: float
    """Seconds since the epoch, or since the start of the recording."""
    seconds: float
    power_w: float
    """Mean power of the card, W."""
    ripple_w: float
    """The highest filtered power, minus `power_w` or the filtered power at the beginning, whichever is higher, W.

    The temperature of the die follows the filtered power.
    """
    others_w: float
    """Mean power of all other cards, W."""
    temperature_c: float
    """The recorded temperature at the end, °C."""
    speed_percent: float
    """The recorded fan speed at the end."""


def thin_load(card: RecordedCard) -> list[LoadPart]:
    """Return the load of `card` in parts, in the order of time. Gaps of the recording are left out.

    The energy in the parts is that of the recording. There are at most about `MOST_PARTS` parts for a day.
    """
    for coarseness in _COARSENESS:
        found = [part for stretch in card.stretches for part in _thin_stretch(stretch, coarseness)]
        if len(found) <= MOST_PARTS:
            break
    return found


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


def _thin_stretch(stretch: Stretch, coarseness: _Coarseness) -> Iterator[LoadPart]:
    """Yield the parts of a stretch."""
    filtered_w = begin_w = highest_w = stretch[0].power_w
    noise_w = statistics.median(abs(after.power_w - before.power_w) for before, after in pairwise(stretch))
    jump_w = coarseness.jump * max(_JUMP_W, _JUMP_NOISE * noise_w)
    limit_s, calm_s = coarseness.first_s, 0.0
    found: list[tuple[float, Reading]] = []
    """The readings of the part, each with the seconds since the reading before."""
    seconds = 0.0
    for before, reading in pairwise(stretch):
        elapsed_s = reading.time_s - before.time_s
        filtered_w += (reading.power_w - filtered_w) * (1 - math.exp(-elapsed_s / _FILTER_S))
        is_jump = abs(filtered_w - begin_w) > jump_w
        if found and (is_jump or seconds + elapsed_s > limit_s):
            yield _load_part(found, seconds, begin_w, highest_w)
            calm_s = 0.0 if is_jump else calm_s + seconds
            longest_s = LONGEST_CALM_S if calm_s >= _CALM_AFTER_S else LONGEST_S
            limit_s = coarseness.first_s if is_jump else min(max(limit_s, seconds) * coarseness.growth, longest_s)
            begin_w = highest_w = filtered_w
            found, seconds = [], 0.0
        found.append((elapsed_s, reading))
        seconds += elapsed_s
        highest_w = max(highest_w, filtered_w)
    yield _load_part(found, seconds, begin_w, highest_w)


def _load_part(found: Sequence[tuple[float, Reading]], seconds: float, begin_w: float, highest_w: float) -> LoadPart:
    """Return the part of the load that has the readings `found`.

    `begin_w` and `highest_w` are the filtered power at its beginning, and the highest in it, W.
    """
    mean_w = sum(reading.power_w * elapsed_s for elapsed_s, reading in found) / seconds
    others_w = sum(reading.others_w * elapsed_s for elapsed_s, reading in found) / seconds
    ripple_w = max(highest_w - max(begin_w, mean_w), 0.0)
    _, last = found[-1]
    return LoadPart(last.time_s, seconds, mean_w, ripple_w, others_w, last.temperature_c, last.speed_percent)
