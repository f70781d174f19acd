"""Runs gpufan's parts through very many ticks in this process, and prints by how much it has grown.

    python -m tests.benchmarks.soak TICKS

Loop, worker, NVML binding, snapshot file and log are real, only the clock is not. `cost` runs it in a process of its
own.
"""

import json
import os
import re
import sys
from pathlib import Path

from gpufan.core.card_settings import CardSettings
from gpufan.core.snapshot import Snapshot
from gpufan.daemon.simulation import simulate
from gpufan.daemon.snapshot_file import SnapshotFile
from gpufan.daemon.workers import make_workers
from gpufan.gpu.nvml import NvmlBox
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
from gpufan.system.signals import StopInbox
from gpufan.terminal.log import LogReport
from tests.benchmarks.peers import folder_in_memory
from tests.doubles.nvml import NvmlDouble

WARM_UP_TICKS = 2000
"""So many are left out: caches and windows fill."""


def size() -> tuple[int, int]:
    """Memory of our own in kB (the double's map and its log are shared memory), and open files."""
    status = Path("/proc/self/status").read_text()
    anonymous = re.search(r"^RssAnon:\s+([0-9]+) kB", status, re.MULTILINE)
    assert anonymous
    return int(anonymous[1]), len(os.listdir("/proc/self/fd"))


def soak(folder: Path, ticks: int) -> dict[str, int]:
    """How much `ticks` ticks of two cards make this process grow."""
    sizes: list[tuple[int, int]] = []

    def watch(snapshot: Snapshot) -> None:
        if snapshot.simulated_s in (WARM_UP_TICKS, WARM_UP_TICKS + ticks):
            sizes.append(size())

    box = SimulatedBox(PROFILES["dual-1080ti"], WORKLOADS["sweep"])
    with NvmlDouble(folder, box).install() as double, open(os.devnull, "w") as log:
        workers = make_workers(NvmlBox().gpus, lambda _: CardSettings())
        report = LogReport(log)
        simulate(
            double,  # its time passes as a simulated box's does
            workers,
            [report.publish, SnapshotFile(folder / "state.json").write, watch],
            StopInbox(),
            duration_s=WARM_UP_TICKS + ticks,
        )
        report.close()
    (memory_kb, descriptors), (memory_end_kb, descriptors_end) = sizes
    return {
        "ticks": ticks,
        "memory_kb": memory_end_kb - memory_kb,
        "descriptors": descriptors_end - descriptors,
        "errors": sum(worker.state.errors + worker.state.overrides for worker in workers),
    }


if __name__ == "__main__":
    with folder_in_memory() as name:
        print(json.dumps(soak(name, int(sys.argv[1]))))
