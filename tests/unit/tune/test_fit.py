"""The fit: it finds the constants of simulated cards, and its intervals are as certain as they claim."""

import builtins
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from gpufan.core.card_settings import DEFAULT_CURVE, CardSettings
from gpufan.core.curve import Curve
from gpufan.daemon.recording import Row, recording_rows
from gpufan.daemon.snapshot_file import snapshot_now
from gpufan.daemon.worker import Worker
from gpufan.errors import GpufanError, InputError
from gpufan.gpu.simulated import WORKLOADS, Plant, Profile, SimulatedBox, SimulatedGpu
from gpufan.tune.fit import Fit, fit
from gpufan.tune.plant import FittedPlant, steady_c
from gpufan.tune.recorded_cards import RecordedCard, recorded_cards
from gpufan.tune.replay import replay
from tests.benchmarks import family
from tests.unit.tune.recorded import card, course, fitted, record

CONSTANTS: dict[str, Callable[[Plant], float]] = {
    "inlet": lambda plant: plant.inlet_c,
    "resistance at 50 %": lambda plant: plant.resistance(50),
    "resistance at 100 %": lambda plant: plant.resistance(100),
    "floor": lambda plant: plant.resistance_floor,
    "exponent": lambda plant: plant.resistance_exponent,
    "heat capacity": lambda plant: plant.heat_capacity,
    "die": lambda plant: plant.die_resistance,
    "steady temperature": lambda plant: steady_c(plant, 230, 60),
}


@pytest.mark.parametrize("constant", CONSTANTS)
def test_the_constants_of_the_nominal_card_are_found(constant: str) -> None:
    value = CONSTANTS[constant]
    low, high = fitted().interval(value)
    assert low <= value(Plant()) <= high
    assert low <= value(fitted().plant) <= high


def test_the_misfit_is_hardly_more_than_rounding() -> None:
    assert fitted().misfit_k < 0.4


def test_ten_minutes_predict_the_temperature_of_a_steady_load_within_a_degree_and_a_half() -> None:
    assert steady_c(fitted().plant, 230, 60) == pytest.approx(steady_c(Plant(), 230, 60), abs=1.5)


def held_out_peaks_c(plant: Plant, learnt: Plant) -> tuple[float, float]:
    """Peak under a load and a curve that were not recorded: of the card, and as predicted."""
    settings = CardSettings(Curve.parse("50:30,78:40,83:70,86:100"))

    def peak_c(plant: Plant) -> float:
        return replay(SimulatedBox(Profile("", (plant,)), WORKLOADS["sweep"]), "", settings, 900).peak_c

    noise = {"sensor_noise_c": plant.sensor_noise_c, "power_noise_w": plant.power_noise_w}
    return peak_c(plant), peak_c(replace(learnt, **noise))


def test_the_peak_under_another_load_and_another_curve_is_predicted() -> None:
    real_c, predicted_c = held_out_peaks_c(Plant(), fitted().plant)
    assert predicted_c == pytest.approx(real_c, abs=1.5)


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["epochs", "sweep"])
def test_nine_tenths_of_the_intervals_are_right_and_every_peak_is_predicted_in_a_family_of_cards(workload: str) -> None:
    plants = [family.draw(number).plants[0] for number in range(27) if number % 4]
    held = dict.fromkeys(CONSTANTS, 0)
    for number, plant in enumerate(plants):
        found = fit(card(record(plant, workload, 20, str(DEFAULT_CURVE), number)))
        for name, value in CONSTANTS.items():
            low, high = found.interval(value)
            held[name] += low <= value(plant) <= high
        real_c, predicted_c = held_out_peaks_c(plant, found.plant)
        assert predicted_c == pytest.approx(real_c, abs=1.5)
    # Of 20 intervals with a probability of 90 %, fewer than 15 are right once in a hundred times.
    assert min(held.values()) >= 15, held


@pytest.mark.slow
@pytest.mark.parametrize("number", [4, 16])
def test_the_coupling_of_cards_that_work_in_turns_is_found(number: int) -> None:
    (upper, lower), profile = pair(number), family.draw(number)
    assert upper.plant.coupling == pytest.approx(profile.coupling[0][1], abs=0.01)
    assert lower.plant.coupling == pytest.approx(profile.coupling[1][0], abs=0.01)
    for found, plant in zip((upper, lower), profile.plants, strict=True):
        assert found.misfit_k < 0.8
        assert steady_c(found.plant, 230, 60) == pytest.approx(steady_c(plant, 230, 60), abs=1.5)


def pair(number: int) -> list[Fit]:
    """Fits of two cards that share air, each with its own queue of jobs, after an hour."""
    box = family.build(number, "queue")
    workers = [Worker(gpu, lambda _: CardSettings()) for gpu in box.gpus]
    found: list[Row] = []
    for second in range(3600):
        for worker in workers:
            worker.tick(second)
        found += recording_rows(
            snapshot_now(tuple(worker.state for worker in workers), interval_s=1, simulated_s=second)
        )
        box.advance(1)
    return [fit(card) for card in recorded_cards(found)]


def test_the_heat_of_other_cards_is_predicted_to_warm_the_inlet_air() -> None:
    stretch = [reading._replace(others_w=200) for reading in card(record(minutes=20)).readings]
    alone, beside = (course(stretch).predict(FittedPlant(coupling=coupling))[-1] for coupling in (0, 0.02))
    assert beside - alone == pytest.approx(4, abs=0.1)


