"""What the recorder writes, how long it is stored, and what happens to a file that is full, removed or damaged."""

import errno
import fcntl
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from gpufan.daemon.recording import recording_rows
from gpufan.errors import GpufanError
from gpufan.history import writer
from gpufan.history.reader import HistoryReader
from gpufan.history.recorder import MAX_WAITING, recorder_lock
from tests.unit.builders import gpu_state
from tests.unit.core.test_snapshot import disk_with_room_for
from tests.unit.history.recorded import NOON_S, RecordedRun


def test_each_reading_is_stored_as_in_a_recording(run: RecordedRun) -> None:
    run.seconds(20, temperature_c=71.0, duty_percent=None)
    with HistoryReader(run.folder) as reader:
        found = list(reader.readings(reader.cards(), reader.time_range()))
    (row,) = recording_rows(run.last)
    assert found[9] == row._replace(time_s=NOON_S + 10)


def test_readings_are_written_every_ten_seconds(run: RecordedRun) -> None:
    run.seconds(9)
    assert not run.path.exists() or not run.rows("SELECT * FROM second")
    run.seconds(1)
    assert len(run.rows("SELECT * FROM second")) == 10


def test_a_killed_recorder_loses_at_most_ten_seconds(run: RecordedRun) -> None:
    run.seconds(29)
    run.new_recorder()
    run.seconds(11)
    assert len(run.rows("SELECT * FROM second")) == 20 + 10


def test_a_minute_has_mean_lowest_and_highest_value(run: RecordedRun) -> None:
    for temperature_c in (60.0, 61.0, 90.0, 61.0, 60.0):
        run.seconds(12, temperature_c=temperature_c, power_w=200.0)
    run.recorder.write()
    minute = run.rows("SELECT sum(seconds), temperature_c_min, temperature_c_max, power_w FROM minute")
    assert minute == [(60.0, 60.0, 90.0, 200.0)]
    # The reading at a full minute belongs to the next minute: 59 of the 60 lie in the first.
    assert run.rows("SELECT temperature_c FROM minute")[0][0] == pytest.approx(66.4, abs=0.2)


def test_a_minute_has_the_duration_of_each_group_of_causes(run: RecordedRun) -> None:
    run.seconds(30)
    run.seconds(10, group="fail-safe", temperature_c=None)
    run.seconds(10)
    assert run.rows("SELECT kind, seconds FROM minute") == [("fail-safe", 10.0), ("hold", 40.0)]


def test_unknown_values_do_not_change_the_mean(run: RecordedRun) -> None:
    for power_w in (100.0, None, 200.0, None):
        run.seconds(5, power_w=power_w)
    assert run.rows("SELECT power_w_min, power_w_max FROM minute") == [(100.0, 200.0)]
    run.seconds(10, power_w=None)
    assert 100 < run.rows("SELECT power_w FROM minute")[0][0] < 200


def test_hot_and_throttled_seconds_are_counted(run: RecordedRun) -> None:
    run.seconds(4, temperature_c=83.0)
    run.seconds(3, temperature_c=84.0, throttle="heat")
    run.seconds(3, throttle="power-cap")
    assert run.rows("SELECT hot_s, throttled_s FROM minute") == [(3.0, 3.0)]


def test_an_old_snapshot_is_not_stored_again(run: RecordedRun) -> None:
    run.seconds(10)
    run.hangs = True
    run.seconds(10)
    assert len(run.rows("SELECT * FROM second")) == 10


def test_a_reading_counts_until_the_next_one(run: RecordedRun) -> None:
    run.snapshot["interval_s"] = 5.0
    for _ in range(4):
        run.second(seconds=5)
    assert run.rows("SELECT sum(seconds) FROM second") == [(20.0,)]


def test_a_gap_counts_for_no_reading(run: RecordedRun) -> None:
    run.seconds(10)
    run.runs = False
    run.seconds(100)
    run.runs = True
    run.seconds(10)
    assert run.rows("SELECT sum(seconds) FROM second") == [(20.0,)]


@pytest.mark.parametrize("step_s", [-86400.0, -3600.0, -4.5, 3600.0, 30 * 86400.0])
def test_nothing_is_lost_when_the_clock_is_set(run: RecordedRun, step_s: float) -> None:
    run.seconds(20)
    run.wall_s += step_s
    run.seconds(20)
    assert run.rows("SELECT count(*), sum(seconds) FROM second") == [(40, 40.0)]
    assert run.rows("SELECT sum(seconds) FROM minute") == [(40.0,)]


