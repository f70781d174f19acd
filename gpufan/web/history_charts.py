"""The history as the page draws it: the answers to `/api/history` and `/api/density`. There is no HTTP here."""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gpufan.core.gpu import CASE_FAN
from gpufan.core.thermal import mean_sound_db, total_sound_db
from gpufan.errors import GpufanError, InputError
from gpufan.history.aggregate import Aggregate
from gpufan.history.database import MEASUREMENTS
from gpufan.history.events import Event, EventKind
from gpufan.history.reader import HistoryCard, HistoryReader, TimeRange
from gpufan.history.series import Step, count_swings, density, step_length_s, steps
from gpufan.web.card_words import PageSeverity

LONGEST_S, SHORTEST_S = 8 * 86400.0, 10.0
"""The longest and the shortest range of time of a request, s. The history has seven days."""

POINTS, MOST_POINTS = 800, 5000
"""The number of points of a line if a request does not say it, and the highest number."""

_DAY_S = 86400.0
_GAP_S = 15.0
"""A line has a gap where no reading arrives for longer than this, s, and for longer than three of its steps."""

_CELL_C, _CELL_PERCENT = 1.0, 2.0
"""Width and height of a cell of the density, °C and percent."""

_EVENTS = {
    EventKind.FAIL_SAFE: (PageSeverity.WARNING, "no credible temperature"),
    EventKind.FAULT: (PageSeverity.PROBLEM, "the driver had the fans"),
    EventKind.FAN_STILL: (PageSeverity.PROBLEM, "a fan stood still"),
    EventKind.FAN_SLOW: (PageSeverity.WARNING, "a fan did not follow"),
    EventKind.LOST: (PageSeverity.PROBLEM, "the card did not answer"),
    EventKind.HANG: (PageSeverity.PROBLEM, "a call to the card hung"),
    EventKind.THROTTLED: (PageSeverity.WARNING, "throttled"),
    EventKind.GIVING_WAY: (PageSeverity.NOTE, "the clocks gave way"),
    EventKind.OVERRIDE: (PageSeverity.WARNING, "the fans were set again"),
    EventKind.ERROR: (PageSeverity.WARNING, "an error"),
    EventKind.CONTROL: (PageSeverity.NOTE, "control changed"),
    EventKind.SETTINGS: (PageSeverity.NOTE, "other settings"),
    EventKind.RESTART: (PageSeverity.NOTE, "gpufan started"),
    EventKind.RELOAD: (PageSeverity.WARNING, "settings refused"),
    EventKind.CLOCK: (PageSeverity.NOTE, "the clock was set"),
    EventKind.GAP: (PageSeverity.WARNING, "no readings"),
}
"""How serious each kind of event is, and its name on the page."""


def history_chart(
    folder: Path, begin_s: float | None = None, end_s: float | None = None, points: int = POINTS
) -> dict[str, Any]:
    """Return the history in `folder` from `begin_s` to `end_s`, seconds since the epoch: the answer to `/api/history`.

    A line has at most `points` points. Without a beginning or an end, the last day is returned. If the history cannot
    be used, `error` of the result is a sentence that says why, and the rest is empty. Raises InputError if an argument
    makes no sense.
    """
    if not 2 <= points <= MOST_POINTS:
        raise InputError(f"points {points}: ask for 2 to {MOST_POINTS}")
    _check_times(begin_s, end_s)
    try:
        with HistoryReader(folder) as reader:
            return _history_chart(reader, folder, begin_s, end_s, points)
    except GpufanError as error:
        nothing: dict[str, Any] = {"have": None, "cards": {}, "total_sound_db": None, "events": []}
        return {"begin_s": begin_s, "end_s": end_s, **nothing, "error": str(error)}


def density_chart(folder: Path, begin_s: float | None = None, end_s: float | None = None) -> dict[str, Any]:
    """Return how long each card was at which temperature and duty: the answer to `/api/density`.

    `seconds[d][t]` of a card is the time, s, from edge d to edge d + 1 of the duty and from edge t to edge t + 1 of the
    temperature. Arguments, `error` and InputError are those of `history_chart`.
    """
    _check_times(begin_s, end_s)
    try:
        with HistoryReader(folder) as reader:
            time_range = _chosen_range(reader.time_range(), begin_s, end_s)
            cells = density(reader, time_range, _CELL_C, _CELL_PERCENT)
            cards = {card.uuid: _density_of_card(cells[card.id]) for card in reader.cards() if card.id in cells}
            return {**time_range._asdict(), "cards": cards, "error": ""}
    except GpufanError as error:
        return {"begin_s": begin_s, "end_s": end_s, "cards": {}, "error": str(error)}


