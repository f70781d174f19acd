"""The keeper of the history: what it keeps, for how long, and what it makes of a file that is full, gone or broken."""

import errno
import fcntl
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from gpufan.daemon.recording import rows
from gpufan.errors import GpufanError
from gpufan.history import store
from gpufan.history.keeper import WAITING, only_keeper
from gpufan.history.reader import Past
from tests.unit.builders import gpu_state
from tests.unit.core.test_snapshot import disk_with_room_for
from tests.unit.history.kept import NOON_S, Kept, numbers


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_each_reading_is_kept_as_a_recording_would_have_it(kept: Kept) -> None:
    kept.seconds(20, temperature_c=71.0, duty_percent=None)
    with Past(kept.folder) as past:
        found = list(past.readings(past.cards(), past.span()))
    (row,) = rows(kept._take((gpu_state(temperature_c=71.0, duty_percent=None),)))
    assert found[9] == row._replace(time_s=NOON_S + 10)


def test_what_is_gathered_is_written_every_ten_seconds(kept: Kept) -> None:
    kept.seconds(9)
    assert not kept.path.exists() or not kept.rows("SELECT * FROM second")
    kept.seconds(1)
    assert len(kept.rows("SELECT * FROM second")) == 10


def test_a_keeper_that_is_killed_loses_ten_seconds_at_most(kept: Kept) -> None:
    kept.seconds(29)
    kept.new_keeper()
    kept.seconds(11)
    assert len(kept.rows("SELECT * FROM second")) == 20 + 10


def test_a_minute_keeps_the_mean_and_the_extremes(kept: Kept) -> None:
    for temperature_c in (60.0, 61.0, 90.0, 61.0, 60.0):
        kept.seconds(12, temperature_c=temperature_c, power_w=200.0)
    kept.keeper.commit()
    minute = kept.rows("SELECT sum(seconds), temperature_c_min, temperature_c_max, power_w FROM minute")
    assert minute == [(60.0, 60.0, 90.0, 200.0)]
    # The first second of a minute is the last one's end: 59 of the 60 lie in the first minute.
    assert next(numbers(kept.rows("SELECT temperature_c FROM minute"))) == pytest.approx(66.4, abs=0.2)


def test_a_minute_tells_how_long_each_kind_of_state_took(kept: Kept) -> None:
    kept.seconds(30)
    kept.seconds(10, group="fail-safe", temperature_c=None)
    kept.seconds(10)
    assert kept.rows("SELECT kind, seconds FROM minute") == [("fail-safe", 10.0), ("hold", 40.0)]


def test_a_value_that_is_not_known_for_a_while_leaves_the_mean_alone(kept: Kept) -> None:
    for power_w in (100.0, None, 200.0, None):
        kept.seconds(5, power_w=power_w)
    assert kept.rows("SELECT power_w_min, power_w_max FROM minute") == [(100.0, 200.0)]
    kept.seconds(10, power_w=None)
    assert 100 < next(numbers(kept.rows("SELECT power_w FROM minute"))) < 200


def test_seconds_too_hot_and_throttled_are_counted(kept: Kept) -> None:
    kept.seconds(4, temperature_c=83.0)
    kept.seconds(3, temperature_c=84.0, throttle="heat")
    kept.seconds(3, throttle="power-cap")
    assert kept.rows("SELECT hot_s, throttled_s FROM minute") == [(3.0, 3.0)]


def test_a_snapshot_that_is_not_new_is_not_kept_twice(kept: Kept) -> None:
    kept.seconds(10)
    kept.hangs = True
    kept.seconds(10)
    assert len(kept.rows("SELECT * FROM second")) == 10


def test_a_reading_stands_until_the_next_one(kept: Kept) -> None:
    kept.snapshot["interval_s"] = 5.0
    for _ in range(4):
        kept.second(seconds=5)
    assert kept.rows("SELECT sum(seconds) FROM second") == [(20.0,)]


def test_time_in_which_nothing_was_kept_counts_for_no_reading(kept: Kept) -> None:
    kept.seconds(10)
    kept.runs = False
    kept.seconds(100)
    kept.runs = True
    kept.seconds(10)
    assert kept.rows("SELECT sum(seconds) FROM second") == [(20.0,)]


