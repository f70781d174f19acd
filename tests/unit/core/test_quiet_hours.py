"""Quiet hours on clocks of all kinds: over midnight, by days, over clock changes, and several at a time."""

import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpufan.core.card_settings import CardSettings
from gpufan.core.quiet_hours import Quiet, QuietHours, quiet_at

EVERY_DAY = frozenset(range(7))
MONDAY, SATURDAY, SUNDAY = 0, 5, 6
CAP = 50


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The time zone of Berlin by its rule, so that no data of time zones are needed."""
    before = os.environ.get("TZ")
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.setenv("TZ", before) if before else monkeypatch.delenv("TZ")
    time.tzset()


def minute(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def period(begin: str, end: str, days: frozenset[int] = EVERY_DAY, cap: int | None = CAP) -> QuietHours:
    return QuietHours(minute(begin), minute(end), days, cap)


def at(day: int, clock: str) -> time.struct_time:
    """The local time `clock` on a day of the week; Monday is 0."""
    return time.gmtime((4 + day) * 86400 + minute(clock) * 60)


def quiet_hours_of_a_day(periods: list[QuietHours], start: datetime, hours: int) -> list[str]:
    """The local times at which quiet hours begin and end in `hours` after `start`, minute by minute."""
    found, before = [], None
    for passed in range(hours * 60):
        local = time.localtime((start + timedelta(minutes=passed)).timestamp())
        now = quiet_at(periods, local) is not None
        if before is not None and now is not before:
            found.append(("+" if now else "-") + time.strftime("%H:%M", local))
        before = now
    return found


@pytest.mark.parametrize(
    ("clock", "is_quiet"),
    [("21:59", False), ("22:00", True), ("23:59", True), ("00:00", True), ("06:59", True), ("07:00", False)],
)
def test_a_period_goes_over_midnight_and_ends_before_its_end(clock: str, is_quiet: bool) -> None:
    assert period("22:00", "07:00").covers(at(MONDAY, clock)) is is_quiet


@pytest.mark.parametrize(("clock", "is_quiet"), [("12:59", False), ("13:00", True), ("14:59", True), ("15:00", False)])
def test_a_period_within_a_day_does_not_go_over_midnight(clock: str, is_quiet: bool) -> None:
    assert period("13:00", "15:00").covers(at(MONDAY, clock)) is is_quiet


def test_a_day_is_the_one_on_which_the_period_begins() -> None:
    sunday_night = period("22:00", "07:00", frozenset({SUNDAY}))
    covered = [(SUNDAY, "22:00"), (MONDAY, "00:00"), (MONDAY, "06:59")]
    free = [(SUNDAY, "06:00"), (SATURDAY, "23:00"), (MONDAY, "07:00"), (MONDAY, "22:00")]
    assert [sunday_night.covers(at(*when)) for when in covered] == [True] * 3
    assert [sunday_night.covers(at(*when)) for when in free] == [False] * 4


def test_a_period_may_end_at_midnight() -> None:
    evening = period("20:00", "24:00", frozenset({MONDAY}))
    assert evening.covers(at(MONDAY, "23:59"))
    assert not evening.covers(at(MONDAY + 1, "00:00"))


@given(st.integers(0, 1439), st.integers(0, 1440), st.sets(st.integers(0, 6), min_size=1))
def test_a_period_lasts_as_long_as_its_times_say_on_every_day(begin: int, end: int, days: set[int]) -> None:
    subject = QuietHours(begin, end, frozenset(days), CAP)
    length = end - begin if end > begin else end - begin + 1440
    covered = sum(subject.covers(time.gmtime((4 + day) * 86400 + m * 60)) for day in range(7) for m in range(1440))
    assert covered == length * len(days)


def test_of_periods_at_the_same_time_the_lowest_values_count_until_the_first_ends() -> None:
    periods = [
        QuietHours(minute("22:00"), minute("07:00"), EVERY_DAY, 50, None),
        QuietHours(minute("23:00"), minute("06:00"), EVERY_DAY, 60, 78.0),
        QuietHours(minute("23:00"), minute("08:00"), EVERY_DAY, None, 75.0),
    ]
    assert quiet_at(periods, at(MONDAY, "22:30")) == Quiet(50, None, "07:00")
    assert quiet_at(periods, at(MONDAY, "23:30")) == Quiet(50, 75.0, "06:00")
    assert quiet_at(periods, at(MONDAY, "06:30")) == Quiet(50, 75.0, "07:00")
    assert quiet_at(periods, at(MONDAY, "07:30")) == Quiet(None, 75.0, "08:00")
    assert quiet_at(periods, at(MONDAY, "12:00")) is None


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ((2026, 3, 28), ["+22:00", "-07:00"]),  # the night in which 02:00 becomes 03:00
        ((2026, 10, 24), ["+22:00", "-07:00"]),  # the night in which 03:00 becomes 02:00
        ((2026, 6, 1), ["+22:00", "-07:00"]),
    ],
)
def test_the_clock_on_the_wall_counts_in_nights_with_a_clock_change(
    day: tuple[int, int, int], expected: list[str]
) -> None:
    noon = datetime(*day, 11, tzinfo=timezone.utc)
    assert quiet_hours_of_a_day([period("22:00", "07:00")], noon, 24) == expected


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("begin", "end", "in_march", "in_october"),
    [
        ("02:30", "05:00", ["+03:00", "-05:00"], ["+02:30", "-02:00", "+02:30", "-05:00"]),
        ("01:00", "02:30", ["+01:00", "-03:00"], ["+01:00", "-02:30", "+02:00", "-02:30"]),
        ("02:00", "03:00", [], ["+02:00", "-03:00"]),
    ],
)
def test_a_period_is_cut_or_repeated_with_the_hour_of_a_clock_change(
    begin: str, end: str, in_march: list[str], in_october: list[str]
) -> None:
    midnights = datetime(2026, 3, 28, 23, tzinfo=timezone.utc), datetime(2026, 10, 24, 22, tzinfo=timezone.utc)
    found = [quiet_hours_of_a_day([period(begin, end)], midnight, 12) for midnight in midnights]
    assert found == [in_march, in_october]


@pytest.mark.parametrize(
    ("quiet", "text"),
    [
        (None, "target 80 °C"),
        (Quiet(50, None, "07:00"), "target 80 °C, at most 50 %, quiet hours until 07:00"),
        (Quiet(50, 78.0, "07:00"), "target 78 °C, at most 50 %, quiet hours until 07:00"),
        (Quiet(None, 78.0, "07:00"), "target 78 °C, quiet hours until 07:00"),
    ],
)
def test_settings_say_what_quiet_hours_demand(quiet: Quiet | None, text: str) -> None:
    assert str(CardSettings(target_c=80.0).in_quiet_hours(quiet)) == text
