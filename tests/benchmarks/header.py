"""A passive card that a header's fan cools, against the same card with a fan of its own, through all loads.

    .envs/main/bin/python -m tests.benchmarks.header

Both have the same plant, the same fan and the default target. On the way to the header are the files of a chip: 255
steps, an automatic mode before, a fan that stops below its stopping duty.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from gpufan.core.card_settings import DEFAULT_TARGET_C, CardSettings
from gpufan.daemon.summary import CardSummary
from gpufan.daemon.workers import make_workers
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox, Workload
from tests.benchmarks.control import loads

SECONDS = 4500
ABOVE_K = 3.0
"""Time above the target counts from this many K on."""


class Figures(NamedTuple):
    """The figures of one run."""

    peak_c: float
    hot_s: int
    """Time above the target + 3 K, s."""
    sound_db: float
    swings: int
    throttled_percent: float


def workloads() -> dict[str, Workload]:
    """The loads of a simulation, and one of each kind of the control benchmark."""
    found = dict(WORKLOADS)
    limit_w = PROFILES["p40-header"].plants[0].power_limit_w
    for kind in loads.KINDS:
        number = next(number for number in range(1000) if loads.kind(number) == kind)
        found[f"{kind} ({number})"] = _in_watts(loads.draw(number), limit_w)
    return found


def _in_watts(load: Callable[[int], float], limit_w: float) -> Workload:
    return lambda time_s: load(min(int(time_s), SECONDS - 1)) * limit_w


def run(workload: Workload, *, own_fan: bool) -> Figures:
    """Control the P40 box under `workload`. With `own_fan` the card has the same fan as its own."""
    profile = PROFILES["p40-header"]
    if own_fan:
        plant = replace(profile.plants[0], fan_count=1, duty_range=(0, 100), full_scale_rpm=4800.0)
        profile = replace(profile, plants=(plant,), header_fans=())
    box = SimulatedBox(profile, workload)
    (worker,) = make_workers(box.cards, lambda _: CardSettings(target_c=DEFAULT_TARGET_C))
    summary, hot_s = CardSummary(box.gpus[0]), 0
    for second in range(SECONDS):
        worker.tick(second)
        summary.add(1.0)
        hot_s += box.gpus[0].die_c > DEFAULT_TARGET_C + ABOVE_K
        box.advance(1.0)
    worker.stop()
    return Figures(summary.peak_c, hot_s, summary.sound_db, summary.swings.count, summary.throttled_percent)


def main() -> None:
    """Print the figures of both for each load."""
    heads = ("load", "fan", "peak °C", "s above 81 °C", "dB(A)", "swings", "throttled %")
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for name, workload in workloads().items():
        for fan, own_fan in (("header", False), ("own", True)):
            peak_c, hot_s, sound_db, swings, throttled = run(workload, own_fan=own_fan)
            print(f"| {name} | {fan} | {peak_c:.1f} | {hot_s} | {sound_db:.1f} | {swings} | {throttled:.1f} |")


if __name__ == "__main__":
    main()
