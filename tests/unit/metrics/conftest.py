"""A snapshot file for the tests of metrics."""

import time
from pathlib import Path

import msgspec

from gpufan.daemon.snapshot_file import SnapshotFile, snapshot_now
from tests.unit.builders import gpu_state


def written(folder: Path, *gpus: object, age_s: float = 0, **changes: object) -> Path:
    """A snapshot of `gpus`, of one card if there are none given."""
    taken = snapshot_now(gpus or (gpu_state(name="GTX"),), interval_s=1)  # type: ignore[arg-type]
    taken = msgspec.structs.replace(taken, time_s=time.time() - age_s, **changes)
    SnapshotFile(folder / "state.json").write(taken)
    return folder / "state.json"
