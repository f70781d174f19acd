"""One card's decisions, guard and law together: what must hold for any readings at any time."""

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpufan.control.controller import Controller
from gpufan.control.law import Decision, duty_range
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.reasons import Cause, Reason
from gpufan.core.sentences import reason_sentence
from tests.unit.builders import anything, card_ranges, curve_settings, curves, valid_c

slowdowns = st.none() | st.floats() | st.integers(60, 120)
readings_of_anything = st.lists(st.tuples(st.floats(), anything, anything), min_size=1, max_size=30)
seconds_of_readings = st.lists(st.tuples(st.none() | valid_c, st.integers(1, 15)), min_size=1, max_size=8).map(
    lambda stays: [temperature_c for temperature_c, seconds in stays for _ in range(seconds)]
)
KINDS = {"curve", "hold", "limit", "auto", "full", "fail-safe"}


def controller(curve: str = "50:30,80:90", card: tuple[int, int] = (20, 100), **settings: float) -> Controller:
    return Controller(CardSettings(curve=Curve.parse(curve), **settings), card, 95)  # type: ignore[arg-type]


def follow(subject: Controller, temperatures: list[float | None], start_s: int = 0) -> list[Decision]:
    """Decisions for a reading a second, at steady power."""
    return [subject.decide(start_s + i, t, 100) for i, t in enumerate(temperatures)]


def duties(decisions: list[Decision]) -> list[int | None]:
    return [decision.duty_percent for decision in decisions]


@given(curve_settings(), card_ranges, slowdowns, readings_of_anything)
def test_whatever_is_read_the_duty_is_within_limits(
    settings: CardSettings,
    card: tuple[int, int],
    slowdown_c: float | None,
    readings: list[tuple[float, float | None, float | None]],
) -> None:
    low, high = duty_range(card, settings.min_duty_percent)
    subject = Controller(settings, card, slowdown_c)
    for reading in readings:
        duty = subject.decide(*reading).duty_percent
        if duty is None:
            assert settings.curve.points[0][1] is None
        else:
            assert isinstance(duty, int)
            assert low <= duty <= high


@given(curve_settings(), card_ranges, slowdowns, readings_of_anything)
def test_every_decision_has_a_kind_and_a_reason_of_one_line(
    settings: CardSettings,
    card: tuple[int, int],
    slowdown_c: float | None,
    readings: list[tuple[float, float | None, float | None]],
) -> None:
    subject = Controller(settings, card, slowdown_c)
    for reading in readings:
        decision = subject.decide(*reading)
        assert decision.reason.cause.group in KINDS
        assert reason_sentence(decision.reason).strip()
        assert "\n" not in reason_sentence(decision.reason)


@given(curve_settings(), card_ranges, seconds_of_readings)
def test_duty_is_never_a_full_step_below_what_the_curve_says_now(
    settings: CardSettings, card: tuple[int, int], temperatures: list[float | None]
) -> None:
    low, high = duty_range(card, settings.min_duty_percent)
    for decision, temperature_c in zip(follow(Controller(settings, card, 95), temperatures), temperatures, strict=True):
        wanted = None if temperature_c is None else settings.curve.duty_at(temperature_c)
        if wanted is not None:
            assert decision.duty_percent is not None
            assert decision.duty_percent >= min(max(wanted, low), high) - (settings.step_percent - 1)


@given(curve_settings(), card_ranges, seconds_of_readings)
def test_fans_never_slow_down_faster_than_the_slew(
    settings: CardSettings, card: tuple[int, int], temperatures: list[float | None]
) -> None:
    for before, after in pairwise(duties(follow(Controller(settings, card, 95), temperatures))):
        if before is not None and after is not None:
            # A fall may start from a level that was less than a step under the duty.
            assert before - after < settings.slew_percent_per_s + settings.step_percent


@given(curve_settings(), card_ranges, valid_c, valid_c)
def test_a_settled_card_that_is_hotter_never_has_less_duty(
    settings: CardSettings, card: tuple[int, int], one_c: int, other_c: int
) -> None:
    cooler, hotter = (
        follow(Controller(settings, card, 95), [t] * 20)[-1].duty_percent for t in sorted((one_c, other_c))
    )
    assert (cooler or 0) <= (hotter or 0)


@given(curve_settings(), card_ranges, st.integers(60, 120), st.data())
def test_fans_are_full_from_5_degrees_under_the_slowdown_threshold_whatever_the_curve(
    settings: CardSettings, card: tuple[int, int], slowdown_c: int, data: st.DataObject
) -> None:
    temperature_c = data.draw(st.floats(slowdown_c - 5, 130))
    before_c = data.draw(valid_c)
    assert follow(Controller(settings, card, slowdown_c), [before_c, temperature_c])[-1].duty_percent == card[1]


