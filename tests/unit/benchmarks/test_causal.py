"""The best law without foresight: worse than perfect foresight, better than laws that must learn the card."""

import math

import pytest

from tests.benchmarks import family
from tests.benchmarks.bound import STEP_S, Problem, hour
from tests.benchmarks.causal import Policy, stages
from tests.unit.builders import LIGHT


def test_jobs_and_pauses_are_as_long_as_the_queue_draws_them() -> None:
    going_on, mean_s = 1.0, 0.0
    for _, steps, hazard in stages(20, 1200):
        for _ in range(steps):
            mean_s += going_on * STEP_S
            going_on *= 1 - hazard
    assert mean_s == pytest.approx((1200 - 20) / math.log(1200 / 20), rel=0.02)


@pytest.mark.slow
def test_it_is_no_better_than_perfect_foresight_at_the_peak_that_it_reaches() -> None:
    workload = family.load("queue", 6, 0)
    load = hour(LIGHT, workload, 0, seconds=1500)
    plan, peak_c = Policy(LIGHT, temperatures=24, rounds=60).plan(workload, load)
    best = Problem(LIGHT, load).plans([peak_c + 0.1])[peak_c + 0.1]
    assert best.cost <= plan.cost <= 2 * best.cost
    assert 79 < peak_c < 81
