"""The systems that laws are judged on: the nominal card, 200 boxes drawn around it, and what they have to work at.

Everything is seeded: a number names the same box and the same load on every machine.
"""

import math
import random
from bisect import bisect_right
from dataclasses import replace
from functools import cache

from gpufan.gpu.simulated import WORKLOADS, Plant, Profile, SimulatedBox, Workload

HOUR_S = 3600
SEED = 1080
PLANTS = 200

NAMES = (*WORKLOADS, "queue")
"""Every workload: those of the simulated box, and a queue of random jobs."""


def draw(number: int) -> Profile:
    """Box `number` of the family: 0 is the nominal card, every fourth has two cards that share air."""
    if number == 0:
        return Profile("card", (Plant(),))
    rng = random.Random(f"{SEED}/{number}")
    inlet_c = Plant().inlet_c + rng.uniform(0, 12)
    if number % 4:
        return Profile("card", (_card(rng, inlet_c),))
    plants = (_card(rng, inlet_c), _card(rng, inlet_c))
    # Card 1 blows at card 0. Guesses, like the coupling of the simulated boxes.
    coupling = ((0.0, rng.uniform(0.01, 0.05)), (0.0, 0.0))
    return Profile("pair", plants, coupling, dilution_exponent=rng.uniform(0, 1))


def _card(rng: random.Random, inlet_c: float) -> Plant:
    nominal = Plant()
    exponent = rng.uniform(0.4, 1.0)
    # All agree with the nominal card at half duty, where the published operating points lie.
    flow = nominal.resistance_flow * 0.5 ** (exponent - nominal.resistance_exponent) * rng.uniform(0.9, 1.1)
    return replace(
        nominal,
        resistance_exponent=exponent,
        resistance_flow=flow,
        heat_capacity=nominal.heat_capacity * 2 ** rng.uniform(-1, 1),
        die_time_constant_s=rng.uniform(0.8, 2.5),
        inlet_c=inlet_c,
        sensor_noise_c=rng.choice((0.0, 0.3)),
        power_noise_w=rng.uniform(0, 20),
        ramp_percent_per_s=rng.uniform(10, 60),
    )


def load(workload: str, number: int, card: int) -> Workload:
    """What card `card` of box `number` has to do. Loads change at full 5 s only."""
    return WORKLOADS[workload] if workload in WORKLOADS else queue(number, card)


@cache
def queue(number: int, card: int) -> Workload:
    """Jobs of 20 s to 20 min at 100 to 240 W, after pauses of 5 s to 10 min at 12 W; short ones as likely as long."""
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
    """Box `number` at work."""
    box = SimulatedBox(draw(number), load(workload, number, 0), seed=number)
    for card, gpu in enumerate(box.gpus):
        gpu.workload = load(workload, number, card)
        gpu.power_w = gpu.workload(0.0)
    return box
