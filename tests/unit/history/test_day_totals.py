"""The totals of a day, and the local dates that days begin and end with."""

import time
from pathlib import Path

import pytest

from gpufan.core.thermal import sound_db
from gpufan.errors import InputError
from gpufan.history.aggregate import Aggregate
from gpufan.history.day_totals import DayTotals, load_threshold_w, totals_by_date
from gpufan.history.events import Event, EventKind
from gpufan.history.local_time import day_range, parse_day
from gpufan.history.reader import HistoryReader, Period, TimeRange
from tests.unit.history.recorded import NOON_S, RecordedRun


def same(value: float) -> Aggregate:
    return Aggregate(value, value, value)


def minute(**changes: object) -> Period:
    return Period(NOON_S, 60.0, 0.0, 0.0, 0.0, *(None,) * 5)._replace(**changes)


def day_of(*minutes: Period) -> DayTotals:
    return DayTotals(minutes, 100, [], TimeRange(NOON_S, NOON_S + 86400))


def test_a_mean_is_weighted_with_time() -> None:
    day = day_of(
        minute(temperature_c=Aggregate(60, 50, 70), duty_percent=same(40)),
        minute(temperature_c=Aggregate(80, 75, 88), duty_percent=same(100), seconds=20.0),
    )
    assert (day.temperature_c, day.duty_percent) == (Aggregate(65, 50, 88), Aggregate(55, 40, 100))


def test_unknown_values_stay_unknown() -> None:
    day = day_of(minute())
    assert (day.temperature_c, day.duty_percent) == (None, None)
    assert (day.sound_db, day.energy_kwh, day.load_s, day.problems) == (None, 0, 0, [])


def test_energy_is_power_over_time_and_load_is_power_above_the_threshold() -> None:
    day = day_of(*[minute(power_w=same(power_w)) for power_w in (250.0, 50.0)] * 30)
    assert day.energy_kwh == pytest.approx(0.150)
    assert (day.load_s, day.seen_s) == (1800, 3600)


@pytest.mark.parametrize(("peak_w", "threshold_w"), [(300, 100), (250, 250 / 3), (75, 50), (0, 50)])
def test_the_load_threshold_is_a_third_of_the_peak_power(peak_w: float, threshold_w: float) -> None:
    assert load_threshold_w(peak_w) == pytest.approx(threshold_w)


def test_sound_is_an_energy_mean_and_is_estimated_from_percent_without_rpm() -> None:
    assert day_of(minute(speed_rpm=same(2400))).sound_db == pytest.approx(sound_db(2400))
    assert day_of(minute(speed_percent=same(50))).sound_db == pytest.approx(sound_db(2400))
    half = day_of(minute(speed_rpm=same(2400)), minute(speed_rpm=same(0)))
    assert half.sound_db == pytest.approx(sound_db(2400) - 3.01, abs=0.01)


def test_problems_are_durations_and_counts() -> None:
    minutes = [minute(hot_s=5.0, throttled_s=65.0), minute(fail_safe_s=3.0, seconds=3.0)]
    events = [
        Event(NOON_S, "a", EventKind.OVERRIDE, NOON_S, "", 4),
        Event(NOON_S, "a", EventKind.ERROR, NOON_S, "", 2),
        Event(NOON_S - 100, "", EventKind.GAP, NOON_S + 20, ""),
        Event(NOON_S + 30, "", EventKind.GAP, NOON_S + 40, ""),
        Event(NOON_S - 1, "a", EventKind.OVERRIDE, NOON_S, "", 4),
        Event(NOON_S + 90, "a", EventKind.FAN_STILL, NOON_S + 500, ""),
    ]
    day = DayTotals(minutes, 100, events, TimeRange(NOON_S, NOON_S + 100))
    assert day.problems == [
        *("over 83 °C 0:00:05", "throttled 0:01:05", "fail-safe 0:00:03", "fan still 0:00:10"),
        *("overrides 4", "errors 2"),
        "gaps 1 (0:00:30)",
    ]


@pytest.mark.usefixtures("in_utc")
def test_each_local_date_has_its_totals(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    run.seconds(10)
    run.wall_s += 86400
    run.seconds(10)
    with HistoryReader(run.folder) as reader:
        (card,) = reader.cards()
        found = totals_by_date(reader.minutes(card, reader.time_range()), [], 50)
    assert {date: day.seen_s for date, day in found.items()} == {"2026-11-22": 10, "2026-11-23": 10}


def test_a_day_on_which_the_clocks_change_has_23_or_25_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        spans = [day_range(date) for date in ("2026-03-29", "2026-10-25", "2026-12-31")]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [(end_s - begin_s) / 3600 for begin_s, end_s in spans] == [23, 25, 24]


def test_yesterday_ends_where_today_begins() -> None:
    today, yesterday = parse_day("today"), parse_day("yesterday")
    assert yesterday.end_s == today.begin_s <= time.time() < today.end_s


@pytest.mark.parametrize("text", ["", "31", "2026-02-30", "tomorrow", "2026-11-22 10:00", "99999-01-01"])
def test_a_text_that_is_not_a_date_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--day .* 2026-11-22, today or yesterday"):
        parse_day(text)
