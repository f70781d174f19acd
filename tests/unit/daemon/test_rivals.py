"""Which other program is named when the fans of a card are contested, and how often."""

from pathlib import Path

import pytest

from gpufan.daemon import rivals
from gpufan.daemon.rivals import RivalLog, likely_board_rival, likely_rival
from gpufan.system.processes import Process
from tests.doubles.nvml import wait_for

US = 10


@pytest.fixture(autouse=True)
def all_are_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Process, "runs_as_root", True)


def process(proc: Path, pid: int, *words: str, opens: str | None = "/dev/nvidiactl", parent: int = 1) -> None:
    (proc / f"{pid}/fd").mkdir(parents=True)
    (proc / f"{pid}/cmdline").write_text("\0".join(words) + "\0")
    (proc / f"{pid}/status").write_text(f"Name:\tx\nPid:\t{pid}\nPPid:\t{parent}\n")
    if opens:
        (proc / f"{pid}/fd/3").symlink_to(opens)


def test_a_known_fan_controller_is_named_before_programs_that_have_a_card_open(tmp_path: Path) -> None:
    process(tmp_path, 20, "python3", "train.py")
    process(tmp_path, 4711, "/usr/bin/python3", "/usr/bin/coolgpus", opens=None)
    assert likely_rival({US}, tmp_path) == "probably coolgpus (process 4711)"


def test_without_a_known_one_the_programs_that_have_a_card_open_are_named(tmp_path: Path) -> None:
    process(tmp_path, 20, "python3", "/home/a/train.py")
    process(tmp_path, 21, "/usr/bin/my-fans", opens="/dev/nvidia0")
    process(tmp_path, 22, "/usr/bin/editor", opens="/dev/null")
    assert likely_rival({US}, tmp_path) == "perhaps train.py (process 20) or my-fans (process 21)"


def test_gpufan_its_children_and_programs_that_only_read_are_not_named(tmp_path: Path) -> None:
    process(tmp_path, US, "/usr/bin/gpufan", "run")
    process(tmp_path, 11, "/usr/lib/xorg/Xorg", ":90", parent=US)
    process(tmp_path, 12, "/usr/bin/nvidia-persistenced")
    assert likely_rival({US}, tmp_path) == ""


def test_programs_that_do_not_run_as_root_cannot_set_fans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Process, "runs_as_root", False)
    process(tmp_path, 20, "python3", "train.py")
    assert likely_rival({US}, tmp_path) == ""


def test_of_many_programs_three_are_named(tmp_path: Path) -> None:
    for pid in range(20, 26):
        process(tmp_path, pid, "my-fans")
    assert likely_rival({US}, tmp_path).endswith("my-fans (process 22) or 3 more")


def test_a_name_with_control_characters_is_made_printable(tmp_path: Path) -> None:
    process(tmp_path, 20, "/tmp/\x1b[2Jfans\nx")
    assert likely_rival({US}, tmp_path) == "perhaps ?[2Jfans x (process 20)"


def test_a_contested_card_is_logged_when_that_begins_and_at_most_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rivals, "likely_rival", lambda ours: "probably coolgpus (process 4711)")
    log = RivalLog()
    for now_s in range(200):  # it ends after 10 s, begins again after 20 s, then after 100 s
        log.note(now_s, "0 GTX 1080 Ti", contested=now_s < 10 or 20 <= now_s < 30 or now_s >= 100)
    wait_for(lambda: len(caplog.messages) >= 2)
    assert caplog.messages == ["another program sets the fans of 0 GTX 1080 Ti: probably coolgpus (process 4711)"] * 2


def test_of_fans_on_the_motherboard_other_programs_are_named(tmp_path: Path) -> None:
    process(tmp_path, 20, "/usr/bin/python3", "/usr/bin/coolgpus", opens=None)
    process(tmp_path, 30, "/bin/bash", "/usr/sbin/fancontrol", opens=None)
    process(tmp_path, 31, "/usr/bin/vim", "/usr/sbin/fancontrol", opens=None)
    assert likely_board_rival({US}, tmp_path) == "probably fancontrol (process 30)"
