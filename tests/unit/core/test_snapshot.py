"""The snapshot file: whole or not at all, for everyone to read, and never believed when it should not be."""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gpufan.core.snapshot import FORMAT, Errors, Snapshot
from gpufan.daemon.snapshot_file import SnapshotFile, read_snapshot, snapshot_now, snapshot_stale_s
from gpufan.errors import GpufanError
from tests.unit.builders import gpu_state

SNAPSHOT = snapshot_now((gpu_state(), gpu_state(index=1, temperature_c=None, fans=())), interval_s=1.0)


@contextmanager
def disk_with_room_for(size: int) -> Iterator[None]:
    """The kernel writes no file beyond `size` bytes: what of a write does not fit is not written, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "snapshot",
    [
        SNAPSHOT,
        snapshot_now((), interval_s=0.1, dry_run=True),
        snapshot_now(
            (gpu_state(control="lost", duty_percent=None, message="°C · ✗"),), interval_s=5, simulated_s=3600.5
        ),
    ],
)
def test_what_is_written_is_read(tmp_path: Path, snapshot: Snapshot) -> None:
    SnapshotFile(tmp_path / "state.json").write(snapshot)
    assert read_snapshot(tmp_path / "state.json") == snapshot


def test_a_snapshot_tells_who_made_it_when_and_how() -> None:
    assert (SNAPSHOT.format, SNAPSHOT.pid) == (FORMAT, os.getpid())
    assert abs(SNAPSHOT.time_s - time.time()) < 600
    assert SNAPSHOT.started_s is not None
    assert SNAPSHOT.time_s - 600 < SNAPSHOT.started_s <= SNAPSHOT.time_s


def test_a_snapshot_from_before_a_field_came_is_read(tmp_path: Path) -> None:
    earlier = msgspec.to_builtins(SNAPSHOT)
    del earlier["started_s"]
    for gpu in earlier["gpus"]:
        for field in ("name", "throttle", "throttled_s", "fail_safe_s", "errors_by_kind"):
            del gpu[field]
    (tmp_path / "state.json").write_bytes(msgspec.json.encode(earlier))
    taken = read_snapshot(tmp_path / "state.json")
    assert (taken.started_s, taken.gpus[0].throttle, taken.gpus[0].errors_by_kind) == (None, None, Errors())


def test_a_new_snapshot_takes_the_place_of_the_old_one_at_once(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    file = SnapshotFile(path)
    file.write(snapshot_now((), interval_s=1))
    with path.open("rb") as old:
        file.write(SNAPSHOT)
        # A reader that had it open still has the whole of the old one.
        assert msgspec.json.decode(old.read(), type=Snapshot).gpus == ()
    assert read_snapshot(path) == SNAPSHOT
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_longer_snapshot_leaves_nothing_behind_in_a_shorter_one(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path / "state.json")
    for snapshot in (SNAPSHOT, snapshot_now((), interval_s=1)):
        file.write(snapshot)
    assert read_snapshot(tmp_path / "state.json") == snapshot


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_everyone_may_read_the_snapshot_and_none_but_its_writer_change_it(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        SnapshotFile(tmp_path / "state.json").write(SNAPSHOT)
    finally:
        os.umask(before)
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o644


def test_a_link_under_the_temporary_name_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "state.json.new").symlink_to(victim)
    SnapshotFile(tmp_path / "state.json").write(SNAPSHOT)
    assert victim.read_text() == "precious"
    assert read_snapshot(tmp_path / "state.json") == SNAPSHOT


def test_a_pipe_under_the_temporary_name_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state.json.new")
    SnapshotFile(tmp_path / "state.json").write(SNAPSHOT)
    assert read_snapshot(tmp_path / "state.json") == SNAPSHOT


def test_a_link_under_the_final_name_is_replaced_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "state.json").symlink_to(victim)
    SnapshotFile(tmp_path / "state.json").write(SNAPSHOT)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "state.json").is_symlink()


@pytest.mark.parametrize("room", [0, 1, 100])
def test_a_full_disk_leaves_the_last_snapshot_as_it_was(tmp_path: Path, room: int) -> None:
    path = tmp_path / "state.json"
    file = SnapshotFile(path)
    first = snapshot_now((), interval_s=1)
    file.write(first)
    with disk_with_room_for(room), pytest.raises(OSError, match=r"No space left|File too large"):
        file.write(SNAPSHOT)
    assert read_snapshot(path) == first
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_folder_under_the_final_name_stays_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "state.json").mkdir()
    with pytest.raises(IsADirectoryError):
        SnapshotFile(tmp_path / "state.json").write(SNAPSHOT)
    assert os.listdir(tmp_path) == ["state.json"]


def test_after_a_full_disk_the_next_write_succeeds(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path / "state.json")
    with disk_with_room_for(10), pytest.raises(OSError, match="File too large"):
        file.write(SNAPSHOT)
    file.write(SNAPSHOT)
    assert read_snapshot(tmp_path / "state.json") == SNAPSHOT


def test_removing_leaves_nothing_behind_and_may_be_repeated(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path / "state.json")
    file.write(SNAPSHOT)
    (tmp_path / "state.json.new").write_text("left by a crash")
    file.remove()
    file.remove()
    assert os.listdir(tmp_path) == []


def test_no_snapshot_means_no_gpufan_runs(tmp_path: Path) -> None:
    with pytest.raises(GpufanError, match=r"no gpufan is running .*state\.json.*sudo gpufan run"):
        read_snapshot(tmp_path / "state.json")


def test_a_folder_in_place_of_the_snapshot_is_an_error_for_people(tmp_path: Path) -> None:
    with pytest.raises(
        GpufanError, match=r"cannot read .*: Is a directory: remove it, or name another folder with --runtime-dir"
    ):
        read_snapshot(tmp_path)


@pytest.mark.parametrize(("step", "remedy"), [(1, "use that version"), (-1, "run `install-service` again")])
def test_a_snapshot_of_another_format_names_both_versions_and_the_remedy(
    tmp_path: Path, step: int, remedy: str
) -> None:
    other = msgspec.structs.replace(SNAPSHOT, format=FORMAT + step, version="9.9")
    (tmp_path / "state.json").write_bytes(msgspec.json.encode(other))
    with pytest.raises(GpufanError, match=rf"written by gpufan 9\.9, this is [\d.]+: {remedy}"):
        read_snapshot(tmp_path / "state.json")


def test_fields_that_a_later_version_adds_are_ignored(tmp_path: Path) -> None:
    later = msgspec.to_builtins(SNAPSHOT) | {"mood": "calm"}
    (tmp_path / "state.json").write_bytes(msgspec.json.encode(later))
    assert read_snapshot(tmp_path / "state.json") == SNAPSHOT


def test_a_truncated_snapshot_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    whole = msgspec.json.encode(SNAPSHOT)
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(GpufanError, match="is not a snapshot"):
            read_snapshot(path)


@given(st.binary(max_size=60))
@example(b'{"format":1,"version":"\xff"}')
@example(b'{"extra":' + b"[" * 100_000)
@example(b"[]")
@example(b"null")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_foreign_file_is_not_believed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(GpufanError):
        read_snapshot(tmp_path / "state.json")


@pytest.mark.parametrize(
    "change",
    [
        {"time_s": 1e308},
        {"time_s": -1e308},
        {"started_s": 1e300},
        {"interval_s": 0},
        {"interval_s": 1e308},
        {"simulated_s": 1e308},
    ],
)
def test_a_time_that_cannot_be_is_not_believed(tmp_path: Path, change: dict[str, float]) -> None:
    (tmp_path / "state.json").write_bytes(msgspec.json.encode({**msgspec.to_builtins(SNAPSHOT), **change}))
    with pytest.raises(GpufanError, match="is not a snapshot"):
        read_snapshot(tmp_path / "state.json")


@pytest.mark.parametrize(
    "change", [{"index": 10**20}, {"temperature_c": 1e308}, {"duty_percent": 10**20}, {"throttled_s": 1e308}], ids=str
)
def test_a_number_that_nothing_tells_is_not_believed(tmp_path: Path, change: dict[str, float]) -> None:
    told = msgspec.to_builtins(SNAPSHOT)
    told["gpus"][0].update(change)
    (tmp_path / "state.json").write_bytes(msgspec.json.encode(told))
    with pytest.raises(GpufanError, match="is not a snapshot"):
        read_snapshot(tmp_path / "state.json")


def test_a_pipe_in_place_of_the_snapshot_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state.json")
    with pytest.raises(GpufanError, match="cannot read"):
        read_snapshot(tmp_path / "state.json")


@pytest.mark.parametrize(
    ("interval_s", "age_s", "is_stale"), [(1, 0, False), (1, 6, False), (1, 8, True), (5, 14, False), (5, 16, True)]
)
def test_a_snapshot_is_stale_when_a_living_daemon_would_have_written_another(
    interval_s: float, age_s: float, is_stale: bool
) -> None:
    snapshot = msgspec.structs.replace(SNAPSHOT, interval_s=interval_s, time_s=time.time() - age_s)
    stale = snapshot_stale_s(snapshot)
    assert stale == (pytest.approx(age_s, abs=0.5) if is_stale else None)
