"""The snapshot file of a daemon, with its lock."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from gpufan.daemon.publish import publish_to_snapshot_file
from gpufan.daemon.snapshot_file import read_snapshot, snapshot_now
from gpufan.errors import GpufanError
from gpufan.system import lock as locks
from gpufan.system.lock import controller_lock
from tests.unit.builders import gpu_state

SNAPSHOT = snapshot_now((gpu_state(),), interval_s=1.0)


def test_snapshot_and_lock_are_back_after_their_folder_was_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with controller_lock(folder) as lock, publish_to_snapshot_file(folder, lock) as (publish,):
        publish(SNAPSHOT)
        shutil.rmtree(folder)
        publish(SNAPSHOT)
        assert read_snapshot(folder / "state.json") == SNAPSHOT
        with pytest.raises(GpufanError, match=f"another gpufan \\(process {os.getpid()}\\)"), controller_lock(folder):
            pass


def test_in_the_sandbox_of_the_service_a_removed_folder_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    folder = tmp_path / "run"
    with controller_lock(folder) as lock, publish_to_snapshot_file(folder, lock) as (publish,):
        shutil.rmtree(folder)
        monkeypatch.setattr(locks, "acquire_lock", refuse)
        with pytest.raises(GpufanError, match="was removed: gpufan must start again to create it"):
            publish(SNAPSHOT)
