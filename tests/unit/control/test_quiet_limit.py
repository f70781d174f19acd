"""The limit of quiet hours: what it limits, and what counts more than it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpufan.control.controller import Controller
from gpufan.control.law import Decision, duty_range
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.quiet_hours import Quiet
from gpufan.core.reasons import Cause, Group
from gpufan.core.sentences import reason_sentence
from gpufan.gpu.simulated import PROFILES, SimulatedBox
from tests.unit.builders import anything, card_ranges, curve_settings

QUIET = Quiet(50, None, "07:00")
FULL_AT_C = 90.0
"""Of a card whose slowdown threshold is 95 °C."""


def controller(curve: str = "50:30,80:80", quiet: Quiet | None = QUIET, **settings: float) -> Controller:
    chosen = CardSettings(curve=Curve.parse(curve), quiet=quiet, **settings)  # type: ignore[arg-type]
    return Controller(chosen, (20, 100), FULL_AT_C + 5)


def at(subject: Controller, *temperatures_c: float | None, start_s: int = 0) -> list[Decision]:
    """Decisions for a reading a second."""
    return [subject.decide(start_s + second, each, 100) for second, each in enumerate(temperatures_c)]


def test_a_duty_above_the_limit_is_lowered_to_it_and_the_reason_says_so() -> None:
    (decision,) = at(controller(), 77)
    assert decision.duty_percent == 50
    assert reason_sentence(decision.reason) == "quiet hours until 07:00: at most 50 % instead of 75 %"


def test_a_duty_below_the_limit_is_as_without_quiet_hours() -> None:
    assert at(controller(), 56) == at(controller(quiet=None), 56)


def test_a_target_alone_limits_no_duty() -> None:
    quiet = Quiet(None, 78.0, "07:00")
    assert at(controller(quiet=quiet), 77) == at(controller(quiet=None), 77)


def test_the_lowest_duty_counts_more_than_the_limit() -> None:
    (decision,) = at(controller(min_duty_percent=60), 77)
    assert (decision.duty_percent, decision.reason.limit_percent) == (60, 60)


def test_near_the_slowdown_threshold_the_fans_go_above_the_limit_and_the_reason_says_so() -> None:
    decisions = [at(controller("50:100"), c)[0] for c in (86, 88, 89, 90)]
    assert [decision.duty_percent for decision in decisions] == [50, 75, 88, 100]
    sentences = [reason_sentence(decision.reason) for decision in decisions]
    assert sentences[1] == (
        "88 °C is close to the card's slowdown threshold: more than the 50 % of quiet hours until 07:00"
    )
    assert sentences[3] == (
        "90 °C is too close to the card's slowdown threshold: full speed, although quiet hours until 07:00 allow 50 %"
    )


@pytest.mark.parametrize("reading_c", [None, 0.0, 255.0])
def test_a_temperature_in_doubt_gives_full_speed_in_quiet_hours(reading_c: float | None) -> None:
    assert at(controller(), 77, reading_c, reading_c, reading_c)[-1].duty_percent == 100


def test_a_limit_that_was_exceeded_returns_slowly() -> None:
    subject = controller("50:100")
    at(subject, 88)
    duties = [decision.duty_percent or 0 for decision in at(subject, *[80] * 1200, start_s=1)]
    assert duties[-1] == 50
    assert all(0 <= before - after <= 1 for before, after in pairwise(duties))


def test_where_the_curve_leaves_the_fans_to_the_driver_it_keeps_them() -> None:
    assert at(controller("0:auto,50:60"), 40)[0].duty_percent is None


def test_the_limit_ends_and_begins_with_the_settings() -> None:
    subject = controller(quiet=None)
    by_day = CardSettings(curve=Curve.parse("50:30,80:80"))
    assert at(subject, 77)[0].duty_percent == 75
    subject.follow(by_day.in_quiet_hours(QUIET))
    assert at(subject, 77, start_s=1)[0].duty_percent == 50
    subject.follow(by_day.in_quiet_hours(Quiet(40, 70.0, "07:00")))
    assert at(subject, 77, start_s=2)[0].duty_percent == 40
    subject.follow(by_day)
    assert at(subject, 77, start_s=3)[0].duty_percent == 75


def test_a_card_at_its_limit_demands_no_more_of_its_neighbours_and_is_not_saturated() -> None:
    subject = controller("50:100", target_c=70.0)
    for second in range(120):
        subject.decide(second, 80, 250)
    assert (subject.local_demand_percent, subject.saturated) == (50, False)


@given(
    curve_settings(),
    card_ranges,
    st.integers(1, 100),
    st.lists(st.tuples(st.floats(), anything, anything), min_size=1, max_size=30),
)
def test_whatever_is_read_quiet_hours_only_lower_a_duty_and_never_below_floor_or_limit(
    settings: CardSettings, card: tuple[int, int], limit: int, readings: list[tuple[float, float | None, float | None]]
) -> None:
    plain = Controller(settings, card, 95)
    quiet = Controller(settings.in_quiet_hours(Quiet(limit, None, "07:00")), card, 95)
    allowed = max(limit, duty_range(card, settings.min_duty_percent)[0])
    for reading in readings:
        without, with_limit = plain.decide(*reading), quiet.decide(*reading)
        if without.duty_percent is None or with_limit.duty_percent is None:
            assert without.duty_percent is with_limit.duty_percent
            continue
        assert min(allowed, without.duty_percent) <= with_limit.duty_percent <= without.duty_percent
        group = with_limit.reason.cause.group
        if group is Group.FAIL_SAFE and with_limit.reason.tick is None:
            assert with_limit.duty_percent == card[1]
        elif group not in (Group.FULL, Group.FAIL_SAFE) and with_limit.reason.cause is not Cause.QUIET_HOURS:
            assert with_limit.duty_percent == without.duty_percent


@pytest.mark.parametrize("target_c", [None, 78.0])
def test_a_card_too_hot_for_the_limit_stays_below_its_margin_without_swings(target_c: float | None) -> None:
    box = SimulatedBox(PROFILES["1080ti"], lambda _: 230.0)
    gpu = box.gpus[0]
    subject = Controller(
        CardSettings(target_c=target_c, quiet=Quiet(30, None, "07:00")), gpu.info.duty_range, gpu.info.slowdown_c
    )
    duties: list[int] = []
    hottest_c = 0.0
    for second in range(3 * 3600):
        temperature_c, power_w = gpu.sense()
        duty = subject.decide(second, temperature_c, power_w, gpu.speed_percent).duty_percent
        assert duty is not None
        gpu.set_duty(duty)
        box.advance(1)
        duties.append(duty)
        hottest_c = max(hottest_c, gpu.die_c)
    assert gpu.info.slowdown_c is not None
    assert hottest_c < gpu.info.slowdown_c - 5
    last_hour = duties[-3600:]
    assert max(last_hour) - min(last_hour) <= 15
    assert sum(abs(after - before) for before, after in pairwise(last_hour)) <= 240
