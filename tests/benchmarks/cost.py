"""The cost of control: gpufan compared with a minimal loop and with two tools from PyPI.

    python -m tests.benchmarks.cost [--json FILE] [--quick]

Each program runs alone over the NVML double: 2 and 16 cards under load, one tick a second (coolgpus: every five
seconds), output to a file. A GPU-tick is one reading of one card and all work that follows from it. Processor time is
measured while the loop runs, without the start, and includes that of child processes.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gpufan.gpu.simulated import WORKLOADS, Plant, Profile, SimulatedBox
from tests.benchmarks import markdown
from tests.benchmarks.peers import FETCHED, BarestLoop, Chnvml, Contender, Coolgpus, Gpufan, Place, folder_in_memory
from tests.benchmarks.process import usage
from tests.doubles.nvml import NvmlDouble, wait_for

CARDS = (2, 16)
HOUSE = (Gpufan(), BarestLoop())
PEERS = (Coolgpus(), Chnvml())

Results = dict[str, dict[int, dict[str, list[float]]]]
"""By contender, number of cards and quantity: the value of each run."""


@contextmanager
def box_under_load(cards: int) -> Iterator[Place]:
    """A box of `cards` GTX 1080 Ti, four minutes into an epoch."""
    with folder_in_memory() as folder:
        double = NvmlDouble(folder, SimulatedBox(Profile("GTX 1080 Ti", (Plant(),) * cards), WORKLOADS["epochs"]))
        double.advance(240)
        yield Place(double, folder)


def plain_environment() -> dict[str, str]:
    """This environment without Python's variables; bytecode is stored outside the source tree."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**plain, "PYTHONPYCACHEPREFIX": f"{FETCHED}/bytecode"}


@contextmanager
def running(contender: Contender, place: Place) -> Iterator[list[int]]:
    """Run `contender` until the end of the block. Yields its process groups."""
    with (place.folder / "output").open("w") as output:
        environment = {**plain_environment(), **contender.environment(place)}
        processes = [
            subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
            for command in contender.commands(place)
        ]
    try:
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # chnvml leaves its workers behind
            process.wait()


def await_first_set(contender: Contender, place: Place) -> None:
    """Wait until `contender` has set a fan. Raises RuntimeError with its output if it does not."""
    try:
        wait_for(lambda: contender.first_set_ns(place), 10)
    except TimeoutError:
        output = (place.folder / "output").read_text()
        raise RuntimeError(f"{contender.name} sets no fan; it says: {output}") from None


def start_s(contender: Contender, cards: int) -> float:
    """Time from exec until the first fan is set, s."""
    with box_under_load(cards) as place:
        before_ns = time.monotonic_ns()
        with running(contender, place):
            await_first_set(contender, place)
            return ((contender.first_set_ns(place) or 0) - before_ns) / 1e9


def steady(contender: Contender, cards: int, ticks: int) -> dict[str, float]:
    """Processor time, memory and open files while the loop runs for `ticks` ticks."""
    with box_under_load(cards) as place, running(contender, place) as groups:
        await_first_set(contender, place)
        _let_pass(place, 2.5)
        before_s, before, before_ticks = time.monotonic(), usage(groups), contender.gpu_ticks(place)
        _let_pass(place, ticks * contender.interval_s)
        after_s, after, after_ticks = time.monotonic(), usage(groups), contender.gpu_ticks(place)
    cpu_s = after.cpu_s - before.cpu_s
    return {
        "cpu_us": cpu_s / (after_ticks - before_ticks) * 1e6,
        "wakeups": (after.wakeups - before.wakeups) / (after_s - before_s),
        "rss_mb": after.rss_mb,
        "pss_mb": after.pss_mb,
        "descriptors": after.descriptors - before.descriptors,
    }