@pytest.mark.parametrize("step_s", [-86400.0, -3600.0, -4.5, 3600.0, 30 * 86400.0])
def test_a_clock_that_is_set_loses_nothing_of_the_hour_before(kept: Kept, step_s: float) -> None:
    kept.seconds(20)
    kept.wall_s += step_s
    kept.seconds(20)
    assert kept.rows("SELECT count(*), sum(seconds) FROM second") == [(40, 40.0)]
    assert kept.rows("SELECT sum(seconds) FROM minute") == [(40.0,)]


def test_seconds_are_forgotten_after_a_day_and_minutes_after_a_week(kept: Kept) -> None:
    kept.seconds(10)
    for hours, seconds, minutes in ((23, 10, 1), (25, 0, 1), (6 * 24, 0, 1), (8 * 24, 0, 0)):
        kept.keeper._file.thin(NOON_S + hours * 3600)
        assert kept.rows("SELECT count(*) FROM second") == [(seconds,)]
        assert kept.rows("SELECT count(*) FROM minute") == [(minutes,)]
    assert kept.rows("SELECT count(*) FROM reason") == [(0,)]


def test_a_peak_outlives_the_second_that_it_was_in(kept: Kept) -> None:
    kept.seconds(10)
    kept.seconds(1, temperature_c=97.0, power_w=301.5, duty_percent=100)
    kept.seconds(9)
    kept.keeper._file.thin(NOON_S + 5 * 86400)
    highest = kept.rows("SELECT max(temperature_c_max), max(power_w_max), max(duty_percent_max) FROM minute")
    assert highest == [(97.0, 301.5, 100.0)]


def test_rows_of_a_clock_that_was_wrong_do_not_pile_up(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("SECOND_ROWS", 30), ("MINUTE_ROWS", 3), ("EVENT_ROWS", 2)):
        monkeypatch.setattr(store, name, most)
    for day in range(6):
        kept.wall_s = NOON_S - day * 86400  # each time further from the days before, which never grow old
        kept.seconds(10, overrides=day)
    kept.keeper._file.thin(kept.wall_s)
    counts = [kept.rows(f"SELECT count(*) FROM {table}")[0][0] for table in ("second", "minute", "event")]
    assert counts[0] <= 30
    assert counts[1] <= 3
    assert counts[2] <= 2
    # What is nearest to now stays.
    assert kept.rows("SELECT min(time_s) FROM second") == [(kept.wall_s - 9,)]


def test_a_full_disk_is_told_once_and_nothing_gathered_meanwhile_is_lost(kept: Kept) -> None:
    kept.seconds(10)
    with disk_with_room_for(4096):
        kept.seconds(60)
    assert len(kept.told) == 1
    assert kept.told[0].startswith(f"{kept.path} cannot be written: ")
    assert "tried again every 10 s" in kept.told[0]
    kept.seconds(10)
    assert kept.told[1:] == [f"{kept.path} is written again"]
    assert len(kept.rows("SELECT * FROM second")) == 80
    assert kept.rows("PRAGMA integrity_check") == [("ok",)]


def test_a_disk_that_stays_full_costs_no_more_than_so_much_memory(kept: Kept) -> None:
    with disk_with_room_for(0):
        kept.seconds(WAITING + 50)
    kept.seconds(10)
    assert kept.rows("SELECT count(*), max(time_s) FROM second") == [(WAITING, kept.wall_s)]


