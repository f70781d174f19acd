"""The card model: it learns from readings, stays within its bounds, and predicts the effect of a duty."""

import math
from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpufan.control.card_model import DEVIATION, START, CardModel, Learnt
from gpufan.gpu.simulated import Plant, Profile, SimulatedBox, SimulatedGpu
from tests.unit.builders import LIGHT

moments = st.tuples(
    st.floats(0, 15), st.integers(1, 130), st.floats(0, 4), st.floats(0, 200) | st.sampled_from((23.0, 50.0, 100.0))
)
"""Seconds, °C, share of the power limit and percent, within the limits of the law."""


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
            model.anchor(reading.temperature_c, reading.power_w / plant.power_limit_w)
        else:
            model.learn(1.0, reading.temperature_c, reading.power_w / plant.power_limit_w, gpu.speed_percent)
        box.advance(1)
    return model


def sink_c(model: CardModel) -> float:
    """Estimated temperature of the heatsink, °C."""
    return model._x[0]


def inlet_c(model: CardModel) -> float:
    """Estimated temperature of the inlet air, °C."""
    return model._x[1]


def resistance(model: CardModel, duty: float, limit_w: float = 250.0) -> float:
    """Estimated thermal resistance from die to inlet air, K/W."""
    return (model.rise_k(duty) + model.learnt.values[3]) / limit_w


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
        assert resistance(model, duty) == pytest.approx(plant.resistance(duty), rel=0.08)


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_the_heat_capacity_is_learnt_within_three_deviations(plant: Plant) -> None:
    learnt = taught(plant).learnt
    assert abs(learnt.values[2] - math.log(plant.heat_capacity / plant.power_limit_w)) < 3 * learnt.deviations[2]


@pytest.mark.parametrize("settled", [False, True])
def test_the_temperature_of_the_heatsink_is_known_after_12_s_whether_or_not_the_die_had_settled(settled: bool) -> None:
    card = SimulatedGpu(0, "card", LIGHT, lambda t: 230.0, 1)
    if settled:
        card.die_c = card.sink_c + 230 * card.plant.die_resistance
    model = CardModel()
    model.anchor(card.read().temperature_c or 0, 230 / 250)
    for _ in range(12):
        card.advance(0.5)
        card.advance(0.5)
        model.learn(1, card.read().temperature_c or 0, 230 / 250, card.speed_percent)
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
    absurd = CardModel(Learnt((1e300, -1e300, 50.0, -300.0), (1e300, 1e-300, 1.0, 1.0)))
    highest, lowest = (
        [start + sign * 4 * deviation for start, deviation in zip(START, DEVIATION, strict=True)] for sign in (1, -1)
    )
    assert absurd.learnt.values == pytest.approx((highest[2], lowest[3], highest[4], lowest[5]))
    assert absurd.duty_for(0.5, 80) > 0


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
        bounds = list(zip(model._x, START, DEVIATION, strict=True))[1:]
        assert all(abs(x - start) <= 4 * deviation + 1e-9 for x, start, deviation in bounds)
        assert all(model._p[i][i] > 0 for i in range(6))


def test_one_odd_reading_hardly_changes_a_model_that_has_learnt_from_hundreds() -> None:
    model = deepcopy(taught(LIGHT))
    before = resistance(model, 60)
    model.learn(1.0, 130, 0.25, 60)
    assert resistance(model, 60) == pytest.approx(before, rel=0.03)


def test_a_change_of_the_card_is_learnt() -> None:
    dusty = replace(LIGHT, resistance_flow=0.14)
    model = taught(dusty, 3000, taught(LIGHT).learnt)
    assert resistance(model, 60) == pytest.approx(dusty.resistance(60), rel=0.08)


def test_after_days_without_load_the_uncertainty_is_not_above_that_of_an_unknown_card() -> None:
    model = CardModel()
    model.anchor(30, 0.05)
    for _ in range(3000):
        model.learn(100, 30, 0.05, 23)
    assert all(a <= 1.02 * b for a, b in zip(model.learnt.deviations, CardModel().learnt.deviations, strict=True))


@given(st.floats(0.1, 2), st.floats(60, 95))
def test_the_duty_for_a_power_holds_the_temperature_at_that_power(power: float, temperature_c: float) -> None:
    model = CardModel()
    duty = model.duty_for(power, temperature_c)
    if 5 <= duty <= 1000:
        assert START[1] + power * (model.rise_k(duty) + START[5]) == pytest.approx(temperature_c)


def test_a_temperature_that_no_air_flow_can_hold_needs_an_infinite_duty() -> None:
    assert CardModel().duty_for(4, 40) == math.inf
    assert CardModel().duty_for(0, 40) == 0


def test_a_jump_of_power_warms_the_die_at_once() -> None:
    model = CardModel()
    model.anchor(60, 0.2)
    assert model.die_c(0.2) == pytest.approx(60)
    assert model.die_c(1.0) == pytest.approx(60 + 0.8 * START[5])


@pytest.mark.parametrize("limit_w", [30.0, 450.0])
def test_a_card_of_any_power_is_learnt(limit_w: float) -> None:
    share = limit_w / 250
    plant = replace(
        LIGHT,
        power_limit_w=limit_w,
        resistance_floor=0.08 / share,
        resistance_flow=0.108 / share,
        die_resistance=0.05 / share,
        resistance_still=2 / share,
        heat_capacity=350 * share,
    )
    box = SimulatedBox(Profile("card", (plant,)), lambda t: (230 if t % 300 < 200 else 60) * share)
    gpu, model = box.gpus[0], CardModel()
    model.anchor(gpu.die_c, gpu.power_w / limit_w)
    for second in range(1500):
        if second % 170 == 0:
            gpu.set_duty((60, 85, 40)[second // 170 % 3])
        model.learn(1.0, gpu.read().temperature_c or 0.0, gpu.power_w / limit_w, gpu.speed_percent)
        box.advance(1)
    assert resistance(model, 60, limit_w) == pytest.approx(plant.resistance(60), rel=0.08)
