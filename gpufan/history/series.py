"""Reads the history in steps of time, as charts need it: SQLite aggregates the rows of all cards.

`reader` reads single rows instead. Both tables are read in the same way: `minute` for a long time, `second` for a short
one.
"""

from collections import defaultdict
from types import GenericAlias
from typing import Annotated, NamedTuple

from msgspec import Meta

from gpufan.core.thermal import SOUND_EXPONENT
from gpufan.daemon.summary import HOT_C, Swings
from gpufan.history.aggregate import Aggregate
from gpufan.history.database import MEASUREMENTS
from gpufan.history.reader import FULL_SCALE_RPM, HistoryReader, TimeRange

# The columns of the queries below. A value outside these bounds comes from a damaged file.
_Number = Annotated[int, Meta(ge=-(2**40), le=2**40)]
_Seconds = Annotated[float, Meta(ge=0, le=1e10)]
_Measured = Annotated[float, Meta(ge=-1e12, le=1e12)] | None
_Energy = Annotated[float, Meta(ge=0, le=1e80)] | None
_STEP = GenericAlias(tuple, (int, _Number, *(_Seconds,) * 4, *(_Energy,) * 2, *(_Measured,) * 3 * len(MEASUREMENTS)))
_DUTY = tuple[int, float, float]
_CELL = tuple[int, _Number, _Number, _Seconds]

_SECONDS_UP_TO_S = 2 * 3600.0
"""A range up to this length, s, is read from the table of single readings, a longer one from that of minutes.

Two hours of four cards have 28,800 readings, a week of them has 40,320 minutes.
"""

_FAN_RPM = f"max(coalesce(speed_rpm, speed_percent / 100 * {FULL_SCALE_RPM}), 0)"
"""The SQL of `Period.fan_rpm`, rpm."""


class Step(NamedTuple):
    """The values of one card in one step of time. An unknown value is None."""

    number: int
    """The step begins `number` times the length of a step after the beginning of the range."""
    seconds: float
    """Time with readings, s."""
    hot_s: float
    """Time above `daemon.summary.HOT_C`, s."""
    throttled_s: float
    """Time in which heat lowered the clocks, s; 0 if the step was read from single readings."""
    sound_s: float
    """Time in which the speed of the fans is known, s."""
    energy_j: float | None
    sound_energy: float | None
    """Integral of rpm^`SOUND_EXPONENT` over time."""
    temperature_c: Aggregate | None
    power_w: Aggregate | None
    duty_percent: Aggregate | None
    speed_percent: Aggregate | None
    speed_rpm: Aggregate | None


class _Table(NamedTuple):
    """A table of the database, and the SQL of the columns that only the table of minutes has."""

    name: str
    hot_s: str
    throttled_s: str
    lowest: str
    """The lowest value of a measurement; `{}` stands for its name."""
    highest: str


_MINUTES = _Table("minute", "hot_s", "throttled_s", "{}_min", "{}_max")
_READINGS = _Table("second", f"seconds * (temperature_c > {HOT_C})", "0", "{}", "{}")


