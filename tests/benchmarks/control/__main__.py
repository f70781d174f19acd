"""How cool, quiet and steady the target law is on three families of cards, and whether it meets its aims.

    python -m tests.benchmarks.control [--seeds look|final] [--quick] [--family NAME]... [--law NAME]...

*own*: 100 boxes of the kind that the law was first made for, under five loads, with the bound of perfect foresight.
*other*: 140 plants of another structure, see `plants.py`. *recorded*: such plants under the power of real cards.
Look at the first half of the seeds while working on the law; run the second half once, at the end.
"""

import argparse
import math
import os
from collections.abc import Iterable
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from pathlib import Path

from tests.benchmarks import family as boxes
from tests.benchmarks import laws
from tests.benchmarks.bound import Bound
from tests.benchmarks.control import loads, own, runs
from tests.benchmarks.control.measure import TARGETS_C
from tests.benchmarks.control.released import RELEASED
from tests.benchmarks.control.table import Family, Result, Row, aims, table

FIRST = {"look": 0, "final": 1001}
"""The number of the first plant of each half; a multiple of 7, the number of classes."""

PLANTS = 140
FAMILIES = ("own", "other", "recorded")


def rows(chosen: Iterable[str] | None) -> list[Row]:
    """The rows of each table. The reference and full speed are always there: the others are compared with them."""
    wanted = {laws.REFERENCE, laws.FULL, *(chosen or runs.LAWS)}
    targets_c = {law: TARGETS_C if law in laws.HOLDING else (math.nan,) for law in runs.LAWS}
    return [(law, target_c) for law in runs.LAWS if law in wanted for target_c in targets_c[law]]


def on_plant(row: Row, number: int, trace: Path | None = None) -> Result:
    """A run on one plant."""
    law, target_c = row
    outcome = runs.run(runs.LAWS[law], target_c, number, trace)
    return Result(outcome, steady=trace is None and loads.kind(number) == "mining")


def in_box(row: Row, workload: str, number: int, best: Bound) -> Result:
    """A run in one box of the family *own*."""
    law, target_c = row
    aim_c = laws.TARGET_C if math.isnan(target_c) else target_c
    figures, outcome = own.measured(law, workload, number, aim_c)
    own.judge(law, figures, best, aim_c)
    hot_s = figures["too_hot_s"] if figures["holdable"] else 0.0
    return Result(outcome, figures["above_db"], hot_s, bool(boxes.draw(number).coupling), workload == "step")


def measure(pool: Executor, name: str, arguments: argparse.Namespace) -> Family:
    """The results of one family."""
    step, first = 10 if arguments.quick else 1, FIRST[arguments.seeds]
    if name == "other":
        tasks = [partial(on_plant, number=number) for number in range(first, first + PLANTS, 4 if step > 1 else 1)]
    elif name == "recorded":
        traces = loads.recordings(arguments.traces)
        numbers = range(first + PLANTS, first + PLANTS + 7 * len(traces), 4 if step > 1 else 1)
        tasks = [partial(on_plant, number=n, trace=traces[(n - first - PLANTS) // 7]) for n in numbers]
    else:
        wanted = arguments.seeds == "look"
        numbers = [n for n in range(1, boxes.PLANTS + 1) if ((n - 1) // 4 % 2 == 0) is wanted][::step]
        best = own.bounds(pool, arguments.bounds, boxes.NAMES, numbers)
        tasks = [partial(in_box, workload=w, number=n, best=best[w][n]) for w in boxes.NAMES for n in numbers]
    futures = {row: [pool.submit(task, row) for task in tasks] for row in rows(arguments.law)}
    return {row: [future.result() for future in each] for row, each in futures.items()}


def main() -> None:
    """Measure, and print the tables and the aims."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", choices=FIRST, default="look", help="which half of the seeds (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the boxes and a quarter of the plants")
    parser.add_argument("--family", action="append", choices=FAMILIES, help="only this family; repeatable")
    parser.add_argument("--law", action="append", choices=runs.LAWS, metavar="NAME", help="only this law; repeatable")
    parser.add_argument("--traces", type=Path, default=loads.TRACES, help="folder of recordings (default %(default)s)")
    parser.add_argument("--bounds", type=Path, help="file for bounds (default: in the folder for temporary files)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="default: one for each processor")
    arguments = parser.parse_args()
    found = []
    with ProcessPoolExecutor(arguments.processes) as pool:
        for name in arguments.family or FAMILIES:
            if name == "recorded" and not loads.recordings(arguments.traces):
                print(f"recorded: no recordings in {arguments.traces}, so this family is left out\n")
                continue
            family = measure(pool, name, arguments)
            count = len(next(iter(family.values())))
            print(f"{name}, seeds {arguments.seeds}, {count} runs each", "", table(family), "", sep="\n", flush=True)
            found += aims(name, family, {} if arguments.quick else RELEASED[arguments.seeds])
    print("\n".join(f"{'met   ' if met else 'MISSED'} {aim}" for aim, met in found))


if __name__ == "__main__":
    main()
