"""The physics: it agrees with measurements, and its formulas agree with each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpufan.core.thermal import (
    approach,
    mean_sound_db,
    remaining_share,
    sound_db,
    thermal_resistance,
    total_sound_db,
)


@pytest.mark.parametrize(("duty", "resistance"), [(0.23, 0.43), (0.5, 0.27), (0.75, 0.22), (1, 0.19)])
def test_resistance_falls_with_duty(duty: float, resistance: float) -> None:
    assert thermal_resistance(0.08, 0.108, 0.8, duty) == pytest.approx(resistance, abs=0.006)


@given(st.floats(0, 500), st.floats(0, 500), st.floats(0.1, 500))
def test_two_steps_give_the_same_as_one(first_s: float, second_s: float, time_constant_s: float) -> None:
    once = approach(20, 80, remaining_share(first_s + second_s, time_constant_s))
    between = approach(20, 80, remaining_share(first_s, time_constant_s))
    assert approach(between, 80, remaining_share(second_s, time_constant_s)) == pytest.approx(once)


@pytest.mark.parametrize(("rpm", "db"), [(1100, 29), (0.23 * 4800, 29), (2400, 44.5), (3600, 55)])
def test_sound_agrees_with_published_measurements(rpm: float, db: float) -> None:
    assert sound_db(rpm) == pytest.approx(db, abs=2)


def test_a_fan_that_stands_still_makes_no_sound() -> None:
    assert sound_db(0) == 0


def test_the_mean_of_a_constant_sound_is_that_sound() -> None:
    assert mean_sound_db(2400.0**5) == pytest.approx(sound_db(2400))


def test_two_equal_sources_are_three_decibels_louder_than_one_and_a_silent_source_adds_nothing() -> None:
    assert total_sound_db([40, 40, 0]) == pytest.approx(43.01, abs=0.01)
    assert total_sound_db([40, 0]) == pytest.approx(40)
    assert total_sound_db([0, 0]) == 0