def _history_chart(
    reader: HistoryReader, folder: Path, begin_s: float | None, end_s: float | None, points: int
) -> dict[str, Any]:
    """Return the result of `history_chart`, without an error. `reader` reads `folder`. Raises GpufanError."""
    have = reader.time_range()
    time_range = _chosen_range(have, begin_s, end_s)
    step_s = step_length_s(time_range, points)
    # Steps begin at multiples of their length, so that a line does not change while somebody moves along it.
    time_range = TimeRange(time_range.begin_s // step_s * step_s, time_range.end_s)
    cards = reader.cards()
    with ThreadPoolExecutor(1) as beside:  # SQLite needs most of the time, and two queries run at the same time
        counting = beside.submit(_count_swings, folder, time_range)
        found = steps(reader, time_range, step_s)
        swings = counting.result()
    totals = {card.uuid: _totals(found.get(card.id, []), swings.get(card.id, 0)) for card in cards}
    return {
        **time_range._asdict(),
        "have": have._asdict(),
        "step_s": step_s,
        "cards": {
            card.uuid: {
                "name": _name(card),
                **_lines(found.get(card.id, []), time_range.begin_s, step_s),
                "totals": totals[card.uuid],
            }
            for card in cards
        },
        "total_sound_db": total_sound_db(total["sound_db"] or 0.0 for total in totals.values()),
        "events": [_event_on_page(event, cards) for event in reader.events(cards, time_range)],
        "error": "",
    }


def _count_swings(folder: Path, time_range: TimeRange) -> dict[int, int]:
    """Return the result of `count_swings`. A connection belongs to its thread. Raises GpufanError."""
    with HistoryReader(folder) as reader:
        return count_swings(reader, time_range)


def _check_times(begin_s: float | None, end_s: float | None) -> None:
    """Raise InputError if `begin_s` and `end_s` are no range of time, or a range that is too short or too long."""
    for name, time_s in (("begin_s", begin_s), ("end_s", end_s)):
        if time_s is not None and not 0 <= time_s < 1e10:
            raise InputError(f"{name} {time_s:g}: ask for a time in seconds since 1970")
    if begin_s is not None and end_s is not None and not SHORTEST_S <= end_s - begin_s <= LONGEST_S:
        raise InputError(f"begin_s and end_s are {end_s - begin_s:g} s apart: ask for {SHORTEST_S:g} s to 8 days")


def _chosen_range(have: TimeRange, begin_s: float | None, end_s: float | None) -> TimeRange:
    """Return the range of a request. Without a beginning or an end, it is the last day that is stored."""
    if end_s is None:
        end_s = have.end_s if begin_s is None else begin_s + _DAY_S
    if begin_s is None:
        begin_s = max(end_s - _DAY_S, min(have.begin_s, end_s - SHORTEST_S))
    return TimeRange(begin_s, end_s)


def _lines(found: Sequence[Step], begin_s: float, step_s: float) -> dict[str, Any]:
    """Return the lines of a card. A point is in the middle of its step; a gap is a point whose values are null."""
    points: list[Step | None] = []
    times_s: list[float] = []
    last_s = math.inf
    for step in found:
        time_s = begin_s + (step.number + 0.5) * step_s
        if time_s - last_s > max(3 * step_s, _GAP_S):
            points.append(None)
            times_s.append((last_s + time_s) / 2)
        points.append(step)
        times_s.append(time_s)
        last_s = time_s
    lines: dict[str, Any] = {
        name: _band([None if step is None else getattr(step, name) for step in points]) for name in MEASUREMENTS
    }
    lines["rpm"] = lines.pop("speed_rpm")["mean"]
    lines["sound_db"] = [None if step is None else _sound_db(step.sound_energy, step.sound_s) for step in points]
    return {"time_s": times_s, **lines}


def _band(values: Sequence[Aggregate | None]) -> dict[str, list[float | None]]:
    """Return the means, the lowest and the highest values, each rounded; null where they are unknown."""
    return {
        name: [None if value is None else round(value[number], 2) for value in values]
        for number, name in enumerate(("mean", "low", "high"))
    }


def _sound_db(energy: float | None, seconds: float) -> float | None:
    """Return the mean sound, dB(A); None if it is unknown. `energy` is the sum over `seconds`."""
    return round(mean_sound_db((energy or 0.0) / seconds), 2) if seconds else None


def _totals(found: Sequence[Step], swings: int) -> dict[str, Any]:
    """Return the totals of a card. `peak_c`, `energy_kwh` and `sound_db` are None if they are unknown."""
    energies_j = [step.energy_j for step in found if step.energy_j is not None]
    sound_s = sum(step.sound_s for step in found)
    sound_energy = sum(step.sound_energy or 0.0 for step in found)
    return {
        "seconds": round(sum(step.seconds for step in found), 1),
        "peak_c": max((step.temperature_c.highest for step in found if step.temperature_c is not None), default=None),
        "hot_s": round(sum(step.hot_s for step in found), 1),
        "throttled_s": round(sum(step.throttled_s for step in found), 1),
        "energy_kwh": round(sum(energies_j) / 3.6e6, 4) if energies_j else None,
        "sound_db": _sound_db(sound_energy, sound_s),
        "swings": swings,
    }


def _name(card: HistoryCard) -> str:
    """Return the name of a card on the page. A case fan is called one, since the history has it beside the cards."""
    return f"case fan {card.label}" if card.uuid.startswith(CASE_FAN) else card.label


def _event_on_page(event: Event, cards: Sequence[HistoryCard]) -> dict[str, Any]:
    """Return an event for the page. Its text is a sentence with the name of the card."""
    severity, name = _EVENTS[event.kind]
    label = next((_name(card) for card in cards if card.uuid == event.uuid), "")
    begin = " ".join(filter(None, [f"{label}:" if label else "", name, event.duration_text]))
    return {
        "begin_s": event.begin_s,
        "end_s": event.end_s,
        "key": event.uuid,
        "kind": event.kind.value,
        "severity": severity,
        "text": f"{begin}: {event.text}",
        "count": event.count,
    }


def _density_of_card(cells: Mapping[tuple[int, int], float]) -> dict[str, Any]:
    """Return the density of a card: the edges of the cells, and the seconds in each cell."""
    temperatures, duties = ([cell[axis] for cell in cells] for axis in range(2))
    columns = range(min(temperatures), max(temperatures) + 1)
    rows = range(min(duties), max(duties) + 1)
    return {
        "temperature_c": [column * _CELL_C for column in range(columns.start, columns.stop + 1)],
        "duty_percent": [row * _CELL_PERCENT for row in range(rows.start, rows.stop + 1)],
        "seconds": [[round(cells.get((column, row), 0.0), 1) for column in columns] for row in rows],
    }
