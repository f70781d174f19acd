"""How cool, quiet and steady gpufan is, compared with other laws and with perfect foresight.

    python -m tests.benchmarks.control.own [--plants N] [--law NAME]... [--workload NAME]... [--json FILE]

Each law runs an hour of each workload on the nominal card and on N boxes drawn around it (seeded). As on a real card,
laws read whole degrees and set whole percents, each at its own interval. The bounds of `bound.py` are stored in a file
and computed again only after a change of the code that they depend on.
"""

import argparse
import hashlib
import json
import math
import os
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

from gpufan.core import thermal
from gpufan.daemon.summary import CardSummary, Swings
from gpufan.daemon.worker import Worker
from gpufan.gpu import simulated
from tests.benchmarks import bound, family, markdown, pair
from tests.benchmarks.bound import Bound, DieOffset
from tests.benchmarks.control.measure import OVER_K, Outcome, Recorder, combined
from tests.benchmarks.family import HOUR_S, NAMES, PLANTS, SEED
from tests.benchmarks.laws import CURVE, FULL, HOLDING, LAWS, OURS, TARGET_C

PATIENCE_S = 10
"""A card may be too hot for this long, s."""

Figures = dict[str, float]
Results = dict[str, dict[str, dict[int, Figures]]]
"""By law, workload and number of the box."""


def run(law: str, workload: str, number: int, *, noise: bool = True) -> Figures:
    """One hour of a law in a box, with `TARGET_C`."""
    return measured(law, workload, number, TARGET_C, noise=noise)[0]


def measured(law: str, workload: str, number: int, target_c: float, *, noise: bool = True) -> tuple[Figures, Outcome]:
    """One hour of a law in a box. Of two cards the hotter and the more restless count, and the mean of their sound."""
    box = family.build(number, workload)
    if not noise:
        for gpu in box.gpus:
            gpu.plant = replace(gpu.plant, sensor_noise_c=0.0, power_noise_w=0.0)
    workers: list[Worker] = []
    cards = [_Card(gpu, law, workers, target_c) for gpu in box.gpus]
    for second in range(HOUR_S):
        for card in cards:
            card.act(second)
        for half in (0.0, 0.5):
            box.advance(0.5)
            for card in cards:
                card.watch(second + half)
    energies = [(10 ** (card.summary.sound_db / 10)) for card in cards]
    outcome = combined([card.recorder.outcome() for card in cards])
    figures = {
        "peak_c": max(card.summary.peak_c for card in cards),
        "quiet_peak_c": max(card.quiet_peak_c for card in cards),
        "hot_s": max(card.summary.hot_s for card in cards),
        "too_hot_s": max(card.longest_hot_s for card in cards),
        "sound_db": 10 * math.log10(statistics.fmean(energies)),
        "variation": sum(card.summary.swings.variation for card in cards),
        "swings": max(card.summary.swings.count for card in cards),
        "late_swings": max(card.late_swings.count for card in cards),
        "throttled_percent": max(card.summary.throttled_percent for card in cards),
        "throttled_s": outcome.throttled_s,
    }
    return figures, outcome


class _Card:
    """One card of a run: its law and its results."""

    def __init__(self, gpu: simulated.SimulatedGpu, law: str, box: list[Worker], target_c: float) -> None:
        self.gpu = gpu
        self.step = LAWS[law](box, target_c)
        self.recorder = Recorder(HOUR_S)
        self._too_hot_c = target_c + OVER_K
        self.summary = CardSummary(gpu)
        self.late_swings = Swings()
        self.longest_hot_s = 0.0
        self.quiet_peak_c = gpu.sink_c
        self._hot_s = 0.0
        self._offset = DieOffset(gpu.plant, gpu.workload)

    def act(self, second: int) -> None:
        self.step(self.gpu, second)
        self.summary.add(1)
        gpu = self.gpu
        duty_percent = gpu.speed_percent if gpu.manual_percent is None else gpu.manual_percent
        self.recorder.add(gpu.die_c, gpu.speed_rpm, duty_percent, throttled=gpu.clock < 1)
        if second >= HOUR_S / 2:
            self.late_swings.add(duty_percent)

    def watch(self, begun_s: float) -> None:
        """Record the state after the half second that began at `begun_s`."""
        self._offset.advance(begun_s, 0.5)
        self.quiet_peak_c = max(self.quiet_peak_c, self.gpu.sink_c + self._offset.kelvin)
        self._hot_s = self._hot_s + 0.5 if self.gpu.die_c > self._too_hot_c else 0.0
        self.longest_hot_s = max(self.longest_hot_s, self._hot_s)


def measure(pool: Executor, laws: Iterable[str], workloads: Sequence[str], plants: int) -> Results:
    """Results by law, workload and number of the box; the nominal card has number 0."""
    futures = {
        law: {w: {number: pool.submit(run, law, w, number) for number in range(plants + 1)} for w in workloads}
        for law in laws
    }
    return {
        law: {w: {n: f.result() for n, f in row.items()} for w, row in rows.items()} for law, rows in futures.items()
    }