def _let_pass(place: Place, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        time.sleep(min(left_s, 1))
        place.double.advance(min(left_s, 1))


def soak(ticks: int) -> dict[str, int]:
    """Growth of gpufan over `ticks` ticks with a fast clock."""
    command = [sys.executable, "-m", "tests.benchmarks.soak", str(ticks)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    growth: dict[str, int] = json.loads(done.stdout)
    return growth


def measure(ticks: int, runs: int, starts: int) -> tuple[Results, dict[str, str]]:
    """The costs of each contender, and why one is missing. Runs of gpufan and the barest loop alternate."""
    results: Results = {}
    missing: dict[str, str] = {}
    for contender in (*HOUSE, *PEERS):
        try:
            contender.prepare()
        except subprocess.CalledProcessError as error:
            missing[contender.name] = (error.stderr.strip() or str(error)).splitlines()[-1]
            continue
        results[contender.name] = {cards: {"start_s": []} for cards in CARDS}
        for cards in CARDS:
            start_s(contender, cards)  # not counted: it compiles, and fills the file cache
            results[contender.name][cards]["start_s"] = [start_s(contender, cards) for _ in range(starts)]
    present = [contender for contender in (*HOUSE, *PEERS) if contender.name in results]
    for number in range(runs):
        for cards in CARDS:
            for contender in present if number == 0 else HOUSE:
                print(f"run {number + 1} of {runs}: {contender.name}, {cards} cards", file=sys.stderr)
                peer_ticks = max(ticks // 4, 2) if contender.interval_s > 1 else ticks
                for quantity, value in steady(contender, cards, peer_ticks).items():
                    results[contender.name][cards].setdefault(quantity, []).append(value)
    return results, missing


def median(results: Results, name: str, cards: int, quantity: str) -> float:
    """Median of the runs."""
    return statistics.median(results[name][cards][quantity])


Row = tuple[str, Callable[[str], str], str, bool | None]
"""Heading, text for a contender, the bound, and whether gpufan meets it (None: no bound)."""


def rows(results: Results, growth: dict[str, int]) -> Iterator[Row]:
    """Yield the rows of the table."""

    def cell(cards: int, quantity: str, form: str) -> Callable[[str], str]:
        def text(name: str) -> str:
            values = results[name][cards][quantity]
            spread = f" ({min(values):{form}}..{max(values):{form}})" if len(values) > 1 else ""
            return f"{statistics.median(values):{form}}{spread}"

        return text

    for cards in CARDS:
        ratio = median(results, "gpufan", cards, "cpu_us") / median(results, "barest loop", cards, "cpu_us")
        bound = f"< 2.5 x barest loop; is {ratio:.2f}"
        yield f"CPU per GPU-tick, µs, {cards} cards", cell(cards, "cpu_us", ".0f"), bound, ratio < 2.5

    def flatness(name: str) -> float:
        return median(results, name, CARDS[1], "cpu_us") / median(results, name, CARDS[0], "cpu_us")

    yield "the same, 16 cards over 2", lambda name: f"{flatness(name):.2f}", "< 1.1", flatness("gpufan") < 1.1
    for cards in CARDS:
        rss_mb = max(results["gpufan"][cards]["rss_mb"])
        yield f"resident, MB, {cards} cards", cell(cards, "rss_mb", ".1f"), "< 22", rss_mb < 22
        yield f"its share of it (PSS), MB, {cards} cards", cell(cards, "pss_mb", ".1f"), "", None
    for cards in CARDS:
        first_s = median(results, "gpufan", cards, "start_s")
        yield f"first fan set after, s, {cards} cards", cell(cards, "start_s", ".3f"), "< 0.25", first_s < 0.25
    for cards in CARDS:
        yield f"wakeups per second, {cards} cards", cell(cards, "wakeups", ".1f"), "", None
    opened = max(max(results["gpufan"][cards]["descriptors"]) for cards in CARDS)
    yield "open files more at the end", cell(CARDS[1], "descriptors", ".0f"), "0", opened <= 0

    ticks, grown_kb = growth["ticks"], growth["memory_kb"]
    held = grown_kb * 1024 < ticks and growth["descriptors"] == 0 and growth["errors"] == 0
    text = f"{grown_kb} kB, {growth['descriptors']} files"
    yield f"growth over {ticks} ticks", lambda name: text if name == "gpufan" else "", "< 1 byte a tick", held


def table(results: Results, growth: dict[str, int]) -> str:
    """The results, with the bounds for gpufan."""
    names = [contender.name for contender in (*HOUSE, *PEERS) if contender.name in results]
    verdict = {True: "met", False: "MISSED", None: ""}
    lines = [
        (heading, *(text(name) for name in names), bound, verdict[kept])
        for heading, text, bound, kept in rows(results, growth)
    ]
    return markdown(("median (lowest..highest)", *names, "bound for gpufan", ""), lines)


def notes(missing: dict[str, str]) -> str:
    """Notes on the other tools for the reader of the table."""
    return "\n".join(
        f"{contender.name} is missing: {missing[contender.name]}" if contender.name in missing else contender.note
        for contender in PEERS
    )


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write all results to this file")
    parser.add_argument("--quick", action="store_true", help="a few ticks only: to try the benchmark, not for a result")
    arguments = parser.parse_args()
    quick = arguments.quick
    growth = soak(10_000 if quick else 100_000)
    results, missing = measure(ticks=4 if quick else 20, runs=1 if quick else 3, starts=3 if quick else 9)
    if arguments.json:
        everything = {"results": results, "missing": missing, "growth": growth}
        arguments.json.write_text(json.dumps(everything, indent=1) + "\n")
    print(table(results, growth), notes(missing), sep="\n\n")


if __name__ == "__main__":
    main()
