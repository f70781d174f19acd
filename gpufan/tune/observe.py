"""Rows without a recording: from the snapshots of the gpufan that runs, or from a simulated box."""

import math
import time
from collections.abc import Callable
from pathlib import Path

from gpufan.core.card_settings import CardSettings
from gpufan.daemon import snapshot_file as snapshot
from gpufan.daemon.recording import Row, rows
from gpufan.daemon.simulation import simulate as run_simulated
from gpufan.daemon.workers import make_workers
from gpufan.errors import GpufanError
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
from gpufan.system.signals import StopInbox


def check_running(path: Path) -> None:
    """Raise GpufanError where no gpufan writes its snapshots to `path`."""
    taken = snapshot.read(path)
    if snapshot.is_orphan(taken) or snapshot.stale_s(taken) is not None:
        raise GpufanError(f"the gpufan that wrote {path} does not run any more: see `gpufan status`")


def watch(
    path: Path,
    duration_s: float,
    elapsed: Callable[[float], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Row]:
    """Rows of the snapshots that appear in `path` for `duration_s`; fewer where Ctrl-C or the end of gpufan comes.

    `elapsed` is told the seconds that have gone by, again and again. Raises GpufanError where there is none at all.
    """
    found: list[Row] = []
    start_s = clock()
    last_s = math.nan
    try:
        while (seconds := clock() - start_s) < duration_s:
            taken = snapshot.read(path)
            if taken.time_s != last_s:
                last_s = taken.time_s
                found += rows(taken)
            elapsed(seconds)
            # Twice as often as it is written, so that none is missed.
            sleep(taken.interval_s / 2)
    except KeyboardInterrupt:
        pass
    except GpufanError:
        if not found:
            raise
    return found


def simulated(profile: str, duration_s: float) -> list[Row]:
    """Rows of a simulated box in training, kept by the default curve."""
    found: list[Row] = []
    box = SimulatedBox(PROFILES[profile], WORKLOADS["epochs"])
    run_simulated(
        box,
        make_workers(box.gpus, lambda _: CardSettings()),
        [lambda taken: found.extend(rows(taken))],
        StopInbox(),
        interval_s=1.0,
        duration_s=duration_s,
        time_scale=math.inf,
        dry_run=False,
    )
    return found