def cycling(pool: Executor, law: str, plants: int) -> int:
    """Number of boxes whose fans still go up and down in the second half of a steady load without noise."""
    futures = [pool.submit(run, law, "step", number, noise=False) for number in range(plants + 1)]
    return sum(future.result()["late_swings"] > 1 for future in futures)


def bounds(
    pool: Executor, file: Path | None, workloads: Sequence[str], numbers: Sequence[int]
) -> dict[str, dict[int, Bound]]:
    """Bounds by workload and number of the box, from `file` if they are there."""
    file = file or Path(tempfile.gettempdir()) / "gpufan-bounds.json"
    known = _read(file)
    modules = [simulated, thermal, family, bound]
    sources = {False: _digest(modules), True: _digest([*modules, pair])}
    new: dict[str, Future[Bound]] = {}
    found: dict[str, dict[int, str]] = {w: {} for w in workloads}
    for workload, number in product(workloads, numbers):
        coupled = bool(family.draw(number).coupling)
        found[workload][number] = key = f"{sources[coupled]}/{workload}/{number}"
        if key not in known:
            new[key] = pool.submit((pair if coupled else bound).bound, workload, number)
    try:
        for key, future in new.items():
            known[key] = asdict(future.result())
    finally:
        # Ctrl-C must not lose the bounds so far, nor those that another process has added to the file.
        part = file.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(_read(file) | known))
        part.replace(file)
    return {w: {n: Bound(**known[key]) for n, key in row.items()} for w, row in found.items()}


def _read(file: Path) -> dict[str, Any]:
    bounds: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return bounds


def _digest(modules: Sequence[ModuleType]) -> str:
    """A digest of the source of `modules`: a stored bound counts only if none of them has changed."""
    return hashlib.sha256("".join(Path(str(m.__file__)).read_text() for m in modules).encode()).hexdigest()[:12]


def judge(law: str, outcome: Figures, best: Bound, target_c: float = TARGET_C) -> None:
    """Compare `outcome` with perfect foresight at the same peak temperature, or at the target of a law that has one."""
    limit_c = max(outcome["quiet_peak_c"], target_c) if law in HOLDING else outcome["quiet_peak_c"]
    outcome["holdable"] = best.lowest_c <= target_c
    outcome["bound_db"] = best.sound_db_at(limit_c)
    outcome["bound_swings"] = best.swings_at(limit_c)
    # A card whose clocks heat lowers is quieter because it works less. The power limit lowers them with every law.
    comparable = outcome["holdable"] and not outcome["throttled_s"] and math.isfinite(outcome["bound_db"])
    outcome["above_db"] = outcome["sound_db"] - outcome["bound_db"] if comparable else math.nan
    outcome["spare_swings"] = 1.5 * outcome["bound_swings"] + 2 - outcome["swings"]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(math.ceil(share * len(ordered)), len(ordered)) - 1] if ordered else math.nan


def over(family: Iterable[Figures]) -> tuple[float, float]:
    """Median and worst tenth of the sound above the bound, dB(A); NaN if too few boxes are comparable."""
    all_above = [o["above_db"] for o in family]
    above = [db for db in all_above if not math.isnan(db)]
    if 2 * len(above) < len(all_above) or not above:
        return math.nan, math.nan
    return percentile(above, 0.5), percentile(above, 0.9)


def holdable(outcomes: dict[int, Figures]) -> list[Figures]:
    """The drawn boxes in which perfect foresight can hold the target."""
    return [outcome for number, outcome in outcomes.items() if number and outcome["holdable"]]


FAMILY_HEADINGS = ("boxes", f"s > {TARGET_C + OVER_K:g} °C", "above bound", "worst tenth", "restless", "hunting")


def of_family(law: dict[str, dict[int, Figures]], workloads: Iterable[str]) -> tuple[str, ...]:
    """A law over the drawn boxes: their number, time too hot, distance to the bound, boxes that are too restless."""
    boxes = [o for w in workloads for o in holdable(law[w])]
    steady = [o for w in workloads if w == "step" for o in holdable(law[w])]
    return (
        f"{len(boxes)}",
        f"{max((o['too_hot_s'] for o in boxes), default=0):.0f}",
        *("-" if math.isnan(db) else f"{db:.1f}" for db in over(boxes)),
        f"{sum(o['spare_swings'] < 0 for o in boxes)}",
        f"{sum(o['late_swings'] > 0 for o in steady)}" if steady else "-",
    )


def by_workload(results: Results, best: dict[str, dict[int, Bound]]) -> str:
    """A table of each law and workload, on the nominal card and on the drawn boxes."""
    rows = []
    for workload, ideal in best.items():
        peak_c = min(TARGET_C, max(ideal[0].limits_c))
        found = f"{peak_c:.1f}", f"{ideal[0].sound_db_at(peak_c):.1f}", f"{ideal[0].swings_at(peak_c)}"
        rows.append((workload, "perfect foresight", *found, "0.0", *["-"] * len(FAMILY_HEADINGS)))
        for law, outcomes in results.items():
            nominal = outcomes[workload][0]
            measured = (
                f"{nominal['peak_c']:.1f}",
                f"{nominal['sound_db']:.1f}",
                f"{nominal['swings']:.0f}",
                f"{nominal['throttled_percent']:.1f}",
            )
            rows.append((workload, law, *measured, *of_family(outcomes, [workload])))
    return markdown(("workload", "law", "peak °C", "dB(A)", "swings", "throttled %", *FAMILY_HEADINGS), rows)


