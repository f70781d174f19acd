"""The control benchmark: the laws of other tools, and how laws are judged."""

import math

import pytest

from tests.benchmarks import laws
from tests.benchmarks.bound import Bound
from tests.benchmarks.control.own import judge, over, percentile


@pytest.mark.parametrize(("temperature_c", "duty"), [(30, 20), (31, 35), (65, 70), (75, 85), (76, 100)])
def test_nfancurve_has_steps(temperature_c: float, duty: float) -> None:
    assert laws.nfancurve()(temperature_c) == duty


def test_coolgpus_falls_only_when_two_degrees_cooler() -> None:
    rule = laws.coolgpus()
    assert [rule(c) for c in (50, 70, 69, 68, 67, 66)] == [30, 71, 71, 71, 68, 65]


def test_coolercontrol_makes_no_change_below_two_points() -> None:
    rule = laws.coolercontrol()
    assert [rule(c) for c in (50, 52, 53)] == pytest.approx([30, 30, 32.4])


def test_two_point_laws_do_not_change_between_their_points() -> None:
    rule = laws.klipper_watermark()
    assert [rule(c) for c in (81, 82, 79, 78, 81)] == [0, 100, 100, 0, 0]


def test_step_wise_changes_only_when_the_temperature_changes() -> None:
    rule = laws.linux_step_wise()
    assert [rule(c) for c in (80, 81, 81, 79, 79)] == pytest.approx([30.7, 38.4, 38.4, 30.7, 30.7])


@pytest.mark.parametrize("rule", [laws.openbmc_pid, laws.klipper_pid])
def test_pid_laws_reach_full_duty_when_too_hot_and_the_lowest_when_cool(rule: object) -> None:
    assert callable(rule)
    law = rule()
    assert [law(c) for c in [90] * 60][-1] >= 100
    assert [law(c) for c in [50] * 60][-1] <= 0


def outcome(**changes: float) -> dict[str, float]:
    return {"quiet_peak_c": 78, "sound_db": 50, "swings": 3, "throttled_s": 0} | changes


BOUND = Bound(75, [76, 80], [50, 48], [4, 0])


def test_a_law_is_compared_at_its_own_peak() -> None:
    result = outcome()
    judge("coolgpus", result, BOUND)
    assert result["above_db"] == pytest.approx(1)


def test_a_law_with_a_target_is_compared_at_the_target() -> None:
    result = outcome()
    judge(laws.HOLDING[0], result, BOUND)
    assert result["above_db"] == pytest.approx(2)
    assert result["spare_swings"] == -1


def test_a_card_that_lowers_its_clock_is_not_compared() -> None:
    result = outcome(throttled_s=1)
    judge("coolgpus", result, BOUND)
    assert math.isnan(result["above_db"])


def test_a_box_in_which_full_fans_cannot_hold_the_target_is_left_out() -> None:
    result = outcome(quiet_peak_c=90)
    judge("coolgpus", result, Bound(88, [], [], []))
    assert not result["holdable"]
    assert math.isnan(result["above_db"])


def test_the_worst_tenth_begins_at_the_ninetieth_percentile() -> None:
    assert percentile(list(range(1, 11)), 0.9) == 9
    assert over({"above_db": db} for db in range(1, 11)) == (5, 9)


def test_with_too_few_boxes_to_compare_there_is_no_figure() -> None:
    median, _ = over([{"above_db": 1.0}, {"above_db": math.nan}, {"above_db": math.nan}])
    assert math.isnan(median)
