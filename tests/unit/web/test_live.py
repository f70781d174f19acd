"""What the page says of the daemon, and the event that it pushes."""

import json
import os
import time
from pathlib import Path

import msgspec
import pytest

from gpufan.core.snapshot import Snapshot
from gpufan.daemon.snapshot_file import SnapshotFile
from gpufan.web import live
from gpufan.web.live import DaemonState, Live, Recent, SnapshotWatch
from tests.unit.builders import gpu_state, snapshot_at


class Bench:
    """A snapshot file, its watch, and a clock that a test sets."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.json"
        self.now_s = 0.0
        self.why: str | None = None
        self.watch = SnapshotWatch(self.path, lambda: self.why, lambda: self.now_s)

    def write(self, snapshot: Snapshot) -> None:
        SnapshotFile(self.path).write(snapshot)

    def state(self) -> DaemonState:
        return self.watch.look().daemon.state


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def now(**changes: object) -> Snapshot:
    return snapshot_at(time.time(), **changes)


def test_without_a_snapshot_the_daemon_is_stopped_and_the_page_says_how_to_start_it(bench: Bench) -> None:
    moment = bench.watch.look()
    assert (moment.snapshot, moment.daemon.state) == (None, DaemonState.STOPPED)
    assert "sudo gpufan run" in moment.daemon.remedy
    bench.why = "no gpufan is running: gpufan.service: failed; look at the log"
    assert bench.watch.look().daemon.text == bench.why


def test_a_file_that_is_no_snapshot_is_no_reason_to_fail(bench: Bench) -> None:
    for content in (b"", b"{", b"\xff", b"[" * 100_000, b'{"format": 99, "version": "9"}'):
        bench.path.write_bytes(content)
        daemon = bench.watch.look().daemon
        assert daemon.state is DaemonState.STOPPED
        assert daemon.text


def test_a_daemon_that_publishes_nothing_hangs_after_less_than_5_s(bench: Bench) -> None:
    bench.write(now())
    assert bench.state() is DaemonState.RUNNING
    bench.now_s = 4.0
    assert bench.state() is DaemonState.RUNNING
    bench.now_s = 4.7
    daemon = bench.watch.look().daemon
    assert daemon.state is DaemonState.HUNG
    assert str(os.getpid()) in daemon.text
    bench.write(msgspec.structs.replace(now(), time_s=time.time() + 1))
    assert bench.state() is DaemonState.RUNNING


def test_a_daemon_with_a_long_interval_has_as_much_longer(bench: Bench) -> None:
    bench.write(msgspec.structs.replace(now(), interval_s=5.0))
    assert bench.state() is DaemonState.RUNNING
    bench.now_s = 7.0
    assert bench.state() is DaemonState.RUNNING
    bench.now_s = 8.0
    assert bench.state() is DaemonState.HUNG


def test_an_old_snapshot_of_a_living_process_means_that_it_hangs(bench: Bench) -> None:
    bench.write(snapshot_at(time.time() - 100))
    daemon = bench.watch.look().daemon
    assert daemon.state is DaemonState.HUNG
    assert f"kill -9 {os.getpid()}" in daemon.remedy


def test_a_process_that_has_ended_left_the_fans_alone(bench: Bench) -> None:
    bench.write(msgspec.structs.replace(now(), pid=2**22 + 1))
    daemon = bench.watch.look().daemon
    assert daemon.state is DaemonState.STOPPED
    assert "sudo gpufan restore" in daemon.remedy


def test_where_processes_are_hidden_only_silence_counts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "process_is_alive", lambda _: False)
    bench.write(msgspec.structs.replace(now(), pid=2**22 + 1))
    assert bench.state() is DaemonState.RUNNING
    bench.now_s = 5.0
    assert bench.state() is DaemonState.HUNG
    bench.why = "no gpufan is running: gpufan.service: failed"
    assert bench.watch.look().daemon == (DaemonState.STOPPED, bench.why, "")


def test_a_refused_reload_is_shown_with_its_remedy(bench: Bench) -> None:
    bench.write(msgspec.structs.replace(now(), reload_refused="line 3: curv"))
    daemon = bench.watch.look().daemon
    assert daemon.state is DaemonState.RUNNING
    assert "line 3: curv" in daemon.text and "config check" in daemon.remedy


def test_a_daemon_that_has_read_no_card_yet_is_starting(bench: Bench) -> None:
    bench.write(now(group="start"))
    assert bench.state() is DaemonState.STARTING


def test_hostile_text_of_a_driver_arrives_as_harmless_text(bench: Bench) -> None:
    name = "<script>alert(1)</script>\x1b[2J\u202e\x00"
    bench.write(now(name=name, label=f"0 {name}", group="fault", message="<img src=x onerror=alert(1)>\r\n\r\nX: y"))
    event = Live(bench.watch, lambda: "", Recent()).now()
    (card,) = event["cards"]
    assert card["name"].startswith("<script>alert(1)</script>?[2J")
    text = json.dumps(event, ensure_ascii=False)
    assert text.isprintable()


def test_case_fans_are_beside_the_cards(bench: Bench) -> None:
    fan = gpu_state(uuid="fan:rear", label="rear", name="rear", power_w=None)
    bench.write(msgspec.structs.replace(now(), case_fans=(fan,)))
    event = Live(bench.watch, lambda: "", Recent()).now()
    assert ([card["label"] for card in event["cards"]], event["case_fans"][0]["key"]) == (["0 GTX 1080 Ti"], "fan:rear")


def test_each_event_says_which_settings_file_there_is_now(bench: Bench) -> None:
    bench.write(now())
    versions = iter(("1", "2", "3"))
    live = Live(bench.watch, lambda: "", Recent(), lambda: next(versions))
    assert [live.now()["settings_version"] for _ in range(2)] == ["2", "3"]  # the first was for the first event


def test_recent_readings_are_those_of_ten_minutes(bench: Bench) -> None:
    recent = Recent()
    for second in range(0, 1300, 10):
        recent.add(snapshot_at(1000.0 + second, cards=2))
        recent.add(snapshot_at(1000.0 + second, cards=2))  # the same snapshot again
    columns = recent.columns()
    assert set(columns) == {"GPU-0", "GPU-1"}
    assert columns["GPU-0"]["time_s"] == [1000.0 + second for second in range(700, 1300, 10)]
    assert {len(values) for values in columns["GPU-0"].values()} == {60}
    recent.add(snapshot_at(2285.0))  # the clock was set back a little
    assert recent.columns()["GPU-0"]["time_s"][-2:] == [2280.0, 2285.0]
    recent.add(snapshot_at(500.0))
    assert recent.columns()["GPU-0"]["time_s"] == [500.0]