def by_law(results: Results) -> str:
    """A table of each law over all workloads, on the drawn boxes."""
    rows = [(law, *of_family(outcomes, outcomes)) for law, outcomes in results.items()]
    return markdown(("law", *FAMILY_HEADINGS), rows)


def aims(results: Results, cycles: int | None) -> str:
    """The aims, and whether they are met; `cycles` is the result of `cycling`, None if it did not run."""
    checks: list[tuple[str, bool]] = []
    if CURVE in results and "coolgpus" in results:
        checks += _curve_aims(results)
    if OURS in results:
        checks += _target_aims(results[OURS])
    if cycles is not None:
        checks.append((f"target: no limit cycle in steady load ({cycles} boxes have one)", not cycles))
    return "\n".join(f"{'met   ' if met else 'MISSED'} {aim}" for aim, met in checks)


def _curve_aims(results: Results) -> list[tuple[str, bool]]:
    ours, peer = results[CURVE], results["coolgpus"]
    nominal = {w: outcomes[0] for w, outcomes in ours.items()}
    full = results.get(FULL, {})
    hot_s = [o["hot_s"] for w in full for n, o in ours[w].items() if not full[w][n]["hot_s"]]
    aims = {
        "epochs": [
            ("curve, epochs: peak at most 80 °C", lambda o: o["peak_c"] <= 80),
            ("curve, epochs: at most 49.5 dB(A)", lambda o: o["sound_db"] <= 49.5),
        ],
        "sweep": [("curve, sweep: at most 44.5 dB(A)", lambda o: o["sound_db"] <= 44.5)],
    }
    checks = [("curve: no second above 83 °C where full fans hold it", max(hot_s) == 0)] if hot_s else []
    checks += [(aim, met(nominal[w])) for w in aims if w in nominal for aim, met in aims[w]]
    return checks + [
        (f"curve, {w}: a third of coolgpus's swings", nominal[w]["swings"] * 3 <= peer[w][0]["swings"])
        for w in aims
        if w in nominal
    ]


def _target_aims(ours: dict[str, dict[int, Figures]]) -> list[tuple[str, bool]]:
    boxes = [o for outcomes in ours.values() for o in [outcomes[0], *holdable(outcomes)] if o["holdable"]]
    median, tenth = over(boxes)
    hottest_s = max(o["too_hot_s"] for o in boxes)
    many = sum(o["spare_swings"] < 0 for o in boxes)
    checks = [
        (
            f"target: never {OVER_K:g} K too hot for more than {PATIENCE_S} s ({hottest_s:.0f})",
            hottest_s <= PATIENCE_S,
        ),
        (f"target: within 0.5 dB(A) of the bound in the median ({median:.2f})", median <= 0.5),
        (f"target: within 1.5 dB(A) in the worst tenth ({tenth:.2f})", tenth <= 1.5),
        (f"target: no more swings than 1.5 times the bound's and 2 ({many} of {len(boxes)} do)", not many),
    ]
    if "sweep" in ours:
        nominal = ours["sweep"][0]
        checks.append(("target, sweep: at most 39.5 dB(A)", nominal["sound_db"] <= 39.5))
        checks.append(("target, sweep: at most 4 swings", nominal["swings"] <= 4))
    return checks


def main() -> None:
    """Measure, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--plants", type=int, default=PLANTS, help="boxes around the nominal card (default %(default)s)"
    )
    parser.add_argument("--law", action="append", choices=LAWS, metavar="NAME", help="only this law; repeatable")
    parser.add_argument(
        "--workload", action="append", choices=NAMES, metavar="NAME", help="only this workload; repeatable"
    )
    parser.add_argument("--json", type=Path, help="write all results to this file")
    parser.add_argument("--bounds", type=Path, help="file for bounds (default: in the folder for temporary files)")
    arguments = parser.parse_args()
    workloads = arguments.workload or list(NAMES)
    with ProcessPoolExecutor() as pool:
        best = bounds(pool, arguments.bounds, workloads, range(arguments.plants + 1))
        results = measure(pool, arguments.law or list(LAWS), workloads, arguments.plants)
        steady = OURS in results and "step" in workloads
        cycles = cycling(pool, OURS, arguments.plants) if steady else None
    for law, rows in results.items():
        for workload, outcomes in rows.items():
            for number, outcome in outcomes.items():
                judge(law, outcome, best[workload][number])
    if arguments.json:
        every: dict[str, Any] = {"seed": SEED, "target_c": TARGET_C, "results": results}
        arguments.json.write_text(json.dumps(every, indent=1) + "\n")
    print(by_workload(results, best), by_law(results), aims(results, cycles), sep="\n\n")


if __name__ == "__main__":
    main()
