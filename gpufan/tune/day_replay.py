"""Replays a day of recorded load under other settings, second by second, in some hundredths of a second. Needs numpy.

`replay.py` ticks workers once a second, and needs five seconds for a day of one card. Here the day is divided into
lanes (`lanes.py`), and a step advances all lanes of all cards together. The laws are those of `lane_laws.py`, which are
compared with the laws of real cards. tests/benchmarks/README.md has the difference between both replays.

Left out are the ramp of the fans, the limits by which clocks give way, and readings that cannot be trusted.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpufan.core.thermal import SOUND_EXPONENT, mean_sound_db
from gpufan.daemon.summary import HOT_C, Swings
from gpufan.tune.day_load import Array
from gpufan.tune.lane_box import BoxLanes, BoxRows, DayCard, LocalTime, Places, Record, lanes_of
from gpufan.tune.lanes import LANE_S, PROBE_LANES, PROBE_STEPS, STEPS_S, WARM_STEPS

_PROBE_SHIFT = 0.1
"""What is learnt differs by this much between the probes and the first guess: by a tenth of the duty."""

ROUNDS = 2
"""See `replay_day`."""

_DIFFERENCES = np.array([0.5, 0.4, 0.02])
"""Two states differ if one of their signs does by more than this: see `BoxLanes.signs`."""


class DayOutcome(NamedTuple):
    """The effect of settings on a card in the seconds in which it was recorded."""

    seconds: int
    peak_c: float
    hot_s: int
    """Time above `daemon.summary.HOT_C`, s."""
    sound_db: float
    swings: int
    time_s: Array
    temperature_c: NDArray[np.float32]
    duty_percent: NDArray[np.float32]
    """The speed of the fans. The three arrays have an item for each second."""


def replay_day(cards: Sequence[DayCard], wall_clock: LocalTime) -> list[DayOutcome]:
    """Control the fans of `cards` under their loads, and return the outcome of each.

    All loads have the same grid of time. All cards are replayed at the same time, so that a card helps its
    neighbours as under the daemon. Lanes that do not begin as the lane before them ends are replayed again, at most
    `ROUNDS` times. Raises ValueError if the grid is empty.
    """
    record = _replay(cards, wall_clock, ROUNDS)
    return [_outcome(card, *of_card) for card, of_card in zip(cards, _cards_of(record, len(cards)), strict=True)]


def peaks_c(cards: Sequence[DayCard], wall_clock: LocalTime) -> list[float]:
    """Return the highest temperature of each card, °C, like `replay_day`, but in half of the time.

    No lane is replayed again, which changes a peak little. Raises ValueError if the grid is empty.
    """
    record = _replay(cards, wall_clock, rounds=0)
    of_cards = zip(cards, _cards_of(record, len(cards)), strict=True)
    return [float(np.max(_known(card, temperatures_c), initial=-math.inf)) for card, (temperatures_c, _) in of_cards]


def _replay(cards: Sequence[DayCard], wall_clock: LocalTime, rounds: int) -> Record:
    """Replay all lanes of `cards`, and lanes that do not begin as they should again, at most `rounds` times."""
    if not len(cards[0].load.time_s):
        raise ValueError("there is no load")
    rows = BoxRows.of(cards, wall_clock)
    lanes = BoxLanes(cards, rows)
    slopes = _begin_with_learnt(lanes, cards, rows) if lanes.targets else np.zeros(len(lanes.duty_percent))
    lanes.run(rows, STEPS_S[:WARM_STEPS])
    record = Record.empty(LANE_S, len(lanes.duty_percent))
    begins = lanes.signs()
    lanes.run(rows.after_warm_up(), STEPS_S[WARM_STEPS:], record)
    for _ in range(rounds):
        ends = lanes.signs()
        sources = _sources(record.speed_percent, begins, ends, lanes)
        wanted = _wanted_begins(begins, ends, slopes, sources, lanes.count)
        differs = np.abs(wanted - begins).reshape(len(wanted), -1, lanes.count) > _DIFFERENCES[:, None, None]
        places = np.flatnonzero(differs.any(axis=(0, 1)))
        if not len(places):
            break
        numbers = lanes_of(places, lanes.cards, lanes.count)
        begins[:, numbers] = wanted[:, numbers]
        again = lanes.selected(np.maximum(places - 1, 0))
        again.recall(lanes, sources[numbers], begins[2, numbers])
        part = Record.empty(LANE_S, len(numbers))
        again.run(rows.after_warm_up(numbers), STEPS_S[WARM_STEPS:], part)
        lanes.replace_lanes(places, again)
        for all_lanes, new in zip(record, part, strict=True):
            all_lanes[:, numbers] = new
    return record


def _cards_of(record: Record, cards: int) -> list[Record]:
    """Return the part of each card of `record`, which has the lanes of `cards`."""
    parts = zip(*(np.split(rows, cards, axis=1) for rows in record), strict=True)
    return [Record(*rows) for rows in parts]


def _known(card: DayCard, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the values in the seconds in which `card` was recorded. `rows` has a row for each second of a lane."""
    known = card.load.load.known
    found: NDArray[np.float32] = rows.T.reshape(-1)[: len(known)][known]
    return found


