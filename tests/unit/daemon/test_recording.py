"""The recording: rows are read as they were written, other files stay unchanged, errors name file and line."""

import os
from pathlib import Path

import pytest

from gpufan.core.gpu import FanReading
from gpufan.core.sentences import state_sentence
from gpufan.core.snapshot import Snapshot
from gpufan.daemon import recording
from gpufan.daemon.recording import HEADER, RecordingFile, Row, read_recording, recording_csv, recording_rows
from gpufan.daemon.snapshot_file import snapshot_now
from gpufan.errors import InputError
from tests.unit.builders import gpu_state
from tests.unit.core.test_snapshot import disk_with_room_for

SNAPSHOT = snapshot_now((gpu_state(), gpu_state(index=1, uuid="GPU-2")), interval_s=1.0, simulated_s=12.5)
ROW = Row(
    12.5,
    gpu_state().uuid,
    "0 GTX 1080 Ti",
    74,
    229.7,
    62,
    61,
    2950,
    "ours",
    "hold",
    state_sentence(gpu_state()),
    gpu_state().pci,
)


def write(path: Path, *snapshots: Snapshot) -> None:
    with RecordingFile(path) as file:
        for snapshot in snapshots:
            file.write(snapshot)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording.csv"


def test_rows_are_read_as_they_were_written(path: Path) -> None:
    write(path, SNAPSHOT, SNAPSHOT)
    assert list(read_recording(path)) == recording_rows(SNAPSHOT) * 2
    assert next(read_recording(path)) == ROW


def test_the_file_is_readable_text(path: Path) -> None:
    write(path, SNAPSHOT)
    line = path.read_text().splitlines()[1]
    assert line == (
        "12.5,GPU-11111111-2222-3333-4444-555555555555,0 GTX 1080 Ti,74,229.7,62,61,2950,ours,hold,"
        "the curve gives 58 %; the fans slow down once the card is 2 °C cooler,00000000:0A:00.0"
    )


def test_rows_of_real_cards_have_the_time_of_day() -> None:
    snapshot = snapshot_now((gpu_state(),), interval_s=1)
    assert recording_rows(snapshot)[0].time_s == snapshot.time_s


def test_an_unknown_value_is_an_empty_cell(path: Path) -> None:
    lost = gpu_state(control="lost", temperature_c=None, power_w=None, duty_percent=None, fans=())
    write(path, snapshot_now((lost,), interval_s=1))
    assert next(read_recording(path))[3:8] == (None,) * 5


def test_the_first_fan_that_reports_its_speed_counts() -> None:
    fans = (FanReading(None, 40, True), FanReading(41, 40, True, 1990))
    row = recording_rows(snapshot_now((gpu_state(fans=fans),), interval_s=1))[0]
    assert (row.speed_percent, row.speed_rpm) == (41, 1990)


def test_a_reason_of_several_lines_stays_one_row(path: Path) -> None:
    write(path, snapshot_now((gpu_state(message='two\nlines, "quoted"\ud800'),), interval_s=1))
    assert [row.reason for row in read_recording(path)] == ['two lines, "quoted"?']


def test_a_second_run_appends_to_the_recording(path: Path) -> None:
    write(path, SNAPSHOT)
    write(path, SNAPSHOT)
    assert path.read_text() == HEADER + recording_csv(recording_rows(SNAPSHOT)) * 2


def test_an_incomplete_last_row_is_skipped_and_removed(path: Path) -> None:
    path.write_text(HEADER + recording_csv([ROW]) + "13.5,GPU-1")
    assert list(read_recording(path)) == [ROW]
    write(path, SNAPSHOT)
    assert list(read_recording(path)) == [ROW, *recording_rows(SNAPSHOT)]


def test_an_incomplete_header_is_written_again(path: Path) -> None:
    path.write_text(HEADER[:20])
    write(path, SNAPSHOT)
    assert list(read_recording(path)) == recording_rows(SNAPSHOT)


