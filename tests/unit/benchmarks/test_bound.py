"""The family of boxes, and the bound of perfect foresight."""

import math
from functools import cache

import numpy as np
import pytest

from gpufan.core.thermal import sound_db
from gpufan.daemon.summary import CardSummary
from gpufan.gpu.simulated import WORKLOADS, Plant, Profile, SimulatedBox, Workload
from tests.benchmarks import family, joint, pair
from tests.benchmarks.bound import CHANGE_PRICE_S, STEP_S, Bound, DieOffset, Plan, Problem, hour
from tests.benchmarks.control.own import run
from tests.unit.builders import LIGHT

LIMIT_C = 80.0


@cache
def best(workload: Workload, seconds: int = 600, plant: Plant | None = None, **grid: float) -> Plan:
    plant = plant or LIGHT
    return Problem(plant, hour(plant, workload, 0, seconds), **grid).plans([LIMIT_C])[LIMIT_C]


def replayed(plan: Plan, workload: Workload, plant: Plant | None = None) -> tuple[CardSummary, float]:
    """The summary of the plan on the simulated card, and its peak as the plan predicts it."""
    plant = plant or LIGHT
    box = SimulatedBox(Profile("card", (plant,)), workload, seed=0)
    gpu, offset, peak_c = box.gpus[0], DieOffset(plant, workload), 0.0
    summary = CardSummary(gpu)
    for second in range(len(plan.duties) * STEP_S):
        gpu.set_duty(round(plan.duties[second // STEP_S]))
        summary.add(1)
        offset.advance(second, 1)
        box.advance(1)
        peak_c = max(peak_c, gpu.sink_c + offset.kelvin)
    return summary, peak_c


def heavy(t: float) -> float:
    return 230.0


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["epochs", "sweep"])
def test_a_finer_grid_finds_nothing_better(workload: str) -> None:
    coarse = best(WORKLOADS[workload])
    fine = best(WORKLOADS[workload], temperatures=200, spacing=0.5)
    assert 10 * math.log10(coarse.cost / fine.cost) < 0.1  # dB, with the price of changes


@pytest.mark.parametrize("workload", ["epochs", "sweep"])
def test_the_plan_has_the_predicted_peak_and_sound_on_the_simulated_card(workload: str) -> None:
    plan = best(WORKLOADS[workload])
    summary, peak_c = replayed(plan, WORKLOADS[workload])
    assert summary.sound_db == pytest.approx(plan.sound_db, abs=0.2)
    assert peak_c == pytest.approx(LIMIT_C, abs=0.3)


def test_a_steady_load_ends_at_the_lowest_duty_that_holds_the_limit() -> None:
    plan = best(heavy, seconds=1800)
    assert 25 + 230 * LIGHT.resistance(plan.duties[-60]) == pytest.approx(LIMIT_C, abs=1)
    assert plan.swings <= 1


@pytest.mark.slow
def test_a_price_on_changes_makes_the_fan_steady() -> None:
    assert best(WORKLOADS["sweep"]).swings <= 2 < 5 < best(WORKLOADS["sweep"], price_s=0).swings


def test_the_duty_falls_no_faster_than_a_law_may() -> None:
    duties = best(lambda t: 230.0 if t < 400 else 12.0).duties
    assert min(np.diff(duties)) >= -2 * STEP_S


def test_a_limit_that_full_fans_exceed_has_no_plan() -> None:
    hot = Plant(inlet_c=60)
    assert not Problem(hot, hour(hot, heavy, 0, 600)).plans([LIMIT_C])


@pytest.mark.slow
def test_a_higher_limit_is_never_louder() -> None:
    limits = [76.0, 78.0, 80.0, 82.0]
    found = Problem(Plant(), hour(Plant(), WORKLOADS["epochs"], 0, 600)).plans(limits)
    sounds = [found[limit].sound_db for limit in limits]
    assert sounds == sorted(sounds, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("law", ["gpufan, curve", "coolgpus", "CoolerControl", "Klipper PID", "constant 62 %"])
@pytest.mark.parametrize("workload", ["epochs", "sweep", "queue"])
@pytest.mark.parametrize("number", [0, 1, 5])
def test_no_law_does_better_at_the_same_peak(law: str, workload: str, number: int) -> None:
    outcome = run(law, workload, number)
    if outcome["throttled_s"]:
        pytest.skip("the card has dropped its clocks, and heats less than the bound's")
    (plant,) = family.draw(number).plants
    plan = Problem(plant, hour(plant, family.load(workload, number, 0), number)).plans([outcome["quiet_peak_c"] + 0.05])
    price = CHANGE_PRICE_S * outcome["variation"] / family.HOUR_S
    cost = 10 ** ((outcome["sound_db"] - sound_db(plant.full_scale_rpm)) / 10) + price
    assert plan and 10 * math.log10(cost / next(iter(plan.values())).cost) > -0.1


def test_the_power_includes_the_noise() -> None:
    powers = hour(Plant(power_noise_w=20), heavy, 1, 600).powers_w
    assert np.mean(powers) == pytest.approx(225, abs=5)  # cut at the card's limit of 250 W
    assert np.std(powers) > 4


def test_the_bound_is_interpolated_between_limits_and_constant_beyond_them() -> None:
    bound = Bound(77, [78, 80], [50, 48], [3, 1])
    assert [bound.sound_db_at(c) for c in (76, 77, 79, 99)] == [math.inf, 50, 49, 48]
    assert [bound.swings_at(c) for c in (77, 99)] == [3, 1]


@pytest.mark.slow
def test_a_card_runs_its_fans_faster_for_a_neighbour_that_it_warms() -> None:
    upper, lower = Plant(inlet_c=30), Plant()
    cards = (upper, lower), (hour(upper, heavy, 0, 300), hour(lower, heavy, 0, 300))
    alone, beside = (pair.Pair(*cards, coupling, dilution_exponent=1).plans(LIMIT_C) for coupling in (1e-6, 0.03))
    assert alone and beside
    assert np.mean(beside[1].duties) > np.mean(alone[1].duties) + 3


@pytest.mark.slow
@pytest.mark.parametrize(("number", "workload"), [(4, "epochs"), (4, "sweep"), (8, "sweep"), (8, "queue")])
def test_planning_both_cards_at_once_gains_almost_nothing(number: int, workload: str) -> None:
    cards = pair.build(number, workload, 1800)
    plans = cards.plans(LIMIT_C, price_s=0)
    assert plans
    assert 10 * math.log10(np.mean([p.energy for p in plans]) / joint.energy(cards, LIMIT_C)) < 0.15


def test_the_family_is_the_same_every_time() -> None:
    assert [family.draw(n) for n in range(8)] == [family.draw(n) for n in range(8)]
    assert family.draw(1) != family.draw(2)


def test_number_0_is_the_nominal_card() -> None:
    assert family.draw(0).plants == (Plant(),)


def test_a_quarter_of_the_boxes_have_two_cards_that_share_air() -> None:
    pairs = [family.draw(n) for n in range(1, 201) if family.draw(n).coupling]
    assert len(pairs) == 50
    assert all(len(pair.plants) == 2 and pair.coupling[0][1] > 0 for pair in pairs)


@pytest.mark.parametrize("number", [0, 1, 2, 17])
def test_job_queues_are_seeded_and_change_at_full_steps(number: int) -> None:
    load, again = family.queue(number, 0), family.queue.__wrapped__(number, 0)
    powers = [load(t / 2) for t in range(2 * 3600)]
    changes = [t / 2 for t in range(1, len(powers)) if powers[t] != powers[t - 1]]
    assert changes and all(t % STEP_S == 0 for t in changes)
    assert all(p == 12 or 100 <= p <= 240 for p in powers)
    assert powers == [again(t / 2) for t in range(2 * 3600)]
