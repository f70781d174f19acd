"""Totals of a card over a run, on series made by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpufan.core.thermal import sound_db
from gpufan.daemon.summary import CardSummary, Swings
from gpufan.gpu.simulated import Plant, SimulatedGpu


def swings(series: list[float]) -> Swings:
    result = Swings()
    for duty in series:
        result.add(duty)
    return result


@pytest.mark.parametrize(
    ("series", "count", "variation"),
    [
        ([], 0, 0),
        ([30], 0, 0),
        ([30, 30, 30], 0, 0),
        ([30, 34], 0, 4),
        ([30, 35], 1, 5),
        ([35, 30], 1, 5),
        ([30, 33, 36, 39, 100], 1, 70),
        ([30, 60, 30], 2, 60),
        ([30, 60, 56, 60, 56], 1, 42),
        ([30, 60, 58, 61, 30, 30, 34], 2, 70),
        ([30, 60, 55, 60, 55], 4, 45),
        ([50, 47, 49, 46, 48], 0, 10),
        ([30, 60, 50, 51], 2, 41),
        ([50, 48, 46, 44], 1, 6),
    ],
)
def test_swings_are_rises_and_falls_of_five_points_between_turning_points(
    series: list[float], count: int, variation: float
) -> None:
    result = swings(series)
    assert (result.count, result.variation) == (count, variation)


@given(st.lists(st.integers(0, 100)))
def test_each_swing_adds_at_least_five_points_of_variation(series: list[float]) -> None:
    result = swings(series)
    assert 5 * result.count <= result.variation


@given(st.lists(st.integers(0, 100)))
def test_an_inverted_series_has_as_many_swings(series: list[float]) -> None:
    assert swings(series).count == swings([100 - duty for duty in series]).count


@given(st.lists(st.integers(0, 100)).map(sorted))
def test_a_series_that_only_rises_has_one_swing_at_most(series: list[float]) -> None:
    assert swings(series).count == (1 if series and series[-1] - series[0] >= 5 else 0)


@pytest.fixture
def gpu() -> SimulatedGpu:
    return SimulatedGpu(0, "card", Plant(), lambda t: 230.0, seed=1)


def test_a_summary_without_readings_is_silent(gpu: SimulatedGpu) -> None:
    summary = CardSummary(gpu)
    assert (summary.sound_db, summary.throttled_percent, summary.hot_s) == (0, 0, 0)


def test_the_mean_sound_of_a_steady_fan_is_its_sound(gpu: SimulatedGpu) -> None:
    summary = CardSummary(gpu)
    gpu.speed_percent = 50
    for _ in range(10):
        summary.add(1)
    assert summary.sound_db == pytest.approx(sound_db(2400))


def test_half_the_time_at_the_same_speed_is_three_decibels_less(gpu: SimulatedGpu) -> None:
    summary = CardSummary(gpu)
    for percent in (50, 0):
        gpu.speed_percent = percent
        summary.add(30)
    assert summary.sound_db == pytest.approx(44.5 - 3.01, abs=0.01)


def test_the_peak_and_the_seconds_above_83_degrees_are_recorded(gpu: SimulatedGpu) -> None:
    summary = CardSummary(gpu)
    for die_c in (80, 83, 83.1, 90, 70):
        gpu.die_c = die_c
        summary.add(2)
    assert (summary.peak_c, summary.hot_s) == (90, 4)


def test_lost_throughput_is_the_mean_drop_of_the_clock(gpu: SimulatedGpu) -> None:
    summary = CardSummary(gpu)
    for clock in (1.0, 1.0, 1.0, 0.8):
        gpu.throughput = clock
        summary.add(1)
    assert summary.throttled_percent == pytest.approx(5)


def test_swings_count_the_duty_set_or_else_the_speed_under_the_driver(gpu: SimulatedGpu) -> None:
    summary = CardSummary(gpu)
    summary.add(1)
    gpu.set_duty(60)
    summary.add(1)
    gpu.speed_percent = 50
    gpu.release()
    summary.add(1)
    assert summary.swings.variation == (60 - 23) + (60 - 50)
