"""Runs workers over a simulated box, in simulated time."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpufan.daemon.loop import Publish
from gpufan.daemon.snapshot_file import snapshot_now
from gpufan.daemon.worker import Worker
from gpufan.system.signals import StopInbox

if TYPE_CHECKING:
    from gpufan.gpu.simulated import SimulatedBox


def simulate(
    box: "SimulatedBox",
    workers: Sequence[Worker],
    publish: Sequence[Publish],
    inbox: StopInbox,
    *,
    interval_s: float,
    duration_s: float | None,
    time_scale: float,
    dry_run: bool,
) -> None:
    """Run workers over a simulated box, one after the other, `time_scale` simulated seconds per second."""
    start_s = time.monotonic()
    now_s = 0.0
    try:
        while not inbox.wait(max(start_s + now_s / time_scale - time.monotonic(), 0)):
            for worker in workers:
                worker.tick(now_s)
            states = tuple(worker.state for worker in workers)
            snapshot = snapshot_now(states, interval_s=interval_s, dry_run=dry_run, simulated_s=now_s)
            for take in publish:
                take(snapshot)
            if duration_s is not None and now_s >= duration_s:
                break
            box.advance(interval_s)
            now_s += interval_s
    finally:
        for worker in workers:
            worker.stop()