def test_a_single_card_has_no_heat_of_others() -> None:
    assert {reading.others_w for reading in card().readings} == {0}


def test_the_temperature_of_the_heatsink_before_the_recording_makes_no_difference() -> None:
    late = card([row for row in record() if row.time_s >= 200])
    assert late.readings[0].temperature_c > 60
    assert steady_c(fit(late).plant, 230, 60) == pytest.approx(steady_c(Plant(), 230, 60), abs=1.5)


def test_the_model_predicts_what_the_simulator_does() -> None:
    (stretch,) = card().stretches
    misses = [r.temperature_c - p for r, p in zip(stretch[1:], course(stretch).predict(FittedPlant()), strict=True)]
    assert max(map(abs, misses[3:])) < 2
    assert sum(map(abs, misses)) / len(misses) < 0.4


def test_stretches_with_a_gap_between_them_count_together() -> None:
    rows = record()
    apart = card([row if row.time_s < 300 else row._replace(time_s=row.time_s + 9000) for row in rows])
    assert len(apart.stretches) == 2
    assert fit(apart).plant.heat_capacity == pytest.approx(Plant().heat_capacity, rel=0.1)


def test_fans_that_never_moved_leave_the_exponent_uncertain() -> None:
    low, high = fitted(curve="0:60").interval(lambda plant: plant.resistance_exponent)
    assert high - low > 0.7


@pytest.mark.parametrize("seconds", [60, 120])
def test_the_fit_of_a_minute_has_wide_intervals(seconds: int) -> None:
    low, high = fit(card(record(minutes=seconds / 60))).interval(lambda plant: steady_c(plant, 230, 60))
    assert low < steady_c(Plant(), 230, 60) < high
    assert high - low > 4


ZERO_RPM = replace(Plant(), duty_range=(0, 100), idle_duty=0.0, resistance_floor=0.07, resistance_flow=0.07)
"""A card that stops its fans; it is cooled as well as an open-air card."""


def jobs(t: float) -> float:
    """Long pauses between jobs, W."""
    return 200.0 if t % 1200 < 500 else 12.0


@cache
def with_pauses() -> Fit:
    """The fit of a card whose fans stand still in pauses, in a case that warms slowly."""
    plant = replace(ZERO_RPM, case_resistance=0.03)
    gpu = SimulatedGpu(0, "NVIDIA GeForce GTX 1080 Ti", plant, jobs, 1)
    found = []
    for second in range(3600):
        gpu.set_duty(0 if gpu.die_c < 45 else round(30 + gpu.die_c - 45))
        reading = gpu.read()
        (fan,) = reading.fans
        values = (reading.temperature_c, reading.power_w, None, fan.speed_percent, fan.speed_rpm)
        found.append(Row(second, "GPU-1", gpu.info.label, *values, "driver", "", ""))
        gpu.advance(0.5)
        gpu.advance(0.5)
    return fit(card(found))


@pytest.mark.slow
def test_fans_that_stand_still_do_not_spoil_the_fit() -> None:
    speeds = {reading.speed_percent for reading in with_pauses().card.readings}
    assert 0 in speeds and max(speeds) > 45
    plant = with_pauses().plant
    assert plant.inlet_c == pytest.approx(25, abs=3)
    assert plant.resistance_exponent == pytest.approx(0.8, abs=0.3)
    assert plant.resistance_still == pytest.approx(0.8, abs=0.2)


@pytest.mark.slow
def test_air_that_a_card_warms_slowly_is_distinguished_from_its_heatsink() -> None:
    plant = with_pauses().plant
    assert plant.case_resistance == pytest.approx(0.03, abs=0.01)
    assert plant.heat_capacity == pytest.approx(800, rel=0.2)
    assert steady_c(plant, 230, 60) == pytest.approx(steady_c(replace(ZERO_RPM, case_resistance=0.03), 230, 60), abs=2)


def test_the_error_is_that_of_a_part_which_the_fit_has_not_seen() -> None:
    assert fitted().unseen_k == pytest.approx(fitted().misfit_k, abs=0.2)
    later_warmer = [r._replace(temperature_c=r.temperature_c + 5 * (r.time_s > 400)) for r in record()]
    found = fit(card(later_warmer)).unseen_k
    assert found is not None and found > 3


def test_a_recording_that_is_too_short_to_be_divided_has_no_such_error() -> None:
    assert fit(card(record(minutes=1))).unseen_k is None


def test_random_readings_have_a_large_misfit() -> None:
    chance = random.Random(1)
    nonsense = card([row._replace(temperature_c=chance.randint(20, 90)) for row in record(minutes=3)])
    assert fit(nonsense).misfit_k > 10


def test_the_full_scale_speed_is_that_of_the_fan() -> None:
    assert fitted().plant.full_scale_rpm == pytest.approx(4800, rel=0.01)


def test_a_card_without_readings_is_refused() -> None:
    with pytest.raises(GpufanError, match="0 GTX 1080 Ti: the recording has no full minute"):
        fit(RecordedCard("GPU-1", "0 GTX 1080 Ti", ()))


def test_without_scipy_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without(name: str, *others: Any) -> Any:
        if name.startswith("scipy"):
            raise ImportError(name)
        return real_import(name, *others)

    monkeypatch.setattr(builtins, "__import__", without)
    for module in ("course", "search"):
        monkeypatch.delitem(sys.modules, f"gpufan.tune.{module}", raising=False)
    with pytest.raises(InputError, match=r"pip install 'gpufan\[tune\]'"):
        fit(card())
