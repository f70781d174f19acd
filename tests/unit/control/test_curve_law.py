"""The curve law: up at once, down late, gently and in steps that are worth hearing."""

from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpufan.control.curve_law import CurveLaw
from gpufan.control.law import duty_range
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.sentences import reason_sentence
from tests.unit.builders import curve_settings, curves

LIMITS = (20, 100)
CURVE = Curve.parse("50:30,80:90")
"""Two points a degree."""


def law(curve: Curve = CURVE, limits: tuple[int, int] = LIMITS, **settings: float) -> CurveLaw:
    return CurveLaw(CardSettings(curve=curve, **settings), limits, full_at_c=100)  # type: ignore[arg-type]


def follow(subject: CurveLaw, temperatures: list[float], start_s: int = 0) -> list[int | None]:
    """Duties for a reading a second."""
    return [subject.decide(start_s + i, t).duty_percent for i, t in enumerate(temperatures)]


@pytest.mark.parametrize(
    ("card", "min_duty", "limits"),
    [
        ((0, 100), None, (30, 100)),
        ((19, 100), None, (30, 100)),
        ((20, 100), None, (20, 100)),
        ((30, 95), None, (30, 95)),
        ((0, 100), 0, (0, 100)),
        ((0, 100), 12, (12, 100)),
        ((30, 100), 12, (30, 100)),
        ((30, 100), 45, (45, 100)),
        ((30, 80), 90, (80, 80)),
    ],
)
def test_the_range_keeps_off_stalling_duties_unless_told(
    card: tuple[int, int], min_duty: int | None, limits: tuple[int, int]
) -> None:
    assert duty_range(card, min_duty) == limits


@given(st.tuples(st.integers(0, 100), st.integers(0, 100)).map(sorted), st.none() | st.integers(0, 100))
def test_the_range_used_lies_within_the_cards(card: list[int], min_duty: int | None) -> None:
    low, high = duty_range((card[0], card[1]), min_duty)
    assert card[0] <= low <= high == card[1]


@pytest.mark.parametrize(("before_c", "after_c"), [(50, 52), (50, 80), (60, 99)])
def test_duty_rises_at_once(before_c: float, after_c: float) -> None:
    after = follow(law(), [before_c, after_c])[1]
    assert after == min(30 + 2 * (after_c - 50), 90)


def test_duty_is_rounded_up_to_whole_percent() -> None:
    assert follow(law(Curve.parse("50:30,60:31")), [50.1]) == [31]


@pytest.mark.parametrize("drop_c", [1, 3, 5.9])
def test_a_drop_smaller_than_the_hysteresis_never_slows_the_fans(drop_c: float) -> None:
    assert follow(law(hold_s=10), [75] + [75 - drop_c] * 500)[-1] == 80


def test_duty_falls_only_once_the_drop_has_lasted_for_the_hold() -> None:
    duties = follow(law(), [75] * 10 + [65] * 300)
    # The last hot second was 9; 120 s later the fall begins.
    assert set(duties[: 9 + 120]) == {80}
    assert duties[9 + 120 + 1] < 80  # type: ignore[operator]
    assert duties[-1] == 60


def test_a_single_hot_reading_begins_the_hold_anew() -> None:
    duties = follow(law(), [75] + [65] * 100 + [75] + [65] * 300)
    assert set(duties[: 101 + 120]) == {80}
    assert duties[-1] == 60


def test_the_fans_fall_no_further_than_the_hottest_of_the_hold_allows() -> None:
    duties = follow(law(hold_s=60), [80] + [60] * 30 + [70] + [60] * 59)
    assert duties[-1] == 70


@pytest.mark.parametrize("slew", [0.5, 1, 2, 7])
def test_a_fall_keeps_to_the_slew_limit(slew: float) -> None:
    duties = follow(law(hold_s=0, slew_percent_per_s=slew), [80] + [50] * 200)
    for second, duty in enumerate(duties):
        assert duty is not None
        assert duty >= 90 - slew * second
    assert duties[-1] == 30


