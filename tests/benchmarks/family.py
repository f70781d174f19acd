"""The boxes of the benchmarks: the nominal card, 200 boxes drawn around it, and their loads.

All draws are seeded: a number stands for the same box and the same load on every machine.
"""

import math
import random
from bisect import bisect_right
from dataclasses import replace
from functools import cache

from gpufan.gpu.simulated import WORKLOADS, Plant, Profile, SimulatedBox, Workload

NOMINAL = Plant(
    resistance_floor=0.08,
    resistance_flow=0.108,
    resistance_exponent=0.8,
    die_resistance=0.05,
    heat_capacity=350.0,
    inlet_c=25.0,
)
"""The card around which the boxes are drawn. It stays as it was when the boxes were first drawn, also where a later
measurement changes the simulated card."""

HOUR_S = 3600
SEED = 1080
PLANTS = 200

NAMES = (*WORKLOADS, "queue")
"""All workloads: those of the simulated box, and a queue of random jobs."""


def draw(number: int) -> Profile:
    """Box `number` of the family: 0 is the nominal card; every fourth box has two cards that share air."""
    if number == 0:
        return Profile("card", (Plant(),))
    rng = random.Random(f"{SEED}/{number}")
    inlet_c = NOMINAL.inlet_c + rng.uniform(0, 12)
    if number % 4:
        return Profile("card", (_card(rng, inlet_c),))
    plants = (_card(rng, inlet_c), _card(rng, inlet_c))
    # Card 1 blows at card 0. The coupling is a guess, as in the simulated boxes.
    coupling = ((0.0, rng.uniform(0.01, 0.05)), (0.0, 0.0))
    return Profile("pair", plants, coupling, dilution_exponent=rng.uniform(0, 1))


def _card(rng: random.Random, inlet_c: float) -> Plant:
    exponent = rng.uniform(0.4, 1.0)
    # All cards are near the nominal card at half duty, where the published operating points are.
    flow = NOMINAL.resistance_flow * 0.5 ** (exponent - NOMINAL.resistance_exponent) * rng.uniform(0.9, 1.1)
    return replace(
        NOMINAL,
        resistance_exponent=exponent,
        resistance_flow=flow,
        heat_capacity=NOMINAL.heat_capacity * 2 ** rng.uniform(-1, 1),
        die_time_constant_s=rng.uniform(0.8, 2.5),
        inlet_c=inlet_c,
        sensor_noise_c=rng.choice((0.0, 0.3)),
        power_noise_w=rng.uniform(0, 20),
        ramp_percent_per_s=rng.uniform(10, 60),
    )


def load(workload: str, number: int, card: int) -> Workload:
    """The load of card `card` of box `number`. Loads change only at multiples of 5 s."""
    return WORKLOADS[workload] if workload in WORKLOADS else queue(number, card)


@cache
def queue(number: int, card: int) -> Workload:
    """Jobs of 20 s to 20 min at 100 to 240 W, after pauses of 5 s to 10 min at 12 W; uniform in the logarithm."""
    rng = random.Random(f"{SEED}/{number}/queue/{card}")
    starts_s: list[float] = []
    powers_w: list[float] = []
    now_s = 0.0
    while now_s < HOUR_S:
        for shortest_s, longest_s, power_w in ((5, 600, 12.0), (20, 1200, rng.uniform(100, 240))):
            starts_s.append(now_s)
            powers_w.append(power_w)
            now_s += 5 * round(math.exp(rng.uniform(math.log(shortest_s), math.log(longest_s))) / 5)
    return lambda t: powers_w[bisect_right(starts_s, t) - 1]


def build(number: int, workload: str) -> SimulatedBox:
    """Box `number` under `workload`."""
    box = SimulatedBox(draw(number), load(workload, number, 0), seed=number)
    for card, gpu in enumerate(box.gpus):
        gpu.workload = load(workload, number, card)
        gpu.power_w = gpu.workload(0.0)
    return box