def test_readings_are_deleted_after_a_day_and_minutes_after_a_week(run: RecordedRun) -> None:
    run.seconds(10)
    for hours, seconds, minutes in ((23, 10, 1), (25, 0, 1), (6 * 24, 0, 1), (8 * 24, 0, 0)):
        run.recorder._writer.delete_old_rows(NOON_S + hours * 3600)
        assert run.rows("SELECT count(*) FROM second") == [(seconds,)]
        assert run.rows("SELECT count(*) FROM minute") == [(minutes,)]
    assert run.rows("SELECT count(*) FROM reason") == [(0,)]


def test_a_peak_stays_in_its_minute_after_its_reading_is_deleted(run: RecordedRun) -> None:
    run.seconds(10)
    run.seconds(1, temperature_c=97.0, power_w=301.5, duty_percent=100)
    run.seconds(9)
    run.recorder._writer.delete_old_rows(NOON_S + 5 * 86400)
    highest = run.rows("SELECT max(temperature_c_max), max(power_w_max), max(duty_percent_max) FROM minute")
    assert highest == [(97.0, 301.5, 100.0)]


def test_rows_from_a_wrong_clock_do_not_accumulate(run: RecordedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("MAX_SECOND_ROWS", 30), ("MAX_MINUTE_ROWS", 3), ("MAX_EVENT_ROWS", 2)):
        monkeypatch.setattr(writer, name, most)
    for day in range(6):
        run.wall_s = NOON_S - day * 86400  # the rows of later days never become too old
        run.seconds(10, overrides=day)
    run.recorder._writer.delete_old_rows(run.wall_s)
    counts = [run.rows(f"SELECT count(*) FROM {table}")[0][0] for table in ("second", "minute", "event")]
    assert counts[0] <= 30
    assert counts[1] <= 3
    assert counts[2] <= 2
    # The rows nearest to now stay.
    assert run.rows("SELECT min(time_s) FROM second") == [(run.wall_s - 9,)]


def test_a_full_disk_is_logged_once_and_readings_are_written_later(
    run: RecordedRun, log: pytest.LogCaptureFixture
) -> None:
    run.seconds(10)
    with disk_with_room_for(4096):
        run.seconds(60)
    assert len(log.messages) == 1
    assert log.messages[0].startswith(f"{run.path} cannot be written: ")
    assert "tried again every 10 s" in log.messages[0]
    run.seconds(10)
    assert log.messages[1:] == [f"{run.path} is written again"]
    assert len(run.rows("SELECT * FROM second")) == 80
    assert run.rows("PRAGMA integrity_check") == [("ok",)]


def test_the_memory_for_waiting_readings_is_limited(run: RecordedRun) -> None:
    with disk_with_room_for(0):
        run.seconds(MAX_WAITING + 50)
    run.seconds(10)
    assert run.rows("SELECT count(*), max(time_s) FROM second") == [(MAX_WAITING, run.wall_s)]


def test_a_full_disk_is_not_tried_every_second(run: RecordedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    def delete_old_rows(_now_s: float) -> None:
        nonlocal tries
        tries += 1
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(run.recorder._writer, "delete_old_rows", delete_old_rows)
    run.seconds(100)
    assert tries == 10


def damaged(run: RecordedRun) -> list[str]:
    return sorted(path.name for path in run.folder.glob("*.damaged-*"))


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda path: path.write_bytes(b"no database" * 1000), "file is not a database"),
        (lambda path: path.write_bytes(path.read_bytes()[:6000]), "malformed"),
        (lambda path: path.write_bytes(path.read_bytes()[:100] + bytes(20000)), "malformed"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"TABLE card", b"\xebABLE card")), "it is damaged"),
    ],
    ids=["foreign", "truncated", "zeroed", "schema"],
)
def test_a_damaged_file_is_renamed_and_a_new_one_begins(
    run: RecordedRun, log: pytest.LogCaptureFixture, harm: object, why: str
) -> None:
    run.seconds(50)
    run.recorder.close()
    harm(run.path)  # type: ignore[operator]  # a lambda of the table above
    before = run.path.read_bytes()
    run.new_recorder()
    run.seconds(20)
    assert damaged(run) == ["history.sqlite.damaged-1"]
    assert (run.folder / "history.sqlite.damaged-1").read_bytes() == before
    assert len(log.messages) == 1
    assert why in log.messages[0]
    assert "it was renamed to history.sqlite.damaged-1, and a new history begins" in log.messages[0]
    assert run.rows("SELECT count(*) FROM second") == [(20,)]


