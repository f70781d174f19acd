"""Makes rows of a recording without a recorded file: from snapshots of the running gpufan, or from a simulated box."""

import math
import time
from collections.abc import Callable
from pathlib import Path

from gpufan.daemon import snapshot_file
from gpufan.daemon.instructions import SettingsFor
from gpufan.daemon.recording import Row, recording_rows
from gpufan.daemon.simulation import simulate_workers
from gpufan.daemon.workers import make_workers
from gpufan.errors import GpufanError
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
from gpufan.system.signals import StopInbox


def rows_of_running_gpufan(
    path: Path,
    duration_s: float,
    elapsed: Callable[[float], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Row]:
    """Collect the snapshots that gpufan writes to `path` during `duration_s` seconds, and return their rows.

    Returns earlier after Ctrl-C, or when gpufan ends. Calls `elapsed` about twice per snapshot with the seconds since
    the start. `clock` returns seconds, and `sleep` waits for seconds. Raises GpufanError if no gpufan is running.
    """
    found: list[Row] = []
    start_s = clock()
    last_s = math.nan
    try:
        while (seconds := clock() - start_s) < duration_s:
            snapshot = snapshot_file.read_snapshot(path)
            stale = not found and snapshot_file.snapshot_stale_s(snapshot) is not None
            if stale or snapshot_file.snapshot_writer_has_ended(snapshot):
                raise GpufanError(f"the gpufan that wrote {path} is not running any more: see `gpufan status`")
            if snapshot.time_s != last_s:
                last_s = snapshot.time_s
                found += recording_rows(snapshot)
            elapsed(seconds)
            # Twice as often as snapshots are written, so that none is missed.
            sleep(snapshot.interval_s / 2)
    except KeyboardInterrupt:
        pass
    except GpufanError:
        if not found:
            raise
    return found


def simulated_rows(profile: str, duration_s: float, settings_for: SettingsFor) -> list[Row]:
    """Simulate a box in which all cards train for `duration_s` seconds, and return the rows.

    `profile` is the name of the box in `PROFILES`. `settings_for` returns the settings of a card.
    """
    found: list[Row] = []
    box = SimulatedBox(PROFILES[profile], WORKLOADS["epochs"])
    workers = make_workers(box.cards, settings_for)
    simulate_workers(
        box, workers, [lambda snapshot: found.extend(recording_rows(snapshot))], StopInbox(), duration_s=duration_s
    )
    return found
