"""From the snapshot file to messages: a controller that ends, hangs or returns, and what counts as new."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpufan.alerts.rules import OVER_AFTER_S, Rules
from gpufan.alerts.settings import AFTER_S, REPEAT_AFTER_S
from gpufan.alerts.watch import AlertsWatch
from gpufan.daemon import snapshot_file
from gpufan.daemon.snapshot_file import SnapshotFile, snapshot_now
from tests.unit.builders import gpu_state

NOON_S = 1_700_000_000.0


class Bench:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.json"
        self.wall_s, self.monotonic_s = NOON_S, 500.0
        rules = Rules("rig", AFTER_S, REPEAT_AFTER_S)
        self._watch = AlertsWatch(rules, lambda: snapshot_file.read_snapshot(self.path), self.monotonic_s)

    def write(self, **changes: Any) -> None:
        snapshot = snapshot_now((gpu_state(**changes),), interval_s=1.0)
        SnapshotFile(self.path).write(msgspec.structs.replace(snapshot, time_s=self.wall_s))

    def run(self, seconds: int, *, alive: bool) -> list[tuple[float, str]]:
        """Time since the beginning of this call, and phase, of each message about the controller."""
        found, start_s = [], self.monotonic_s
        for _ in range(seconds):
            if alive:
                self.write()
            for message in self._watch.tick(self.wall_s, self.monotonic_s):
                found.append((self.monotonic_s - start_s, f"{message.phase.value}: {message.detail}"))
            self.wall_s += 1
            self.monotonic_s += 1
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_gpufan_that_ends_is_reported_and_its_return_too(bench: Bench):
    assert bench.run(10, alive=True) == []
    bench.path.unlink()
    assert bench.run(300, alive=False) == [(120, "began: gpufan does not run: it was stopped, or cannot start")]
    ((after_s, over),) = bench.run(300, alive=True)
    assert (after_s, over[:21]) == (OVER_AFTER_S, "over: 0 GTX 1080 Ti: ")


def test_a_gpufan_that_hangs_or_was_killed_is_reported(bench: Bench):
    bench.run(10, alive=True)
    ((after_s, said),) = bench.run(300, alive=False)
    assert said.startswith("began: gpufan has published nothing since 2023-")
    assert 120 <= after_s <= 130


def test_an_old_snapshot_at_the_start_is_that_of_a_dead_gpufan(bench: Bench):
    bench.write()
    bench.wall_s += 3600
    assert len(bench.run(130, alive=False)) == 1


def test_a_snapshot_that_cannot_be_read_is_reported(bench: Bench):
    bench.path.write_text("{}")
    ((_, said),) = bench.run(130, alive=False)
    assert f"{bench.path} is not a snapshot" in said


@pytest.mark.parametrize("step_s", [-7200, 7200])
def test_a_clock_that_is_set_is_not_reported(bench: Bench, step_s: float):
    bench.run(10, alive=True)
    bench.wall_s += step_s
    assert bench.run(300, alive=True) == []


def test_a_machine_that_slept_is_not_reported(bench: Bench):
    bench.run(10, alive=True)
    bench.wall_s += 8 * 3600
    bench.monotonic_s += 8 * 3600
    assert bench.run(2, alive=False) == []
    assert bench.run(300, alive=True) == []
