"""The law of a case fan that follows the demands of cards."""

from itertools import pairwise

from gpufan.control.controller import Controller
from gpufan.control.follow_law import FollowLaw
from gpufan.core.card_settings import CardSettings
from gpufan.core.reasons import Cause

SETTINGS = CardSettings(follows=("*",), by_demand=True)


def law() -> FollowLaw:
    return FollowLaw(SETTINGS, (30, 100), 85.0)


def test_the_highest_demand_counts_at_once() -> None:
    follow = law()
    assert follow.decide(0, 60, neighbours_percent=[40, 55]).duty_percent == 55
    assert follow.decide(1, 60, neighbours_percent=[90, 55]).duty_percent == 90


def test_it_falls_slowly_and_in_steps_down_to_the_lowest_duty() -> None:
    follow = law()
    follow.decide(0, 60, neighbours_percent=[90])
    duties = [follow.decide(second, 60, neighbours_percent=[]).duty_percent for second in range(1, 60)]
    steps = [before - after for before, after in pairwise(duties) if before != after]
    assert duties[0] == 90
    assert duties[-1] == 30
    assert all(step >= SETTINGS.step_percent for step in steps[:-1])
    assert duties.index(30) >= 25


def test_near_the_slowdown_threshold_it_runs_fully() -> None:
    decision = law().decide(0, 86, neighbours_percent=[40])
    assert (decision.duty_percent, decision.reason.cause) == (100, Cause.NEAR_SLOWDOWN)


def test_the_reason_names_what_the_cards_need() -> None:
    reason = law().decide(0, 60, neighbours_percent=[40, 55]).reason
    assert (reason.cause, reason.needed_percent) == (Cause.FOLLOWS, 55)


def test_a_controller_without_a_temperature_raises_the_fan_to_full() -> None:
    controller = Controller(SETTINGS, (0, 100), None)
    assert controller.decide(0, None, None, neighbours_percent=[40]).duty_percent == 100


def test_a_fall_starts_from_the_duty_that_the_fail_safe_has_set() -> None:
    follow = law()
    follow.decide(0, 60, neighbours_percent=[40])
    follow.force(1, 100)
    assert follow.decide(2, 60, neighbours_percent=[40]).duty_percent == 98 or follow.decide(3, 60).duty_percent > 90


def test_a_new_kind_of_settings_replaces_the_law() -> None:
    controller = Controller(SETTINGS, (0, 100), None)
    controller.decide(0, 60, None, neighbours_percent=[70])
    controller.follow(CardSettings(follows=("*",)))
    assert controller.decide(1, 90, None).duty_percent == 100
    assert controller.decide(2, 60, None).reason.cause is not Cause.FOLLOWS
