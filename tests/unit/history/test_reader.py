"""Reading the history: cards, readings, events, damaged files and permissions."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gpufan.errors import GpufanError
from gpufan.history import FILE_NAME
from gpufan.history.reader import HistoryReader, TimeRange
from tests.unit.builders import gpu_state
from tests.unit.history.recorded import NOON_S, RecordedRun


def test_an_event_belongs_to_every_time_range_that_it_touches(run: RecordedRun) -> None:
    run.seconds(10)
    run.seconds(30, group="fail-safe")  # from second 11 to second 40
    run.seconds(10)
    with HistoryReader(run.folder) as reader:
        for begin_s, end_s, touches in ((0, 11, False), (0, 12, True), (20, 30, True), (40, 50, True), (41, 50, False)):
            found = reader.events(reader.cards(), TimeRange(NOON_S + begin_s, NOON_S + end_s))
            assert bool(found) == touches, (begin_s, end_s)


def test_readings_are_minutes_where_seconds_are_deleted(run: RecordedRun) -> None:
    run.seconds(120, temperature_c=60.0)
    run.seconds(60, temperature_c=70.0)
    run.recorder._writer.delete_old_rows(NOON_S + 86400 + 120)
    with HistoryReader(run.folder) as reader:
        found = list(reader.readings(reader.cards(), reader.time_range()))
    assert [row.time_s - NOON_S for row in found] == [0.0, 60.0, *map(float, range(120, 181))]
    assert [found[0].temperature_c, found[-1].temperature_c] == [60.0, 70.0]


def test_a_missing_history_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(GpufanError, match=r"no history .*install-service.* keep-history"):
        HistoryReader(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(200)])
def test_another_file_is_an_error_with_its_path(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(GpufanError, match=r"history\.sqlite"):
        HistoryReader(tmp_path)


def test_a_pipe_in_place_of_the_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE_NAME)
    with pytest.raises(GpufanError, match=r"history\.sqlite is not a file"):
        HistoryReader(tmp_path)


def test_a_link_that_leads_nowhere_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).symlink_to(FILE_NAME)
    with pytest.raises(GpufanError, match=r"symbolic links: name another folder with --state-dir"):
        HistoryReader(tmp_path)


def test_another_programs_database_is_not_read(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / FILE_NAME).execute("CREATE TABLE card (x)").connection.close()
    with pytest.raises(GpufanError, match="is not a history of gpufan"):
        HistoryReader(tmp_path)


def test_an_empty_history_is_an_error(run: RecordedRun) -> None:
    with HistoryReader(run.folder) as reader, pytest.raises(GpufanError, match="is still empty"):
        reader.cards()


def test_a_history_damaged_in_the_middle_is_one_error(run: RecordedRun) -> None:
    run.seconds(300)
    run.recorder.close()
    with run.path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (run.path.stat().st_size - 8192))
    with HistoryReader(run.folder) as reader, pytest.raises(GpufanError, match=r"cannot read more of"):
        list(reader.readings(reader.cards(), reader.time_range()))


def test_the_history_can_be_read_while_it_is_written(run: RecordedRun) -> None:
    run.seconds(20)
    with HistoryReader(run.folder) as reader:
        rows = reader.readings(reader.cards(), TimeRange(0, NOON_S + 1e6))
        next(rows)
        run.seconds(20)
        assert len(list(rows)) == 19  # those that were stored when reading began
    with HistoryReader(run.folder) as reader:
        assert len(list(reader.readings(reader.cards(), reader.time_range()))) == 40


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
@pytest.mark.parametrize("ended", ["runs", "closed", "killed"])
def test_read_permission_is_enough_to_read_the_history(ended: str) -> None:
    with TemporaryDirectory() as folder:
        run = RecordedRun(Path(folder))
        run.seconds(20)
        if ended == "closed":
            run.recorder.close()
        if ended == "killed":
            run.folder = Path(folder) / "copy"
            run.folder.mkdir()
            for suffix in ("", "-wal", "-shm"):
                shutil.copy(f"{run.path}{suffix}", run.folder)
        Path(folder).chmod(0o755)  # not private to root, as pytest's are
        os.seteuid(65534)
        try:
            with HistoryReader(run.folder) as reader:
                found = len(list(reader.readings(reader.cards(), reader.time_range())))
        finally:
            os.seteuid(0)
    assert found == 20


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_reading_as_root_leaves_no_file_that_belongs_to_root(run: RecordedRun) -> None:
    run.seconds(20)
    run.recorder.close()
    for path in (run.folder, *run.folder.iterdir()):
        os.chown(path, 65534, 65534)
    with HistoryReader(run.folder) as reader:
        assert reader.cards()
        assert {path.stat().st_uid for path in run.folder.iterdir()} == {65534}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_without_read_permission_the_remedy_is_sudo(run: RecordedRun) -> None:
    run.seconds(20)
    os.seteuid(65534)
    try:
        with pytest.raises(GpufanError, match=r"cannot read .*history\.sqlite: Permission denied: run this with sudo"):
            HistoryReader(run.folder)
    finally:
        os.seteuid(0)


def test_cards_are_selected_as_in_other_commands(run: RecordedRun) -> None:
    other = gpu_state(uuid="GPU-22222222-0000", index=1, label="1 RTX 2080 Ti", name="NVIDIA GeForce RTX 2080 Ti")
    for _ in range(20):
        run.second(gpu_state(), other)
    with HistoryReader(run.folder) as reader:
        for names, indices in (((), [0, 1]), (("1",), [1]), (("rtx",), [1]), (("0a:00.0", "GPU-2222"), [0, 1])):
            assert [card.number for card in reader.cards(names)] == indices, names


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE minute SET time_s = 'x'",
        "UPDATE minute SET time_s = 1e308",
        "UPDATE minute SET seconds = 1e999",
        "UPDATE minute SET power_w = 1e300",
        "UPDATE minute SET temperature_c_max = x'ff'",
        "UPDATE card SET number = 'x'",
    ],
)
def test_values_of_a_damaged_file_are_an_error(run: RecordedRun, harm: str) -> None:
    run.seconds(11)
    run.recorder.close()
    with closing(sqlite3.connect(run.path)) as connection, connection:
        connection.execute(harm)
    with (
        HistoryReader(run.folder) as reader,
        pytest.raises(GpufanError, match=r"history.sqlite is damaged: Expected .*; move"),
    ):
        list(reader.minutes(reader.cards()[0], reader.time_range()))


def test_a_damaged_schema_is_an_error(run: RecordedRun) -> None:
    run.seconds(11)
    run.recorder.close()
    run.path.write_bytes(run.path.read_bytes().replace(b"TABLE card", b"\xebABLE card"))
    with (
        HistoryReader(run.folder) as reader,
        pytest.raises(GpufanError, match=r"cannot read more.*: it is damaged"),
    ):
        reader.cards()


def test_a_history_of_release_0_1_0_can_be_read(run: RecordedRun) -> None:
    kinds = [
        "fail-safe",
        "fault",
        "lost",
        "hang",
        "throttled",
        "override",
        "error",
        "control",
        "settings",
        "restart",
        "reload",
        "clock",
        "gap",
    ]
    run.seconds(20)
    run.recorder.close()
    with closing(sqlite3.connect(run.path)) as connection, connection:
        connection.execute("UPDATE minute SET kind = 'brake'")  # a class of reasons that is no longer used
        connection.execute("UPDATE reason SET kind = 'brake'")
        connection.executemany("INSERT INTO event VALUES (?, '', ?, ?, 1, '')", [(NOON_S, k, NOON_S) for k in kinds])
    with HistoryReader(run.folder) as reader:
        cards, time_range = reader.cards(), reader.time_range()
        assert [row.kind for row in reader.readings(cards, time_range)] == ["brake"] * 20
        assert sum(minute.seconds for minute in reader.minutes(cards[0], time_range)) == 20
        assert {event.kind.value for event in reader.events(cards, time_range)} == set(kinds)