def test_a_fall_arrives_after_as_long_as_its_slew_says() -> None:
    duties = follow(law(hold_s=0, slew_percent_per_s=2), [80] + [50] * 40)
    assert duties.index(30) == 30


def test_a_longer_tick_falls_further() -> None:
    subject = law(hold_s=0)
    assert subject.decide(0, 80).duty_percent == 90
    assert subject.decide(5, 50).duty_percent == 80


def test_time_that_runs_backwards_stands_still() -> None:
    subject = law(hold_s=10)
    duties = [subject.decide(1000 - second, 80 if second == 0 else 50).duty_percent for second in range(500)]
    assert set(duties) == {90}


@pytest.mark.parametrize(("start_c", "end_c"), [(60, 61), (61, 60)])
def test_a_change_of_under_three_points_is_not_made(start_c: float, end_c: float) -> None:
    duties = follow(law(hysteresis_c=0, hold_s=0), [start_c] + [end_c] * 60)
    assert len(set(duties)) == 1


@pytest.mark.parametrize(("start_c", "end_c", "end"), [(51, 40, 30), (79, 85, 90)])
def test_a_small_change_is_made_when_it_reaches_an_end_of_the_range(start_c: float, end_c: float, end: int) -> None:
    duties = follow(law(limits=(30, 90), hysteresis_c=0, hold_s=0), [start_c] + [end_c] * 60)
    assert abs(duties[0] - end) == 2  # type: ignore[operator]
    assert duties[-1] == end


@given(curve_settings(), st.lists(st.integers(1, 130), max_size=60))
def test_no_small_change_is_ever_made_but_to_an_end_of_the_range(
    settings: CardSettings, temperatures: list[float]
) -> None:
    duties = follow(CurveLaw(settings, LIMITS, full_at_c=85), temperatures)
    for before, after in pairwise(duties):
        if before is not None and after is not None and after != before:
            assert abs(after - before) >= settings.step_percent or after in LIMITS


@given(curve_settings(curves(auto=False)), st.lists(st.integers(1, 130), min_size=1, max_size=60))
def test_duty_never_lags_a_full_step_behind_the_hottest_of_the_hold(
    settings: CardSettings, temperatures: list[float]
) -> None:
    duties = follow(CurveLaw(settings, LIMITS, full_at_c=85), temperatures)
    for second, duty in enumerate(duties):
        held = [t for at, t in enumerate(temperatures[: second + 1]) if at > second - settings.hold_s or at == second]
        wanted = settings.curve.duty_at(max(held))
        assert duty is not None
        assert wanted is not None
        assert duty >= min(max(ceil(wanted), LIMITS[0]), LIMITS[1]) - (settings.step_percent - 1)


@given(curve_settings(), st.lists(st.integers(1, 84), min_size=1, max_size=60))
def test_duty_never_exceeds_what_the_hottest_reading_so_far_called_for(
    settings: CardSettings, temperatures: list[float]
) -> None:
    duties = follow(CurveLaw(settings, LIMITS, full_at_c=85), temperatures)
    for second, duty in enumerate(duties):
        wanted = settings.curve.duty_at(max(temperatures[: second + 1]))
        assert duty is None or duty <= min(max(ceil(wanted or 0), LIMITS[0]), LIMITS[1])


@given(curve_settings(), st.integers(1, 130), st.integers(1, 130))
def test_a_settled_card_that_is_hotter_has_no_lower_duty(settings: CardSettings, one_c: int, other_c: int) -> None:
    cooler, hotter = (follow(CurveLaw(settings, LIMITS, full_at_c=85), [t] * 20)[-1] for t in sorted((one_c, other_c)))
    assert (cooler or 0) <= (hotter or 0)