def test_a_disk_that_is_full_is_not_asked_every_second(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    def thin(_now_s: float) -> None:
        nonlocal tries
        tries += 1
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(kept.keeper._file, "thin", thin)
    kept.seconds(100)
    assert tries == 10


def damaged(kept: Kept) -> list[str]:
    return sorted(path.name for path in kept.folder.glob("*.damaged-*"))


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
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(kept: Kept, harm: object, why: str) -> None:
    kept.seconds(50)
    kept.keeper.close()
    harm(kept.path)  # type: ignore[operator]  # a lambda of the table above
    before = kept.path.read_bytes()
    kept.new_keeper()
    kept.seconds(20)
    assert damaged(kept) == ["history.sqlite.damaged-1"]
    assert (kept.folder / "history.sqlite.damaged-1").read_bytes() == before
    assert len(kept.told) == 1
    assert why in kept.told[0]
    assert "it is now history.sqlite.damaged-1, and a new history begins" in kept.told[0]
    assert kept.rows("SELECT count(*) FROM second") == [(20,)]


def test_the_database_of_another_program_is_set_aside_whole(kept: Kept) -> None:
    kept.keeper.close()
    kept.path.unlink()
    with sqlite3.connect(kept.path) as other:
        other.execute("CREATE TABLE precious (value)")
        other.execute("INSERT INTO precious VALUES (42)")
    other.close()
    kept.seconds(10)
    assert kept.told == [
        f"{kept.path}: it is not a history of gpufan; it is now history.sqlite.damaged-1, and a new history begins"
    ]
    kept.path = kept.folder / "history.sqlite.damaged-1"
    assert kept.rows("SELECT * FROM precious") == [(42,)]


def test_a_history_of_another_format_is_set_aside(kept: Kept) -> None:
    kept.seconds(10)
    kept.keeper.close()
    with sqlite3.connect(kept.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    kept.new_keeper()
    assert "another version of gpufan (format 99)" in kept.told[0]


def test_damaged_files_do_not_pile_up_without_end(kept: Kept) -> None:
    kept.keeper.close()
    for n in range(12):
        kept.path.write_bytes(b"%d is no database" % n * 100)
        kept.new_keeper()
        kept.keeper.close()
    assert damaged(kept) == [f"history.sqlite.damaged-{n}" for n in range(1, 10)]


def test_a_file_damaged_while_it_is_written_is_set_aside(kept: Kept) -> None:
    kept.seconds(100)
    connection = kept.keeper._file._open()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with kept.path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(kept.path.stat().st_size - 4096))
    connection.execute("PRAGMA shrink_memory")  # so that it reads what is there now
    kept.seconds(20)
    assert damaged(kept) == ["history.sqlite.damaged-1"]
    assert "a new history begins" in kept.told[0]
    assert kept.rows("PRAGMA integrity_check") == [("ok",)]


def test_a_file_that_somebody_removes_is_begun_anew(kept: Kept) -> None:
    kept.seconds(10)
    shutil.rmtree(kept.folder)
    kept.folder.mkdir()
    kept.seconds(10)
    assert len(kept.rows("SELECT * FROM second")) == 10


def test_a_folder_in_place_of_the_file_is_told_and_waited_for(kept: Kept) -> None:
    kept.path.unlink()
    kept.path.mkdir()
    kept.seconds(30)
    assert [text.partition(": ")[0] for text in kept.told] == [f"{kept.path} cannot be written"]
    kept.path.rmdir()
    kept.seconds(10)
    assert len(kept.rows("SELECT * FROM second")) == 40


def test_cards_come_go_and_change_their_index(kept: Kept) -> None:
    other = gpu_state(uuid="GPU-22222222-0000-0000-0000-000000000000", index=1, label="1 GTX 1080 Ti")
    kept.seconds(5)
    for _ in range(5):
        kept.second(gpu_state(index=1, label="1 GTX 1080 Ti"), other)
    kept.keeper.commit()
    found = kept.rows("SELECT uuid, number, label, count(*) FROM second JOIN card ON card = card.id GROUP BY uuid")
    assert found == [(gpu_state().uuid, 1, "1 GTX 1080 Ti", 10), (other.uuid, 1, "1 GTX 1080 Ti", 5)]


def test_a_second_keeper_says_that_there_is_one(tmp_path: Path) -> None:
    with (
        only_keeper(tmp_path),
        pytest.raises(GpufanError, match=f"process {os.getpid()} keeps the history in .* already"),
        only_keeper(tmp_path),
    ):
        pass


def test_the_lock_is_free_when_its_keeper_is_gone(tmp_path: Path) -> None:
    for _ in range(2):
        with only_keeper(tmp_path / "made"):
            assert (tmp_path / "made" / "lock").read_text() == f"{os.getpid()}\n"


def test_a_folder_that_is_none_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GpufanError, match=r"file/lock: File exists: .*--state-dir"), only_keeper(tmp_path / "file"):
        pass


def test_a_file_system_without_locks_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(GpufanError, match="lock: No locks available: name a folder"), only_keeper(tmp_path):
        pass


def test_a_pipe_in_place_of_the_lock_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    with only_keeper(tmp_path):
        pass


def test_the_lock_is_let_go_of_by_programs_that_are_started(tmp_path: Path) -> None:
    with only_keeper(tmp_path), (tmp_path / "lock").open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
