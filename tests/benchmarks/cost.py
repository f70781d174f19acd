"""The cost of control: gpufan compared with a bare loop and with two tools from PyPI.

    python -m tests.benchmarks.cost [--seconds N] [--runs N] [--json FILE] [--quick]

Each program runs alone over the NVML double: 2 and 16 cards under load, one reading of each card a second (coolgpus:
every five seconds), output to a file. Processor time is measured while the loop runs, without the start, and includes
that of child processes. Figures of programs that PyPI does not have are quoted.
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
from tests.benchmarks.peers import (
    FETCHED,
    BareLoop,
    Chnvml,
    Contender,
    Coolgpus,
    Gpufan,
    GpufanCurve,
    GpufanService,
    Place,
    folder_in_memory,
)
from tests.benchmarks.process import usage
from tests.doubles.nvml import NvmlDouble, wait_for

CARDS = (2, 16)
HOUSE = (Gpufan(), GpufanCurve(), GpufanService(), BareLoop())
PEERS = (Chnvml(), Coolgpus())

CPU_BOUND = {2: 2.0, 16: 2.5}
"""Highest processor time of gpufan, in times of the bare loop, by number of cards."""

QUOTED_MS = {"fan2go": 0.22, "CoolerControl": 0.28, "LACT": 0.09, "a loop in C": 0.03, "bare loop": 0.08}
"""Processor time per card and second, ms, with 2 cards. Measured in November 2026 on a quiet machine, over one
stand-in for NVML for all of them, each at one reading a second, as here; the bare loop in the same hour."""

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
    """This environment without Python's and systemd's variables; bytecode is stored outside the source tree."""
    systemd = ("NOTIFY_SOCKET", "INVOCATION_ID", "WATCHDOG_USEC")
    plain = {name: value for name, value in os.environ.items() if name not in systemd and not name.startswith("PYTHON")}
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


def steady(contender: Contender, cards: int, seconds: float) -> dict[str, float]:
    """Processor time, memory, threads, wakeups and open files while the loop runs for `seconds`."""
    with box_under_load(cards) as place, running(contender, place) as groups:
        await_first_set(contender, place)
        _let_pass(place, 2.5)
        before_s, before = time.monotonic(), usage(groups)
        _let_pass(place, seconds)
        took_s, after = time.monotonic() - before_s, usage(groups)
    return {
        "cpu_ms": (after.cpu_s - before.cpu_s) / took_s / cards * 1000,
        "wakeups": (after.wakeups - before.wakeups) / took_s,
        "rss_mb": after.rss_mb,
        "pss_mb": after.pss_mb,
        "threads": after.threads,
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


def measure(seconds: float, runs: int, starts: int) -> tuple[Results, dict[str, str]]:
    """The costs of each contender, and why one is missing. Runs of gpufan and the bare loop alternate."""
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
                # At least two readings, where they are rare.
                for quantity, value in steady(contender, cards, max(seconds, 2 * contender.interval_s)).items():
                    results[contender.name][cards].setdefault(quantity, []).append(value)
    return results, missing


def median(results: Results, name: str, cards: int, quantity: str) -> float:
    """Median of the runs."""
    return statistics.median(results[name][cards][quantity])


Row = tuple[str, Callable[[str], str], str, bool | None]
"""Heading, text for a contender, the aim, and whether gpufan meets it (None: no aim)."""


def rows(results: Results, growth: dict[str, int]) -> Iterator[Row]:
    """Yield the rows of the table."""

    def cell(cards: int, quantity: str, form: str) -> Callable[[str], str]:
        def text(name: str) -> str:
            values = results[name][cards][quantity]
            spread = f" ({min(values):{form}}..{max(values):{form}})" if len(values) > 1 else ""
            return f"{statistics.median(values):{form}}{spread}"

        return text

    def ours(cards: int, quantity: str) -> float:
        return median(results, "gpufan", cards, quantity)

    for cards in CARDS:
        ratio = ours(cards, "cpu_ms") / median(results, "bare loop", cards, "cpu_ms")
        aim = f"<= {CPU_BOUND[cards]:g} x bare loop; is {ratio:.2f}"
        yield (
            f"CPU per card and second, ms, {cards} cards",
            cell(cards, "cpu_ms", ".3f"),
            aim,
            ratio <= CPU_BOUND[cards],
        )
        if cards == CARDS[0]:
            peers = {name: ms / QUOTED_MS["bare loop"] for name, ms in QUOTED_MS.items() if ms > 0.1}
            if "chnvml" in results:
                peers["chnvml"] = median(results, "chnvml", cards, "cpu_ms") / median(
                    results, "bare loop", cards, "cpu_ms"
                )
            texts = ", ".join(f"{name} {times:.2f}" for name, times in peers.items())
            yield (
                "the same, in times of the bare loop",
                _times(results, cards),
                f"< {texts}",
                ratio < min(peers.values()),
            )
    for quantity, heading, form, most in (
        ("rss_mb", "resident, MB", ".1f", 20.0),
        ("pss_mb", "its share of it (PSS), MB", ".1f", None),
        ("threads", "threads", ".0f", 3.0),
        ("wakeups", "wakeups per second", ".2f", 2.0),
        ("start_s", "first fan set after, s", ".3f", 0.15),
    ):
        for cards in CARDS:
            aim = "" if most is None else f"<= {most:g}"
            met = None if most is None else round(ours(cards, quantity), 2) <= most
            yield f"{heading}, {cards} cards", cell(cards, quantity, form), aim, met
    opened = max(max(results["gpufan"][cards]["descriptors"]) for cards in CARDS)
    yield "open files more at the end", cell(CARDS[1], "descriptors", ".0f"), "0", opened <= 0

    ticks, grown_kb = growth["ticks"], growth["memory_kb"]
    held = grown_kb * 1024 < ticks and growth["descriptors"] == 0 and growth["errors"] == 0
    text = f"{grown_kb} kB, {growth['descriptors']} files"
    yield f"growth over {ticks} ticks", lambda name: text if name == "gpufan" else "", "< 1 byte a tick", held


def _times(results: Results, cards: int) -> Callable[[str], str]:
    return lambda name: f"{median(results, name, cards, 'cpu_ms') / median(results, 'bare loop', cards, 'cpu_ms'):.2f}"


def table(results: Results, growth: dict[str, int]) -> str:
    """The results, with the aims for gpufan."""
    names = [contender.name for contender in (*HOUSE, *PEERS) if contender.name in results]
    verdict = {True: "met", False: "MISSED", None: ""}
    lines = [
        (heading, *(text(name) for name in names), aim, verdict[met])
        for heading, text, aim, met in rows(results, growth)
    ]
    return markdown(("median (lowest..highest)", *names, "aim for gpufan", ""), lines)


def notes(missing: dict[str, str]) -> str:
    """Notes on the other programs for the reader of the table."""
    quoted = ", ".join(f"{name} {ms:g}" for name, ms in QUOTED_MS.items())
    lines = [
        f"{contender.name} is missing: {missing[contender.name]}" if contender.name in missing else contender.note
        for contender in PEERS
    ]
    lines.append(f"quoted, ms per card and second, 2 cards, 1 s, November 2026, one stand-in for NVML: {quoted}")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="duration of each run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all results to this file")
    parser.add_argument(
        "--quick", action="store_true", help="a few seconds only: to try the benchmark, not for a result"
    )
    arguments = parser.parse_args()
    quick = arguments.quick
    growth = soak(10_000 if quick else 100_000)
    seconds, runs = (4, 1) if quick else (arguments.seconds, arguments.runs)
    results, missing = measure(seconds, runs, starts=3 if quick else 9)
    if arguments.json:
        everything = {"results": results, "missing": missing, "growth": growth}
        arguments.json.write_text(json.dumps(everything, indent=1) + "\n")
    print(table(results, growth), notes(missing), sep="\n\n")


if __name__ == "__main__":
    main()