@pytest.mark.parametrize("slowdown_c", [None, 0, 59, 121, -1, 1e9, math.nan, math.inf])
def test_a_slowdown_threshold_of_90_degrees_is_assumed_where_the_cards_makes_no_sense(slowdown_c: float | None) -> None:
    subject = Controller(CardSettings(curve=Curve.parse("0:30")), (20, 100), slowdown_c)
    assert duties(follow(subject, [84, 85])) == [30, 100]


@given(curves(), st.integers(0, 19), st.lists(anything, min_size=1, max_size=30))
def test_a_card_that_would_take_stalling_duties_is_never_driven_below_30(
    curve: Curve, lowest: int, temperatures: list[float | None]
) -> None:
    for duty in duties(follow(Controller(CardSettings(curve), (lowest, 100), 95), temperatures)):
        assert duty is None or duty >= 30


@pytest.mark.parametrize(("min_duty", "duty"), [(0, 0), (5, 5), (29, 29), (60, 60), (None, 30)])
def test_min_duty_is_the_lowest_duty_ever_set(min_duty: int | None, duty: int) -> None:
    settings = CardSettings(curve=Curve.parse("50:0,80:90"), min_duty_percent=min_duty)
    assert duties(follow(Controller(settings, (0, 100), 95), [40])) == [duty]


@pytest.mark.parametrize("bad", [None, 0, 255, math.nan, math.inf])
def test_the_third_bad_reading_in_a_row_brings_full_speed(bad: float | None) -> None:
    assert duties(follow(controller(), [60, bad, bad, bad, bad])) == [50, 50, 50, 100, 100]


@pytest.mark.parametrize("bad", [None, 0, 255, math.nan, math.inf])
def test_a_bad_reading_at_the_start_brings_full_speed_at_once(bad: float | None) -> None:
    assert duties(follow(controller(), [bad])) == [100]


@pytest.mark.parametrize(
    ("temperatures", "reason"),
    [
        ([None], "no temperature: full speed"),
        ([60, None], "no temperature (1 of 3): the duty stays"),
        ([60, 255, 255], "a temperature of 255 °C is absurd (2 of 3): the duty stays"),
        ([60, 0, 0, 0], "a temperature of 0 °C is absurd: full speed"),
        ([None, None, None, 60], "the temperature is back, and counts again after 3 readings: full speed"),
    ],
)
def test_the_reason_of_a_fail_safe_tells_what_is_wrong_and_what_is_done(
    temperatures: list[float | None], reason: str
) -> None:
    decision = follow(controller(), temperatures)[-1]
    assert (decision.reason.cause.group, reason_sentence(decision.reason)) == ("fail-safe", reason)


def test_full_speed_is_the_cards_highest_duty() -> None:
    assert duties(follow(controller(card=(20, 88)), [None])) == [88]


def test_bad_readings_leave_fans_that_are_the_drivers_to_it_for_two_ticks_only() -> None:
    assert duties(follow(controller("0:auto,50:30"), [40, None, None, None])) == [None, None, None, 100]


def test_fans_come_down_after_three_good_readings() -> None:
    decisions = follow(controller(card=(30, 100)), [40, None, None, None, 40, 40, 40] + [40] * 60)
    assert duties(decisions)[3:6] == [100, 100, 100]
    assert decisions[6].reason.cause.group != "fail-safe"
    assert decisions[-1] == Decision(30, Reason(Cause.CURVE, curve_percent=30))


def test_fans_come_down_gently_after_a_long_fail_safe() -> None:
    decisions = follow(controller(), [40] * 10 + [None] * 300 + [40] * 10)
    assert min(duty or 0 for duty in duties(decisions)[312:]) >= 100 - 2 * 10


def test_what_was_hot_before_a_fail_safe_is_held_after_it() -> None:
    decisions = follow(controller(), [75] * 10 + [None] * 300 + [40] * 60)
    assert min(duty or 0 for duty in duties(decisions)) == 80


def test_a_frozen_sensor_raises_fans_to_full_until_it_moves() -> None:
    subject = controller()
    powers = [100] * 20 + [200] * 50
    decisions = [subject.decide(second, 60, power_w) for second, power_w in enumerate(powers)]
    assert set(duties(decisions)[:60]) == {50}
    assert decisions[-1].duty_percent == 100
    assert decisions[-1].reason.cause.group == "fail-safe"
    assert "has been 60 °C for" in reason_sentence(decisions[-1].reason)
    assert subject.decide(70, 61, 200).reason.cause.group != "fail-safe"


def test_once_the_driver_had_the_fans_the_next_decision_is_as_the_first() -> None:
    subject = controller()
    follow(subject, [79] * 10)
    subject.forget()
    assert duties(follow(subject, [50], start_s=10)) == [30]


def test_a_bad_reading_after_the_driver_had_the_fans_brings_full_speed_at_once() -> None:
    subject = controller()
    follow(subject, [60] * 10)
    subject.forget()
    assert duties(follow(subject, [None], start_s=10)) == [100]