@pytest.mark.parametrize("content", [b"dear diary\n", b"\0\xff" * 900, HEADER.encode()[:-1] + b",more\n"])
def test_a_file_with_other_content_is_refused_and_unchanged(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a recording: name a new file"):
        RecordingFile(path)
    assert path.read_bytes() == content


def test_a_pipe_or_a_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is not a file"):
        RecordingFile(tmp_path / "pipe")
    with pytest.raises(InputError, match="cannot be written: Is a directory"):
        RecordingFile(tmp_path)
    with pytest.raises(InputError, match="cannot be written: No such file"):
        RecordingFile(tmp_path / "missing" / "recording.csv")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link to another user")
def test_a_link_of_another_user_is_refused_and_one_of_our_own_is_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target.csv", tmp_path / "recording.csv"
    link.symlink_to(target)
    write(link, SNAPSHOT)
    assert list(read_recording(target)) == recording_rows(SNAPSHOT)
    target.unlink()
    os.chown(link, 1234, -1, follow_symlinks=False)
    with pytest.raises(InputError, match=r"cannot be written: .*recording\.csv is a link of another user"):
        RecordingFile(link)
    assert not target.exists()


def test_a_link_that_appears_after_the_check_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.symlink_to("victim")
    monkeypatch.setattr(recording, "path_behind_links", lambda path: path)  # as if there was no link yet
    with pytest.raises(InputError, match="Too many levels of symbolic links"):
        RecordingFile(path)
    assert not path.exists()


def test_on_a_full_disk_rows_are_lost_but_never_incomplete(path: Path) -> None:
    with RecordingFile(path) as file:
        file.write(SNAPSHOT)
        with disk_with_room_for(path.stat().st_size + 30), pytest.raises(OSError, match="No space left"):
            file.write(SNAPSHOT)
        file.write(SNAPSHOT)
    assert list(read_recording(path)) == recording_rows(SNAPSHOT) * 2


def test_writing_to_a_deleted_recording_raises(path: Path) -> None:
    with RecordingFile(path) as file:
        path.unlink()
        with pytest.raises(FileNotFoundError):
            file.write(SNAPSHOT)


GOOD = recording_csv([ROW]).encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty: `gpufan run --record FILE`"),
        (HEADER[:30].encode(), "is not a recording: `gpufan run"),
        (b"timestamp,gpu,temp\n1,0,45\n", "is not a recording: its first line must be time_s,uuid"),
        (b"\x89PNG\r\n\x1a\n", "is not a recording"),
        (b"\0" * 100_000, "is not a recording"),
        (HEADER.encode() + GOOD + b"1,2,3\n", "line 3 has 3 values, a row of a recording has 12"),
        (HEADER.encode() + GOOD.replace(b"74", b"warm"), "line 2: temperature_c: 'warm' is not a number"),
        (HEADER.encode() + GOOD.replace(b"229.7", b"nan"), "line 2: power_w: 'nan' is not a number"),
        (HEADER.encode() + GOOD.replace(b"12.5", b""), "line 2: time_s is missing"),
        (HEADER.encode() + GOOD.replace(b"GPU-11111111-2222-3333-4444-555555555555", b""), "line 2: uuid is missing"),
        (HEADER.encode() + GOOD.replace(b"0A:00.0", b"x"), "line 2: pci: '00000000:x' is not a PCI address"),
        (HEADER.encode() + b"\xff\xfe\n", "line 2 is not a row of a recording"),
        (HEADER.encode() + b'1,"2\n3"\n', "line 2 is not a row of a recording"),
        (HEADER.encode() + b"1" * 100_000 + b"\n", "line 2 has 1 values"),
    ],
)
def test_an_error_names_file_line_and_cause(path: Path, content: bytes, words: str) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        list(read_recording(path))
    assert str(error.value).startswith(str(path))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_joined_recordings_are_read(path: Path) -> None:
    path.write_text((HEADER + recording_csv([ROW])) * 2)
    assert list(read_recording(path)) == [ROW, ROW]


def test_a_recording_with_windows_line_ends_is_read(path: Path) -> None:
    path.write_bytes((HEADER + recording_csv([ROW])).replace("\n", "\r\n").encode())
    assert list(read_recording(path)) == [ROW]


EARLIER = HEADER.replace(",pci", "") + recording_csv([ROW]).replace(f",{ROW.pci}", "")
"""A recording without the column `pci`, as an earlier gpufan wrote it."""


def test_a_recording_without_pci_addresses_is_read_and_appended_to(path: Path) -> None:
    path.write_text(EARLIER)
    assert list(read_recording(path)) == [ROW._replace(pci="")]
    write(path, SNAPSHOT)
    write(path, SNAPSHOT)
    assert path.read_text().startswith(EARLIER)
    assert list(read_recording(path)) == [ROW._replace(pci=""), *recording_rows(SNAPSHOT) * 2]


def test_the_error_for_an_unreadable_file_names_it(path: Path) -> None:
    with pytest.raises(InputError, match=r"recording.csv cannot be read: No such file"):
        list(read_recording(path))


def test_a_pipe_that_no_program_writes_to_counts_as_empty(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"recording.csv is empty"):
        list(read_recording(path))


def test_a_long_recording_is_read_row_by_row(path: Path) -> None:
    path.write_text(HEADER + recording_csv([ROW]) + "nonsense\n")
    assert next(read_recording(path)) == ROW
