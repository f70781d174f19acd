"""What was learnt of a card, as files: whatever lies there, reading and writing neither wait nor reach elsewhere."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from gpufan.control.law import Learnt
from gpufan.core.card_settings import CardSettings
from gpufan.core.snapshot import Snapshot
from gpufan.daemon import learnt
from gpufan.daemon.learnt import SAVE_S, LearntSaver
from gpufan.daemon.worker import Worker
from tests.unit.builders import FakeGpu

UUID = "GPU-11111111-2222-3333-4444-555555555555"
KNOWN = Learnt(81.5)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    learnt.write_learnt(tmp_path / "new", UUID, KNOWN)
    assert learnt.read_all_learnt(tmp_path / "new", [UUID, "GPU-other"]) == {UUID: KNOWN}


@pytest.mark.parametrize("uuid", ["../elsewhere", "/etc/gpufan", "", ".", "a\0b", "a\nb", "x" * 300])
def test_a_uuid_that_is_none_reaches_no_file(tmp_path: Path, uuid: str) -> None:
    folder = tmp_path / "learnt"
    learnt.write_learnt(folder, uuid, KNOWN)
    assert list(tmp_path.rglob("*")) == []
    assert learnt.read_learnt(folder, uuid) is None


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"{UUID}.json")
    os.mkfifo(tmp_path / f"{UUID}.json.new")
    assert learnt.read_learnt(tmp_path, UUID) is None
    learnt.write_learnt(tmp_path, UUID, KNOWN)
    assert learnt.read_learnt(tmp_path, UUID) == KNOWN


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    for name in (f"{UUID}.json", f"{UUID}.json.new"):
        (tmp_path / name).symlink_to(other)
    learnt.write_learnt(tmp_path, UUID, KNOWN)
    assert learnt.read_learnt(tmp_path, UUID) == KNOWN
    assert other.read_text() == "precious"


def test_a_giant_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / f"{UUID}.json").open("wb") as file:
        file.truncate(1 << 40)
    assert learnt.read_learnt(tmp_path, UUID) is None


def test_a_disk_that_hangs_does_not_hold_up_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    monkeypatch.setattr(learnt, "READ_TIMEOUT_S", 0.01)
    monkeypatch.setattr(learnt, "read_file", lambda _: os.read(read_end, 1))
    assert learnt.read_all_learnt(tmp_path, [UUID]) == {}
    os.close(write_end)


# ---- nonsense, and when it is saved ----


def file_of(folder: Path) -> Path:
    return folder / f"{UUID}.json"


def content(**changes: object) -> bytes:
    return msgspec.json.encode({"format": 3, "uuid": UUID, "learnt": KNOWN, **changes})


def test_what_is_in_the_tests_is_what_is_written(tmp_path: Path) -> None:
    learnt.write_learnt(tmp_path, UUID, KNOWN)
    assert msgspec.json.decode(file_of(tmp_path).read_bytes()) == msgspec.json.decode(content())


NONSENSE = {
    "empty": b"",
    "cut off": content()[:-9],
    "no JSON": b"\x00\xff" * 100,
    "other JSON": b"[1, 2]",
    "deep": b"[" * 4000,
    "of another card": content(uuid="GPU-99999999"),
    "of an older format": content(format=2, learnt=[[3.9, 0.7, 1.1, 12.0], [0.1] * 4]),
    "of a newer format": content(format=4),
    "with a key that is unknown": content(more=1),
    "with no number": content(learnt=[]),
    "with a list of numbers": content(learnt=[[81.5]]),
    "with a word": content(learnt=["a"]),
    "with NaN": content().replace(b"81.5", b"NaN"),
    "with null": content().replace(b"81.5", b"null"),
    "with infinity": content().replace(b"81.5", b"1e999"),
    "with nothing": content(learnt=[0.0]),
    "with less than nothing": content(learnt=[-81.5]),
}


@pytest.mark.parametrize("text", NONSENSE.values(), ids=NONSENSE)
def test_a_file_that_makes_no_sense_is_as_good_as_none(tmp_path: Path, text: bytes) -> None:
    file_of(tmp_path).write_bytes(text)
    assert learnt.read_learnt(tmp_path, UUID) is None


def test_a_file_of_an_older_gpufan_is_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file_of(tmp_path).write_bytes(content(format=2, learnt=[[3.9, 0.7, 1.1, 12.0], [0.1] * 4]))
    learnt.read_learnt(tmp_path, UUID)
    assert f"{UUID}.json was written by an older gpufan and is ignored" in caplog.text


class WriteAtOnce:
    """Writes in the thread of the caller."""

    def __init__(self, write: Callable[[object], None]) -> None:
        self.put = write

    def close(self, timeout_s: float) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learnt, "BackgroundWriter", WriteAtOnce)


def keeper(folder: Path, settings: CardSettings) -> LearntSaver:
    """One of a card that has been controlled for a moment."""
    worker = Worker(FakeGpu(), lambda _: settings)
    for second in range(3):
        worker.tick(second)
    return LearntSaver(folder, [worker])


def at(time_s: float) -> Snapshot:
    return Snapshot(1, "0", 1, time_s, 1.0, False, ())


def test_it_is_saved_every_ten_minutes_and_not_before(tmp_path: Path) -> None:
    subject = keeper(tmp_path, CardSettings(target_c=80))
    saved = []
    for time_s in range(5000, 5000 + 3 * int(SAVE_S), 100):
        subject.publish(at(time_s))
        if file_of(tmp_path).exists():
            saved.append(time_s - 5000)
            file_of(tmp_path).unlink()
    assert saved == [600, 1200]


def test_a_clock_that_was_set_back_does_not_stop_the_saving(tmp_path: Path) -> None:
    subject = keeper(tmp_path, CardSettings(target_c=80))
    subject.publish(at(1e9))
    subject.publish(at(1000))
    assert file_of(tmp_path).exists()


def test_a_card_that_follows_a_curve_leaves_what_is_kept_alone(tmp_path: Path) -> None:
    keeper(tmp_path / "none", CardSettings()).close()
    assert not (tmp_path / "none").exists()