def test_an_hour_of_control_is_a_function_of_what_it_is_given() -> None:
    def an_hour() -> list[Decision]:
        subject = Controller(CardSettings(), (23, 100), 93)
        decisions = []
        for second in range(3600):
            wave = math.sin(second / 97) + math.sin(second / 13)
            temperature_c = None if second % 701 < 4 else round(60 + 12 * wave)
            decisions.append(subject.decide(second, temperature_c, 150 + 60 * wave))
        return decisions

    first = an_hour()
    assert first == an_hour()
    assert {decision.reason.cause.group for decision in first} >= {"curve", "hold", "fail-safe"}


def reasons_at_a_target() -> list[str]:
    """Of a card that creeps up to 78 °C and stays there, falls when its load pauses, comes back, and gets too hot."""
    subject, speed_percent, reasons = Controller(CardSettings(target_c=78.0), (23, 100), 93.0, None, 250), 30.0, []
    temperatures = [*range(40, 79), *[78] * 200, *range(77, 60, -1), *range(61, 79), *[78] * 30, *[82] * 200]
    for second, temperature_c in enumerate(temperatures):
        decision = subject.decide(second, temperature_c, 60 if 238 < second < 256 else 230, speed_percent)
        speed_percent = float(decision.duty_percent or 0)
        reasons.append(reason_sentence(decision.reason))
    return reasons


def test_the_reason_of_a_target_names_no_duty_that_no_fan_has() -> None:
    reasons = reasons_at_a_target()
    assert any(reason.startswith("full fans cannot hold 78 °C at 230 W") for reason in reasons)
    assert max(int(found[1]) for reason in reasons if (found := re.search(r"(\d+) % holds", reason))) <= 100


def test_the_reason_of_a_target_names_no_distance_where_there_is_none() -> None:
    assert not [reason for reason in reasons_at_a_target() if re.search(r"is -?0(\.0)? °C (above|below)", reason)]


# ---- a target ----


def holding(subject: Controller, temperatures: list[float], power_w: float = 150) -> list[Decision]:
    """Decisions for a reading a second."""
    return [subject.decide(second, t, power_w) for second, t in enumerate(temperatures)]


def test_from_a_curve_to_a_target_and_back_the_duty_stays_in_hand() -> None:
    curve = CardSettings(Curve.parse("50:30,80:90"))
    target = CardSettings(target_c=80)
    subject = Controller(curve, (20, 100), 95, power_limit_w=250)
    before = holding(subject, [75.0] * 20)[-1].duty_percent
    subject.follow(target)
    falling = [subject.decide(20 + i, 60, 60).duty_percent for i in range(20)]
    assert before == 80
    assert falling[-1] is not None and falling[-1] < 50
    assert all(0 <= a - b <= 2 for a, b in pairwise(d for d in (before, *falling) if d is not None))
    subject.follow(curve)
    after = subject.decide(40, 75, 60)
    assert (after.duty_percent, after.reason.cause.group) == (80, "curve")


def test_what_was_learnt_outlives_a_while_on_a_curve() -> None:
    subject = Controller(CardSettings(target_c=80), (20, 100), 95)
    holding(subject, [float(t) for t in range(40, 70)], 220)
    learnt = subject.learnt
    subject.follow(CardSettings())
    subject.decide(31, 70, 220)
    assert subject.learnt == learnt
    subject.follow(CardSettings(target_c=78))
    assert learnt is not None and subject.learnt is not None
    assert subject.learnt.full_power_percent == pytest.approx(learnt.full_power_percent)


def test_a_card_that_never_held_a_target_has_learnt_nothing() -> None:
    subject = controller()
    holding(subject, [60.0] * 10)
    assert subject.learnt is None


def test_a_doubtful_reading_teaches_nothing() -> None:
    subject = Controller(CardSettings(target_c=80), (20, 100), 95)
    holding(subject, [float(t) for t in range(40, 70)], 220)
    learnt = subject.learnt
    decisions = [subject.decide(31 + i, None, 220) for i in range(20)]
    assert subject.learnt == learnt
    assert duties(decisions[2:]) == [100] * 18


def test_a_sensor_that_stands_still_raises_the_fans_to_full_under_a_target_too() -> None:
    subject = Controller(CardSettings(target_c=80), (20, 100), 95)
    decisions = [subject.decide(i, 60, 60 if i < 40 else 220) for i in range(90)]
    assert (decisions[-1].duty_percent, decisions[-1].reason.cause.group) == (100, "fail-safe")


def test_a_raised_minimum_holds_at_once_even_where_it_is_less_than_a_step() -> None:
    subject = controller("0:31,80:90")
    subject.decide(0, 0.5 + 1, 100)
    subject.follow(CardSettings(Curve.parse("0:31,80:90"), min_duty_percent=34))
    assert subject.decide(1, 2, 100).duty_percent == 34