def test_the_database_of_another_program_is_renamed_unchanged(run: RecordedRun, log: pytest.LogCaptureFixture) -> None:
    run.recorder.close()
    run.path.unlink()
    with sqlite3.connect(run.path) as other:
        other.execute("CREATE TABLE precious (value)")
        other.execute("INSERT INTO precious VALUES (42)")
    other.close()
    run.seconds(10)
    assert log.messages == [
        f"{run.path}: it is not a history of gpufan; it was renamed to history.sqlite.damaged-1,"
        " and a new history begins"
    ]
    run.path = run.folder / "history.sqlite.damaged-1"
    assert run.rows("SELECT * FROM precious") == [(42,)]


def test_a_history_of_another_format_is_renamed(run: RecordedRun, log: pytest.LogCaptureFixture) -> None:
    run.seconds(10)
    run.recorder.close()
    with sqlite3.connect(run.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    run.new_recorder()
    assert "from another version of gpufan (format 99)" in log.messages[0]


def test_at_most_nine_damaged_files_stay(run: RecordedRun) -> None:
    run.recorder.close()
    for n in range(12):
        run.path.write_bytes(b"%d is no database" % n * 100)
        run.new_recorder()
        run.recorder.close()
    assert damaged(run) == [f"history.sqlite.damaged-{n}" for n in range(1, 10)]


def test_a_file_damaged_while_it_is_open_is_renamed(run: RecordedRun, log: pytest.LogCaptureFixture) -> None:
    run.seconds(100)
    connection = run.recorder._writer._open()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with run.path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(run.path.stat().st_size - 4096))
    connection.execute("PRAGMA shrink_memory")  # drop the cached pages
    run.seconds(20)
    assert damaged(run) == ["history.sqlite.damaged-1"]
    assert "a new history begins" in log.messages[0]
    assert run.rows("PRAGMA integrity_check") == [("ok",)]


def test_a_removed_file_is_created_again(run: RecordedRun) -> None:
    run.seconds(10)
    shutil.rmtree(run.folder)
    run.folder.mkdir()
    run.seconds(10)
    assert len(run.rows("SELECT * FROM second")) == 10


def test_a_folder_in_place_of_the_file_is_logged_and_tried_again(
    run: RecordedRun, log: pytest.LogCaptureFixture
) -> None:
    run.path.unlink()
    run.path.mkdir()
    run.seconds(30)
    assert [text.partition(": ")[0] for text in log.messages] == [f"{run.path} cannot be written"]
    run.path.rmdir()
    run.seconds(10)
    assert len(run.rows("SELECT * FROM second")) == 40


def test_cards_can_appear_disappear_and_change_their_index(run: RecordedRun) -> None:
    other = gpu_state(uuid="GPU-22222222-0000-0000-0000-000000000000", index=1, label="1 GTX 1080 Ti")
    run.seconds(5)
    for _ in range(5):
        run.second(gpu_state(index=1, label="1 GTX 1080 Ti"), other)
    run.recorder.write()
    found = run.rows("SELECT uuid, number, label, count(*) FROM second JOIN card ON card = card.id GROUP BY uuid")
    assert found == [(gpu_state().uuid, 1, "1 GTX 1080 Ti", 10), (other.uuid, 1, "1 GTX 1080 Ti", 5)]


def test_a_second_recorder_names_the_first(tmp_path: Path) -> None:
    with (
        recorder_lock(tmp_path),
        pytest.raises(GpufanError, match=f"process {os.getpid()} already records the history in"),
        recorder_lock(tmp_path),
    ):
        pass


def test_the_lock_is_free_after_its_recorder_ended(tmp_path: Path) -> None:
    for _ in range(2):
        with recorder_lock(tmp_path / "made"):
            assert (tmp_path / "made" / "lock").read_text() == f"{os.getpid()}\n"


def test_a_file_in_place_of_the_folder_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GpufanError, match=r"lock: Not a directory: .*--state-dir"), recorder_lock(tmp_path / "file"):
        pass


def test_a_file_system_without_locks_is_an_error_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(GpufanError, match="lock: No locks available: name a folder"), recorder_lock(tmp_path):
        pass


def test_a_pipe_in_place_of_the_lock_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    with recorder_lock(tmp_path):
        pass


def test_the_lock_keeps_other_holders_out(tmp_path: Path) -> None:
    with recorder_lock(tmp_path), (tmp_path / "lock").open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_case_fan_is_recorded_beside_the_cards_under_the_name_of_its_channel(run: RecordedRun) -> None:
    fan = gpu_state(uuid="fan:nct6798/pwm2", label="nct6798/pwm2", pci="", index=0, power_w=None, duty_percent=55)
    run.snapshot["case_fans"] = (fan,)
    run.seconds(10)
    assert run.rows("SELECT label FROM card ORDER BY id") == [("0 GTX 1080 Ti",), ("nct6798/pwm2",)]
    assert run.rows("SELECT count(*) FROM second") == [(20,)]