def _begin_with_learnt(lanes: BoxLanes, cards: Sequence[DayCard], rows: BoxRows) -> Array:
    """Find what the target laws have learnt at the beginning of each lane, and let them begin with it.

    A lane forgets how warm its card was, but what is learnt may stay for hours. So two probes with the long steps of
    the warm-up find how the learnt number changes in some lanes, depending on that at the beginning of these lanes.
    """
    ends = []
    for shift in (-_PROBE_SHIFT, _PROBE_SHIFT):
        probe = BoxLanes(cards, rows)
        for target in probe.targets:
            target.learnt = target.learnt + shift
        probe.run(rows, STEPS_S[:PROBE_STEPS])
        ends.append([target.learnt.reshape(-1, lanes.count) for target in probe.targets])
    slopes = []
    for target, low, high in zip(lanes.targets, *ends, strict=True):
        first = target.learnt.reshape(-1, lanes.count)
        slope, middle = (high - low) / (2 * _PROBE_SHIFT), (low + high) / 2
        found = first.copy()
        for lane in range(lanes.count - PROBE_LANES):
            difference = found[:, lane] - first[:, lane]
            found[:, lane + PROBE_LANES] = middle[:, lane] + slope[:, lane] * difference
        target.learnt = found.reshape(-1)
        of_lane = np.clip(slope, 0.0, 1.0) ** (1 / PROBE_LANES)
        slopes.append(
            np.pad(of_lane[:, PROBE_LANES:], ((0, 0), (0, PROBE_LANES)), constant_values=1.0).reshape(-1)[: first.size]
        )
    return np.concatenate(slopes)


def _sources(speeds: NDArray[np.float32], begins: Array, ends: Array, lanes: BoxLanes) -> Places:
    """Return for each lane the number of the lane before it whose end the law of this lane remembers.

    This is the lane before it; under a curve, the last one that has changed the speed of the fans or the temperature
    that the curve holds.
    """
    has_changed = (speeds[1:] != speeds[1]).any(axis=0) | (begins[2] != ends[2]) | ~lanes.has_curve
    has_changed = has_changed.reshape(-1, lanes.count)
    has_changed[:, 0] = True
    last = np.maximum.accumulate(np.where(has_changed, np.arange(lanes.count), 0), axis=1)
    last = np.concatenate([last[:, :1], last[:, :-1]], axis=1)
    found: Places = (last + lanes.count * np.arange(len(last))[:, None]).reshape(-1)
    return found


def _wanted_begins(begins: Array, ends: Array, slopes: Array, sources: Places, count: int) -> Array:
    """Return the signs with which each lane should begin.

    The temperature is that at the end of the lane before it, the rest that at the end of the lane in `sources`. What a
    target law learns depends on all lanes before: `slopes` says how much of a change is left at the end of a lane, so
    that a change is passed on at once.
    """
    begin, end = (signs.reshape(len(signs), -1, count) for signs in (begins, ends))
    wanted = ends[:, sources].reshape(begin.shape)
    wanted[1, :, 1:] = end[1, :, :-1]
    wanted[:, :, 0] = begin[:, :, 0]
    slope = slopes.reshape(-1, count)
    for lane in range(1, count):
        wanted[2, :, lane] += slope[:, lane - 1] * (wanted[2, :, lane - 1] - begin[2, :, lane - 1])
    return wanted.reshape(begins.shape)


def _outcome(card: DayCard, temperatures_c: NDArray[np.float32], speeds: NDArray[np.float32]) -> DayOutcome:
    """Return the outcome of a card from its temperatures and fan speeds, with a row for each second of a lane."""
    temperature_c, speed_percent = _known(card, temperatures_c), _known(card, speeds)
    time_s = card.load.time_s[card.load.load.known]
    seconds = len(temperature_c)
    if not seconds:
        return DayOutcome(0, -math.inf, 0, 0.0, 0, time_s, temperature_c, speed_percent)
    energy = float(np.mean((speed_percent.astype(np.float64) / 100) ** SOUND_EXPONENT))
    swings = Swings()
    for duty in speed_percent[np.flatnonzero(np.diff(speed_percent, prepend=-1.0))].tolist():
        swings.add(duty)
    return DayOutcome(
        seconds,
        float(np.max(temperature_c)),
        int(np.count_nonzero(temperature_c > HOT_C)),
        mean_sound_db(energy * card.plant.full_scale_rpm**SOUND_EXPONENT),
        swings.count,
        time_s,
        temperature_c,
        speed_percent,
    )