def test_full_speed_needs_no_curve() -> None:
    subject = CurveLaw(CardSettings(curve=Curve.parse("0:30")), LIMITS, full_at_c=85)
    assert follow(subject, [84, 85, 120]) == [30, 100, 100]


AUTO = Curve.parse("0:auto,50:30,80:90")


def test_auto_leaves_the_fans_to_the_driver_below_the_second_point() -> None:
    assert follow(law(AUTO), [30, 49.9]) == [None, None]


def test_auto_takes_the_fans_back_at_once_above_the_second_point() -> None:
    assert follow(law(AUTO), [30, 50, 60]) == [None, 30, 50]


def test_auto_hands_over_only_after_hold_hysteresis_and_a_gentle_fall() -> None:
    duties = follow(law(AUTO, hold_s=10), [60] + [40] * 60)
    # From 50 % in second 9 to 30 % in second 19, two points a second.
    assert set(duties[:10]) == {50}
    assert None not in duties[:19]
    assert set(duties[19:]) == {None}


@pytest.mark.parametrize("forced", [100, 60])
def test_a_fall_from_a_forced_duty_starts_there(forced: int) -> None:
    subject = law(step_percent=1)
    subject.decide(0, 40)
    subject.force(0, forced)
    duties = follow(subject, [40] * 60, start_s=1)
    assert duties[0] in (forced, forced - 2)
    assert duties[-1] == 30


def test_a_duty_forced_for_long_still_falls_no_faster_than_the_slew() -> None:
    subject = law()
    subject.decide(0, 40)
    for second in range(300):
        subject.force(second, 100)
    assert subject.decide(300, 40).duty_percent >= 98  # type: ignore[operator]


@pytest.mark.parametrize("before_c", [54, 80])
def test_what_was_hot_before_the_driver_had_the_fans_is_forgotten(before_c: float) -> None:
    subject = law()
    subject.decide(0, before_c)
    subject.forget()
    assert subject.decide(1, 50).duty_percent == 30


@pytest.mark.parametrize(
    ("temperatures", "kind", "reason"),
    [
        ([60], "curve", "the curve gives 50 %"),
        ([60, 61], "hold", "the curve gives 52 %; a change of less than 3 points is not made"),
        ([64, 60], "hold", "the curve gives 50 %; the fans slow down once the card is 2 °C cooler"),
        ([70, 60], "hold", "the curve gives 50 %; the fans slow down once the card has been cooler for 120 s"),
        ([70] + [60] * 125, "hold", "the curve gives 50 %; the fans slow down gradually"),
        ([40], "limit", "the curve gives 30 %; 40 % is the lowest duty of this card"),
        ([90], "limit", "the curve gives 90 %; 80 % is the highest duty of this card"),
        ([100], "full", "100 °C is too close to the card's slowdown threshold: full speed"),
    ],
)
def test_the_reason_says_why_the_duty_stays(temperatures: list[float], kind: str, reason: str) -> None:
    subject = law(limits=(40, 80))
    for second, temperature_c in enumerate(temperatures):
        decision = subject.decide(second, temperature_c)
    assert (decision.reason.cause.group, reason_sentence(decision.reason)) == (kind, reason)


@pytest.mark.parametrize(
    ("temperatures", "kind", "reason"),
    [
        ([30], "auto", "below 50 °C the curve leaves the fans to the driver"),
        ([52, 48], "hold", "the curve leaves the fans to the driver; the fans slow down once the card is 2 °C cooler"),
        (
            [60, 48],
            "hold",
            "the curve leaves the fans to the driver; the fans slow down once the card has been cooler for 120 s",
        ),
    ],
)
def test_the_reason_says_that_the_curve_leaves_the_fans_to_the_driver(
    temperatures: list[float], kind: str, reason: str
) -> None:
    subject = law(AUTO)
    for second, temperature_c in enumerate(temperatures):
        decision = subject.decide(second, temperature_c)
    assert (decision.reason.cause.group, reason_sentence(decision.reason)) == (kind, reason)
