"""Runs gpufan for very many ticks in this process, and prints the growth of the process.

    python -m tests.benchmarks.soak TICKS

Worker, NVML binding, snapshot file and log are real; the clock is simulated. `cost` runs it in its own process.
"""

import json
import os
import re
import sys
from pathlib import Path

from gpufan.core.card_settings import CardSettings
from gpufan.core.snapshot import Snapshot
from gpufan.daemon.simulation import simulate_workers
from gpufan.daemon.snapshot_file import SnapshotFile
from gpufan.daemon.workers import make_workers
from gpufan.gpu.nvml_box import NvmlBox
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
from gpufan.system.signals import StopInbox
from gpufan.terminal.log import ChangeLog, log_to
from tests.benchmarks.peers import folder_in_memory
from tests.doubles.nvml import NvmlDouble

WARM_UP_TICKS = 2000
"""Ticks that are not counted, because caches and windows fill."""


def size() -> tuple[int, int]:
    """Anonymous memory in kB (without the double's map and log, which are shared memory), and open files."""
    status = Path("/proc/self/status").read_text()
    anonymous = re.search(r"^RssAnon:\s+([0-9]+) kB", status, re.MULTILINE)
    assert anonymous
    return int(anonymous[1]), len(os.listdir("/proc/self/fd"))


def soak(folder: Path, ticks: int) -> dict[str, int]:
    """Growth of this process over `ticks` ticks of two cards."""
    sizes: list[tuple[int, int]] = []

    def watch(snapshot: Snapshot) -> None:
        if snapshot.simulated_s in (WARM_UP_TICKS, WARM_UP_TICKS + ticks):
            sizes.append(size())

    box = SimulatedBox(PROFILES["dual-1080ti"], WORKLOADS["sweep"])
    with NvmlDouble(folder, box).install() as double, open(os.devnull, "w") as log, log_to(log):
        workers = make_workers(NvmlBox().gpus, lambda _: CardSettings())
        simulate_workers(
            double,  # it advances as a simulated box does
            workers,
            [ChangeLog().publish, SnapshotFile(folder / "state.json").write, watch],
            StopInbox(),
            duration_s=WARM_UP_TICKS + ticks,
        )
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
