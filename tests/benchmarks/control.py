"""How cool, how quiet and how restless: gpufan's defaults beside other laws, on a family of simulated cards.

    python -m tests.benchmarks.control [--json FILE] [--plants N]

Every law runs an hour of every workload on the nominal card and on N cards drawn around it (seeded). Laws read whole
degrees and set whole percents, as they would on a real card, each at its own interval.
"""

import argparse
import json
import random
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gpufan.control.law import CurveSettings
from gpufan.gpu.simulated import WORKLOADS, Plant, SimulatedGpu
from gpufan.report.summary import CardSummary
from gpufan.worker import Worker

HOUR_S = 3600
SEED = 1080

Step = Callable[[SimulatedGpu, int], None]
"""What a law does with a card at a second."""


def gpufan() -> Step:
    """Our default, through the same worker that keeps real cards."""
    worker: Worker | None = None

    def step(gpu: SimulatedGpu, second: int) -> None:
        nonlocal worker
        worker = worker or Worker(gpu, CurveSettings())
        worker.tick(second)

    return step


def coolgpus() -> Step:
    """coolgpus 0.23 with its defaults: 30..99 % over 55..80 °C, 2 °C of hysteresis, every 5 s."""
    duty = 0

    def line(temperature_c: float) -> int:
        return int(min(max(30 + (99 - 30) * (temperature_c - 55) / (80 - 55), 30), 99))

    def step(gpu: SimulatedGpu, second: int) -> None:
        nonlocal duty
        if second % 5 == 0:
            temperature_c = gpu.read().temperature_c
            assert temperature_c is not None
            duty = min(max(duty, line(temperature_c)), line(temperature_c + 2))
            gpu.set_duty(duty)

    return step


def stock() -> Step:
    """The driver's own law, as the simulated card models it."""
    return lambda gpu, second: None


def constant(duty: int) -> Callable[[], Step]:
    """The same duty whatever happens."""
    return lambda: lambda gpu, second: gpu.set_duty(duty)


LAWS: dict[str, Callable[[], Step]] = {
    "gpufan": gpufan,
    "coolgpus": coolgpus,
    "stock driver": stock,
    "constant 62 %": constant(62),
    "constant 100 %": constant(100),
}


def draw(number: int) -> Plant:
    """Card `number` of the family; 0 is the nominal one."""
    if number == 0:
        return Plant()
    rng = random.Random(f"{SEED}/{number}")
    exponent = rng.uniform(0.4, 1.0)
    nominal = Plant()
    # All agree with the nominal card at half duty, where the published operating points lie.
    flow = nominal.resistance_flow * 0.5 ** (exponent - nominal.resistance_exponent) * rng.uniform(0.9, 1.1)
    return replace(
        nominal,
        resistance_exponent=exponent,
        resistance_flow=flow,
        heat_capacity=nominal.heat_capacity * 2 ** rng.uniform(-1, 1),
        die_time_constant_s=rng.uniform(0.8, 2.5),
        inlet_c=nominal.inlet_c + rng.uniform(0, 12),
        sensor_noise_c=rng.choice((0.0, 0.3)),
        power_noise_w=rng.uniform(0, 20),
        ramp_percent_per_s=rng.uniform(10, 60),
    )


def run(law: str, workload: str, number: int) -> dict[str, float]:
    """One hour of one law on one card."""
    gpu = SimulatedGpu(0, "card", draw(number), WORKLOADS[workload], seed=number)
    summary, step = CardSummary(gpu), LAWS[law]()
    for second in range(HOUR_S):
        step(gpu, second)
        summary.add(1)
        gpu.advance(0.5)
        gpu.advance(0.5)
    return {
        "peak_c": summary.peak_c,
        "hot_s": summary.hot_s,
        "sound_db": summary.sound_db,
        "swings": summary.swings.count,
        "variation": summary.swings.variation,
        "throttled_percent": summary.throttled_percent,
    }


def measure(plants: int) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Results by law and workload: the nominal card first, then the family."""
    with ProcessPoolExecutor() as pool:
        futures = {
            law: {w: [pool.submit(run, law, w, number) for number in range(plants + 1)] for w in WORKLOADS}
            for law in LAWS
        }
        return {law: {w: [f.result() for f in row] for w, row in rows.items()} for law, rows in futures.items()}


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plants", type=int, default=50)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = measure(arguments.plants)
    if arguments.json:
        arguments.json.write_text(json.dumps({"seed": SEED, "results": results}, indent=1) + "\n")

    table = Table(title=f"An hour on the nominal card | on {arguments.plants} cards around it (seed {SEED})", box=None)
    for heading in ("workload", "law"):
        table.add_column(heading)
    nominal = ("peak °C", "dB(A)", "swings", "points", "lost %")
    for heading in (*nominal, "| s > 83 °C, worst", "peak °C, worst", "dB(A), median", "swings, median"):
        table.add_column(heading, justify="right")
    for workload in WORKLOADS:
        for law in LAWS:
            first, *family = results[law][workload]
            table.add_row(
                workload,
                law,
                f"{first['peak_c']:.1f}",
                f"{first['sound_db']:.1f}",
                f"{first['swings']:.0f}",
                f"{first['variation']:.0f}",
                f"{first['throttled_percent']:.1f}",
                f"{max(r['hot_s'] for r in family):.0f}",
                f"{max(r['peak_c'] for r in family):.1f}",
                f"{statistics.median(r['sound_db'] for r in family):.1f}",
                f"{statistics.median(r['swings'] for r in family):.0f}",
            )
        table.add_section()
    Console().print(table)


if __name__ == "__main__":
    main()
