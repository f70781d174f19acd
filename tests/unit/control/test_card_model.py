"""The card model: it learns from readings, stays within its bounds, and predicts the effect of a duty."""

import math
from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpufan.control.card_model import STEP_S, CardModel, Learnt
from gpufan.gpu.simulated import Plant, Profile, SimulatedBox, SimulatedGpu
from tests.unit.builders import LIGHT

moments = st.tuples(
    st.floats(0, 15), st.integers(1, 130), st.floats(0, 2000), st.floats(0, 200) | st.sampled_from((23.0, 50.0, 100.0))
)
"""Seconds, °C, W and percent, within the limits of the law."""


@cache
def taught(plant: Plant, seconds: int = 1500, learnt: Learnt | None = None) -> CardModel:
    """A model that has learnt from `plant` at work, with a fan that moves now and then."""
    gpu = (box := SimulatedBox(Profile("card", (plant,)), lambda t: 230.0 if t % 300 < 200 else 60.0)).gpus[0]
    model = CardModel(learnt)
    for second in range(seconds):
        if second % 170 == 0:
            gpu.set_duty((60, 85, 40)[second // 170 % 3])
        reading = gpu.read()
        assert reading.temperature_c is not None and reading.power_w is not None
        if second == 0:
            model.anchor(reading.temperature_c, reading.power_w)
        else:
            model.learn(1.0, reading.temperature_c, reading.power_w, gpu.speed_percent)
        box.advance(1)
    return model


def sink_c(model: CardModel) -> float:
    """Estimated temperature of the heatsink, °C."""
    return model._x[0]


def inlet_c(model: CardModel) -> float:
    """Estimated temperature of the inlet air, °C."""
    return model._x[1]


def die_k(model: CardModel, power_w: float) -> float:
    """How much the die is warmer than the heatsink at a steady `power_w`, K."""
    return model.learnt.values[3] * power_w


def hot_model() -> CardModel:
    """A model whose card is at 75 °C under 200 W."""
    model = CardModel()
    model.anchor(75, 200)
    return model


def highest_c(model: CardModel, powers_w: list[float], duty: float) -> float:
    """Highest temperature of the die at the end of a step, at constant `duty`."""
    now_c, highest_c = sink_c(model), -math.inf
    for power_w in powers_w:
        end_c = inlet_c(model) + power_w * model.resistance(duty)
        now_c = end_c + (now_c - end_c) * math.exp(-STEP_S / (model.resistance(duty) * model.capacity))
        highest_c = max(highest_c, now_c + die_k(model, power_w))
    return highest_c


PLANTS = {
    "nominal": LIGHT,
    "light": replace(LIGHT, heat_capacity=200.0),
    "heavy": replace(LIGHT, heat_capacity=650.0),
    "warm": replace(LIGHT, inlet_c=36.0),
    "big": replace(LIGHT, resistance_flow=0.085),
}


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_the_resistance_of_a_card_is_learnt(plant: Plant) -> None:
    model = taught(plant)
    for duty in (45, 60, 80):
        assert model.resistance(duty) + model.learnt.values[3] == pytest.approx(plant.resistance(duty), rel=0.08)


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_the_heat_capacity_is_learnt_within_three_deviations(plant: Plant) -> None:
    learnt = taught(plant).learnt
    assert abs(learnt.values[2] - math.log(plant.heat_capacity / 350)) < 3 * learnt.deviations[2]


@pytest.mark.parametrize("settled", [False, True])
def test_the_temperature_of_the_heatsink_is_known_after_12_s_whether_or_not_the_die_had_settled(settled: bool) -> None:
    card = SimulatedGpu(0, "card", LIGHT, lambda t: 230.0, 1)
    if settled:
        card.die_c = card.sink_c + 230 * card.plant.die_resistance
    model = CardModel()
    model.anchor(card.read().temperature_c or 0, 230)
    for _ in range(12):
        card.advance(0.5)
        card.advance(0.5)
        model.learn(1, card.read().temperature_c or 0, 230, card.speed_percent)
    assert sink_c(model) == pytest.approx(card.sink_c, abs=2)
    assert inlet_c(model) > 20


def test_the_inlet_temperature_is_learnt() -> None:
    assert inlet_c(taught(PLANTS["warm"])) - inlet_c(taught(PLANTS["nominal"])) == pytest.approx(11, abs=2.5)


def test_learning_reduces_the_uncertainty() -> None:
    before, after = CardModel().learnt.deviations, taught(LIGHT).learnt.deviations
    assert all(b > a for b, a in zip(before, after, strict=True))


def test_values_of_an_earlier_run_are_used_with_at_least_a_quarter_of_the_first_uncertainty() -> None:
    learnt = taught(PLANTS["heavy"]).learnt
    again = CardModel(learnt).learnt
    assert again.values == learnt.values
    assert all(a >= b / 4 for a, b in zip(again.deviations, CardModel().learnt.deviations, strict=True))


def test_stored_values_that_no_card_has_are_limited_to_their_bounds() -> None:
    absurd = CardModel(Learnt((1e300, -1e300, 50.0, -3.0), (1e300, 1e-300, 1.0, 1.0)))
    assert absurd.learnt.values == (1.2, 0.3, 1.5, 0.0)
    assert absurd.stays_under(80, [20.0] * 60, 100, absurd.growth_s)


def numbers(model: CardModel) -> list[float]:
    return [*model._x, *(value for row in model._p for value in row)]


@settings(max_examples=20)
@given(st.lists(moments, min_size=1, max_size=40))
def test_values_stay_within_their_bounds_and_variances_positive_for_any_readings(
    readings: list[tuple[float, float, float, float]],
) -> None:
    model = CardModel()
    for number, (elapsed_s, temperature_c, power_w, duty) in enumerate(readings):
        if number % 13 == 0:
            model.anchor(temperature_c, power_w)
        model.learn(elapsed_s, temperature_c, power_w, duty)
        assert all(map(math.isfinite, numbers(model)))
        assert all(
            low <= x <= high
            for low, x, high in zip(model.tunables.lowest, model._x, model.tunables.highest, strict=True)
        )
        assert all(model._p[i][i] > 0 for i in range(6))


def test_one_odd_reading_hardly_changes_a_model_that_has_learnt_from_hundreds() -> None:
    model = deepcopy(taught(LIGHT))
    before = model.resistance(60)
    model.learn(1.0, 130, 60, 60)
    assert model.resistance(60) == pytest.approx(before, rel=0.03)


def test_a_change_of_the_card_is_learnt() -> None:
    dusty = replace(LIGHT, resistance_flow=0.14)
    model = taught(dusty, 3000, taught(LIGHT).learnt)
    assert model.resistance(60) + model.learnt.values[3] == pytest.approx(dusty.resistance(60), rel=0.08)


def test_after_days_without_load_the_uncertainty_is_not_above_that_of_an_unknown_card() -> None:
    model = CardModel()
    model.anchor(30, 12)
    for _ in range(3000):
        model.learn(STEP_S * 20, 30, 12, 23)
    assert all(a <= 1.02 * b for a, b in zip(model.learnt.deviations, CardModel().learnt.deviations, strict=True))


@given(st.floats(20, 600), st.floats(60, 95))
def test_the_duty_for_a_power_holds_the_temperature_at_that_power(power_w: float, temperature_c: float) -> None:
    model = hot_model()
    duty = model.duty_for(power_w, temperature_c)
    if 5 <= duty <= 1000:
        assert model.power(temperature_c, duty) == pytest.approx(power_w)


def test_a_temperature_that_no_air_flow_can_hold_needs_an_infinite_duty() -> None:
    assert CardModel().duty_for(1000, 40) == math.inf
    assert CardModel().duty_for(0, 40) == 0


@settings(max_examples=20)
@given(st.lists(st.sampled_from((0.0, 60.0, 150.0, 250.0, 400.0)), min_size=1, max_size=40), st.integers(23, 100))
def test_a_limit_holds_if_no_step_ends_above_it_with_some_ease_at_first(powers_w: list[float], duty: float) -> None:
    model = hot_model()
    highest = highest_c(model, powers_w, duty)
    assert model.stays_under(highest + 0.01, powers_w, duty)
    # The limit is 0.6 K higher at first.
    assert not model.stays_under(highest - 0.61, powers_w, duty)


def test_minutes_later_the_limit_has_no_ease() -> None:
    model = hot_model()
    powers_w = [0.0] * 20 + [230.0] * 40
    highest = highest_c(model, powers_w, 50)
    assert not model.stays_under(highest - 0.01, powers_w, 50)


@given(st.lists(st.floats(0, 400), min_size=1, max_size=20), st.integers(60, 90), st.integers(23, 99))
def test_a_limit_that_a_duty_holds_is_held_by_a_higher_duty(powers_w: list[float], limit_c: float, duty: float) -> None:
    model = hot_model()
    assert model.stays_under(limit_c, powers_w, duty) <= model.stays_under(limit_c, powers_w, duty + 1)


def test_a_growing_duty_can_start_lower_than_a_constant_duty() -> None:
    model = hot_model()

    def least(growth_s: float) -> int:
        return next(duty for duty in range(23, 101) if model.stays_under(80, [220.0] * 60, duty, growth_s))

    assert least(model.growth_s) < least(math.inf) - 3


def test_a_jump_of_power_from_the_highest_sink_temperature_reaches_the_limit() -> None:
    model = hot_model()
    assert model.sink_for_jump_c(82, 200, 100) + die_k(model, 200) == pytest.approx(82)


def test_a_jump_to_more_power_than_the_duty_can_hold_counts_as_the_power_that_it_can_hold() -> None:
    model = hot_model()
    for duty in (60, 100):
        assert model.sink_for_jump_c(82, 1e4, duty) == model.sink_for_jump_c(82, model.power(82, duty), duty)


def test_the_limit_of_the_heatsink_holds_even_if_the_limit_of_the_die_is_far_away() -> None:
    model = hot_model()
    assert model.stays_under(200, [0.0], 100, sink_limit_c=sink_c(model))
    assert not model.stays_under(200, [200.0] * 40, 23, sink_limit_c=sink_c(model) - 5)
