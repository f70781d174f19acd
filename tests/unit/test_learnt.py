"""What was learnt of a card, as files: whatever lies there, reading and writing neither wait nor reach elsewhere."""

import os
from pathlib import Path

import pytest

from gpufan import learnt
from gpufan.control.model import CardModel

UUID = "GPU-11111111-2222-3333-4444-555555555555"
KNOWN = CardModel().learnt


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    learnt.write(tmp_path / "new", UUID, KNOWN)
    assert learnt.read_all(tmp_path / "new", [UUID, "GPU-other"]) == {UUID: KNOWN}


@pytest.mark.parametrize("uuid", ["../elsewhere", "/etc/gpufan", "", ".", "a\0b", "a\nb", "x" * 300])
def test_a_uuid_that_is_none_reaches_no_file(tmp_path: Path, uuid: str) -> None:
    folder = tmp_path / "learnt"
    learnt.write(folder, uuid, KNOWN)
    assert list(tmp_path.rglob("*")) == []
    assert learnt.read(folder, uuid) is None


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"{UUID}.json")
    os.mkfifo(tmp_path / f"{UUID}.json.new")
    assert learnt.read(tmp_path, UUID) is None
    learnt.write(tmp_path, UUID, KNOWN)
    assert learnt.read(tmp_path, UUID) == KNOWN


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    for name in (f"{UUID}.json", f"{UUID}.json.new"):
        (tmp_path / name).symlink_to(other)
    learnt.write(tmp_path, UUID, KNOWN)
    assert learnt.read(tmp_path, UUID) == KNOWN
    assert other.read_text() == "precious"


def test_a_giant_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / f"{UUID}.json").open("wb") as file:
        file.truncate(1 << 40)
    assert learnt.read(tmp_path, UUID) is None


def test_a_disk_that_hangs_does_not_hold_up_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    monkeypatch.setattr(learnt, "PATIENCE_S", 0.01)
    monkeypatch.setattr(learnt, "read_file", lambda _: os.read(read_end, 1))
    assert learnt.read_all(tmp_path, [UUID]) == {}
    os.close(write_end)
