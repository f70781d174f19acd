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

from gpufan.control.law import CurveSettings
from gpufan.gpu.simulated import WORKLOADS, Plant, SimulatedGpu
from gpufan.report.summary import CardSummary
from gpufan.worker import Worker
from tests.benchmarks import markdown

HOUR_S = 3600
SEED = 1080

Step = Callable[[SimulatedGpu, int], None]
"""What a law does with a card at a second."""


def gpufan() -> Step:
    """Our default, through the same worker that keeps real cards."""
    worker: Worker | None = None

    def step(gpu: SimulatedGpu, second: int) -> None:
        nonlocal worker
        worker = worker or Worker(gpu, lambda _: CurveSettings())
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


def table(results: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """The README's table, for cards whose fans at full speed hold them under the limit in that workload."""
    rows = []
    for workload in WORKLOADS:
        full = results["constant 100 %"][workload]
        holdable = [number for number in range(1, len(full)) if full[number]["hot_s"] == 0]
        for law in LAWS:
            nominal = results[law][workload][0]
            family = [results[law][workload][number] for number in holdable]
            rows.append(
                (
                    workload,
                    law,
                    f"{nominal['peak_c']:.1f}",
                    f"{nominal['sound_db']:.1f}",
                    f"{nominal['swings']:.0f}",
                    f"{nominal['variation']:.0f}",
                    f"{nominal['throttled_percent']:.1f}",
                    f"{len(family)}",
                    f"{max(r['hot_s'] for r in family):.0f}",
                    f"{statistics.median(r['sound_db'] for r in family):.1f}",
                    f"{statistics.mean(r['swings'] for r in family):.0f}",
                )
            )
    headings = ("workload", "law", "peak °C", "dB(A)", "swings", "points moved", "throttled %")
    return markdown((*headings, "cards", "worst s > 83 °C", "median dB(A)", "mean swings"), rows)


def aims(results: dict[str, dict[str, list[dict[str, float]]]]) -> str:
    """What the defaults were to reach, and whether they do."""
    ours, peer = ({w: results[law][w][0] for w in WORKLOADS} for law in ("gpufan", "coolgpus"))
    full = results["constant 100 %"]
    hot = [r["hot_s"] for w in WORKLOADS for r, f in zip(results["gpufan"][w], full[w], strict=True) if f["hot_s"] == 0]
    checks = [
        ("no second above 83 °C where full fans hold it", max(hot) == 0),
        ("epochs: peak at most 80 °C", ours["epochs"]["peak_c"] <= 80),
        ("epochs: at most 49.5 dB(A)", ours["epochs"]["sound_db"] <= 49.5),
        ("sweep: at most 44.5 dB(A)", ours["sweep"]["sound_db"] <= 44.5),
        *(
            (f"{w}: a third of coolgpus's swings", ours[w]["swings"] * 3 <= peer[w]["swings"])
            for w in ("epochs", "sweep")
        ),
    ]
    return "\n".join(f"{'met   ' if met else 'MISSED'} {aim}" for aim, met in checks)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plants", type=int, default=50, help="cards around the nominal one")
    parser.add_argument("--json", type=Path, help="write all results to this file")
    arguments = parser.parse_args()
    results = measure(arguments.plants)
    if arguments.json:
        arguments.json.write_text(json.dumps({"seed": SEED, "results": results}, indent=1) + "\n")
    print(table(results), aims(results), sep="\n\n")


if __name__ == "__main__":
    main()
