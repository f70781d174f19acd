"""What the cards of the benchmark work on: eight kinds of load, drawn, and the loads of recorded cards.

A load is the power that it asks for in each second, as a share of the card's power limit.
"""

import csv
import math
import random
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice, pairwise
from pathlib import Path

from tests.benchmarks.control.plants import SECONDS, Load

TRACES = Path(__file__).parents[4] / "shared" / "traces"
"""Recordings of real cards: a folder beside the top folder. They are no part of gpufan."""

IDLE = 0.05


def _between(rng: random.Random, low: float, high: float) -> float:
    """A duration, uniform in the logarithm."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _train(rng: random.Random) -> Iterator[float]:
    """Epochs with an evaluation after each."""
    full, evaluation = rng.uniform(0.85, 1.03), rng.uniform(0.25, 0.6)
    epoch_s, evaluation_s = _between(rng, 120, 1200), _between(rng, 15, 90)
    while True:
        for _ in range(int(epoch_s * rng.uniform(0.95, 1.05))):
            yield full * rng.uniform(0.94, 1.04)
        for _ in range(int(evaluation_s * rng.uniform(0.9, 1.1))):
            yield evaluation * rng.uniform(0.8, 1.2)


def _sweep(rng: random.Random) -> Iterator[float]:
    """Short jobs, one after the other, each somewhat different."""
    job_s, pause_s = _between(rng, 30, 150), _between(rng, 10, 60)
    while True:
        full = rng.uniform(0.75, 1.03)
        for _ in range(int(job_s * rng.uniform(0.85, 1.15))):
            yield full * rng.uniform(0.95, 1.05)
        for _ in range(int(pause_s * rng.uniform(0.8, 1.3))):
            yield IDLE


def _stalls(rng: random.Random) -> Iterator[float]:
    """Training that waits for its data loader every few seconds."""
    full, stalled = rng.uniform(0.85, 1.03), rng.uniform(0.2, 0.45)
    while True:
        for _ in range(int(_between(rng, 3, 25))):
            yield full
        for _ in range(int(_between(rng, 1, 8))):
            yield stalled


def _inference(rng: random.Random) -> Iterator[float]:
    """Requests that come at random (Poisson), each a burst."""
    mean_s, full = _between(rng, 5, 40), rng.uniform(0.7, 1.0)
    while True:
        for _ in range(int(rng.expovariate(1 / mean_s)) + 1):
            yield 0.12
        for _ in range(int(_between(rng, 2, 20))):
            yield full


def _gaming(rng: random.Random) -> Iterator[float]:
    """Scenes of minutes, each with a wandering load; now and then a menu."""
    while True:
        level = rng.uniform(0.65, 1.0) if rng.random() < 0.85 else 0.25
        wander = 0.0
        for _ in range(int(_between(rng, 30, 400))):
            wander = 0.95 * wander + rng.gauss(0, 0.02)
            yield min(max(level + wander, 0.1), 1.0)


def _mining(rng: random.Random) -> Iterator[float]:
    """The same load for ever."""
    full = rng.uniform(0.75, 1.0)
    while True:
        yield full * rng.uniform(0.99, 1.01)


def _rare(rng: random.Random) -> Iterator[float]:
    """A job of minutes, then nothing for longer."""
    while True:
        for _ in range(int(_between(rng, 200, 1500))):
            yield IDLE
        full = rng.uniform(0.75, 1.03)
        for _ in range(int(_between(rng, 60, 600))):
            yield full * rng.uniform(0.96, 1.04)


def _idle(rng: random.Random) -> Iterator[float]:
    """Nothing but a desktop."""
    while True:
        for _ in range(int(_between(rng, 20, 200))):
            yield IDLE
        for _ in range(rng.randint(1, 4)):
            yield 0.3


KINDS: dict[str, Callable[[random.Random], Iterator[float]]] = {
    "train": _train,
    "sweep": _sweep,
    "stalls": _stalls,
    "inference": _inference,
    "gaming": _gaming,
    "mining": _mining,
    "rare": _rare,
    "idle": _idle,
}


def kind(number: int) -> str:
    """The kind of load of plant `number`: each class of cards meets each kind."""
    return list(KINDS)[number // 7 % len(KINDS)]


def draw(number: int) -> Load:
    """The load of plant `number`."""
    shares = list(islice(KINDS[kind(number)](random.Random(f"load/{number}")), SECONDS + 1))
    return shares.__getitem__


@cache
def _recording(path: Path) -> list[float]:
    """The power of a recording, second by second, as a share of its highest."""
    with path.open() as file:
        rows = [(float(row["seconds"]), float(row["power_w"])) for row in csv.DictReader(file) if row["power_w"]]
    shares: list[float] = []
    for (start_s, power_w), (end_s, _) in pairwise(rows):
        shares += [power_w] * round(end_s - start_s)
    highest_w = sorted(shares)[-1 - len(shares) // 1000]
    return [min(power_w / highest_w, 1.0) for power_w in shares]


def recordings(folder: Path) -> list[Path]:
    """The recordings in `folder`; none if it is absent."""
    return sorted(folder.glob("*.csv"))


def recorded(path: Path, number: int) -> Load:
    """The load of a recording. A long one begins at a drawn second, a short one is repeated."""
    shares = _recording(path)
    spare_s = max(len(shares) - SECONDS, 0)
    start = random.Random(f"start/{number}").randint(0, spare_s)
    return lambda second: shares[(start + second) % len(shares)]