def step_length_s(time_range: TimeRange, points: int) -> float:
    """Return the length of a step, s, with which `time_range` has at most `points` steps: full seconds or minutes."""
    unit_s = 60 if _table(time_range) is _MINUTES else 1
    return -(-(time_range.end_s - time_range.begin_s) // (points * unit_s)) * unit_s


def steps(reader: HistoryReader, time_range: TimeRange, step_s: float) -> dict[int, list[Step]]:
    """Return the steps that have readings, in the order of time. The key is `HistoryCard.id`.

    Steps of `step_s` seconds are counted from the beginning of `time_range`. Raises GpufanError if the history cannot
    be read.
    """
    table = _table(time_range)
    aggregates = ", ".join(
        f"sum({name} * seconds) / sum(seconds * ({name} IS NOT NULL)),"
        f" min({table.lowest.format(name)}), max({table.highest.format(name)})"
        for name in MEASUREMENTS
    )
    power = " * ".join(["rpm"] * SOUND_EXPONENT)
    query = (
        f"SELECT card, cast((time_s - ?) / ? AS INTEGER) AS step, sum(seconds), coalesce(sum({table.hot_s}), 0),"
        f" sum({table.throttled_s}), sum(seconds * (rpm IS NOT NULL)), sum(power_w * seconds), sum(seconds * {power}),"
        f" {aggregates} FROM (SELECT *, {_FAN_RPM} AS rpm FROM {table.name} WHERE time_s >= ? AND time_s < ?)"
        " WHERE seconds > 0 GROUP BY card, step ORDER BY card, step"
    )
    found: dict[int, list[Step]] = {}
    begin_s, end_s = time_range
    for card, *values in reader.rows(_STEP, query, (begin_s, step_s, begin_s, end_s)):
        measured = (values[n : n + 3] for n in range(7, len(values), 3))
        step = Step(*values[:7], *(None if None in value else Aggregate(*value) for value in measured))
        found.setdefault(card, []).append(step)
    return found


def count_swings(reader: HistoryReader, time_range: TimeRange) -> dict[int, int]:
    """Return the number of swings of the duty, as `daemon.summary.Swings` counts them. The key is `HistoryCard.id`.

    While no duty is set, the speed of the fans counts. A minute has only its lowest and its highest duty. They are
    counted in the order that makes the shorter way from the minute before. So a rise and a fall within one minute count
    as one of them. Raises GpufanError if the history cannot be read.
    """
    table = _table(time_range)
    lowest, highest = (
        f"coalesce({text.format('duty_percent')}, {text.format('speed_percent')})"
        for text in (table.lowest, table.highest)
    )
    # Only changes count, and most duties are equal to the one before.
    query = (
        "SELECT card, lowest, highest FROM (SELECT card, lowest, highest, lag(highest) OVER (PARTITION BY card"
        f" ORDER BY time_s) AS before FROM (SELECT card, time_s, min({lowest}) AS lowest, max({highest}) AS highest"
        f" FROM {table.name} WHERE time_s >= ? AND time_s < ? GROUP BY time_s, card) WHERE lowest IS NOT NULL)"
        " WHERE highest IS NOT before OR highest > lowest"
    )
    swings: defaultdict[int, Swings] = defaultdict(Swings)
    last: dict[int, float] = {}
    for card, low, high in reader.rows(_DUTY, query, time_range):
        before = last.get(card, low)
        first, second = (low, high) if before - low <= high - before else (high, low)
        swings[card].add(first)
        if second != first:
            swings[card].add(second)
        last[card] = second
    return {card: counted.count for card, counted in swings.items()}


def density(
    reader: HistoryReader, time_range: TimeRange, step_c: float, step_percent: float
) -> dict[int, dict[tuple[int, int], float]]:
    """Return how long each card was at which temperature and duty, s. The key is `HistoryCard.id`.

    The key of a cell is (temperature // `step_c`, duty // `step_percent`). While no duty is set, the speed of the fans
    counts. Raises GpufanError if the history cannot be read.
    """
    query = (
        "SELECT card, cast(temperature_c / ? AS INTEGER) AS t, cast(percent / ? AS INTEGER) AS d, sum(seconds)"
        f" FROM (SELECT *, coalesce(duty_percent, speed_percent) AS percent FROM {_table(time_range).name}"
        " WHERE time_s >= ? AND time_s < ?)"
        " WHERE temperature_c BETWEEN 0 AND 200 AND percent BETWEEN 0 AND 200 GROUP BY card, t, d"
    )
    found: dict[int, dict[tuple[int, int], float]] = {}
    for card, temperature, duty, seconds in reader.rows(_CELL, query, (step_c, step_percent, *time_range)):
        found.setdefault(card, {})[temperature, duty] = seconds
    return found


def _table(time_range: TimeRange) -> _Table:
    """Return the table to read for `time_range`."""
    return _READINGS if time_range.end_s - time_range.begin_s <= _SECONDS_UP_TO_S else _MINUTES
