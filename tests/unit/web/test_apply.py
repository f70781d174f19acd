"""The settings file is changed, the daemon is awaited, and the change is undone."""

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpufan.config.change import settings_lock
from gpufan.core.snapshot import Snapshot
from gpufan.daemon.snapshot_file import SnapshotFile
from gpufan.errors import InputError
from gpufan.system import lock
from gpufan.system.background import BackgroundCall
from gpufan.system.lock import _try_to_lock
from gpufan.web import reload
from gpufan.web.apply import Applier
from gpufan.web.helper import DirectApplier, helper_answer
from gpufan.web.page_settings import PageSettings
from tests.unit.builders import snapshot_at


class Box:
    """A settings file, and a daemon whose snapshot a test writes while the page waits."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "config.toml"
        self.snapshot = SnapshotFile(folder / "state.json")
        self.waits = 0
        self.next: Snapshot | None = None
        self.applier = Applier(self.path, folder, self.pause)

    def pause(self, _: float) -> None:
        self.waits += 1
        if self.next is not None:
            self.snapshot.write(self.next)

    def apply(self, **wanted: Any) -> dict[str, Any]:
        return self.applier.apply(self.applier.diff(PageSettings(**wanted))["id"])


def later(seconds: float = 5.0, **changes: Any) -> Snapshot:
    """A snapshot that is published after the change."""
    return snapshot_at(time.time() + seconds, **changes)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    found = Box(tmp_path)
    found.path.write_bytes("\ufefftarget_c = 75\r\n# mine\r\n".encode())
    return found


def test_the_daemon_accepts_the_change_once_its_cards_follow_it(box: Box) -> None:
    box.snapshot.write(snapshot_at(time.time(), settings="target 75 °C"))
    box.next = later(settings="target 70 °C")
    made = box.apply(target_c=70.0)
    assert (made["ok"], made["daemon"], box.waits) == (True, "accepted", 1)
    assert "follows it now" in made["text"]


def test_a_change_by_another_program_at_the_same_moment_is_not_lost(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = threading.Event()

    def notice(descriptor: int) -> bool:
        waits.set()
        return _try_to_lock(descriptor)

    with settings_lock(box.path):
        monkeypatch.setattr(lock, "_try_to_lock", notice)
        call = BackgroundCall(lambda: box.apply(target_c=70.0))
        assert waits.wait(10)
        box.path.write_text("target_c = 60\n")
    with pytest.raises(InputError, match="was changed meanwhile"):
        call.result(10)
    assert box.path.read_text() == "target_c = 60\n"


def test_an_old_snapshot_proves_nothing(box: Box) -> None:
    box.snapshot.write(snapshot_at(time.time(), settings="target 70 °C"))
    assert box.apply(target_c=70.0)["daemon"] == "refused"


def test_a_card_that_follows_an_order_is_not_waited_for(box: Box) -> None:
    box.snapshot.write(snapshot_at(time.time()))
    box.next = later(settings="ordered: 60 %", order="60 %")
    assert box.apply(target_c=70.0)["daemon"] == "accepted"


def test_a_refused_reload_is_told_with_its_reason(box: Box) -> None:
    box.snapshot.write(snapshot_at(time.time()))
    box.next = msgspec.structs.replace(later(), reload_refused="a new display needs a restart")
    made = box.apply(target_c=70.0)
    assert (made["ok"], made["daemon"]) == (False, "refused")
    assert "a new display needs a restart" in made["text"]


def test_a_daemon_that_follows_something_else_is_told(box: Box) -> None:
    box.snapshot.write(snapshot_at(time.time()))
    box.next = later(settings="target 60 °C")
    made = box.apply(target_c=70.0)
    assert (made["ok"], made["daemon"]) == (False, "refused")
    assert "does not follow" in made["text"]


def put_process(folder: Path, monkeypatch: pytest.MonkeyPatch, terminal: int, caught: int) -> list[tuple[int, int]]:
    """Let this process be a `gpufan run` for the page. Return the signals that the page sends."""
    process = folder / "proc" / str(os.getpid())
    process.mkdir(parents=True)
    (process / "cmdline").write_text("python\0-m\0gpufan\0run\0")
    (process / "stat").write_text(f"1 (a) b) S 1 1 1 {terminal} 1 0")
    (process / "status").write_text(f"Name: x\nSigCgt:\t{caught:016x}\n")
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(reload, "PROC", folder / "proc")
    monkeypatch.setattr(os, "kill", lambda pid, number: number and sent.append((pid, number)))
    return sent


@pytest.mark.parametrize(
    ("terminal", "caught", "why"), [(34816, 1, "it runs in a terminal"), (0, 2, "it ignores SIGHUP")]
)
def test_a_daemon_that_reads_its_settings_only_at_its_start_is_not_waited_for(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: int, caught: int, why: str
) -> None:
    sent = put_process(tmp_path, monkeypatch, terminal, caught)
    box.snapshot.write(snapshot_at(time.time(), settings="target 75 °C"))
    made = box.apply(target_c=70.0)
    assert (made["ok"], made["daemon"], box.waits, sent) == (False, "refused", 0, [])
    assert f"{box.path}: changed; gpufan (process {os.getpid()}) does not follow it: {why}" in made["text"]
    assert "start it again" in box.applier.undo(made["undo_id"])["text"]


def test_a_daemon_that_reads_its_settings_at_a_signal_gets_the_signal(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = put_process(tmp_path, monkeypatch, 0, 1)
    box.snapshot.write(snapshot_at(time.time(), settings="target 75 °C"))
    box.next = later(settings="target 70 °C")
    assert box.apply(target_c=70.0)["daemon"] == "accepted"
    assert sent == [(os.getpid(), signal.SIGHUP)]


@pytest.mark.parametrize(("is_own", "waits"), [(True, 1), (False, 0)])
def test_only_the_simulation_of_the_page_itself_is_waited_for(box: Box, is_own: bool, waits: int) -> None:
    pid = os.getpid() if is_own else os.getppid()
    now, then = snapshot_at(time.time(), settings="target 75 °C", simulated_s=9.0), later(settings="target 70 °C")
    box.snapshot.write(msgspec.structs.replace(now, pid=pid))
    box.next = msgspec.structs.replace(then, pid=pid, simulated_s=19.0)
    made = box.apply(target_c=70.0)
    assert (made["ok"], box.waits) == (is_own, waits)
    assert ("it is a simulation" in made["text"]) is not is_own


def test_without_a_daemon_the_file_is_changed_nevertheless(box: Box) -> None:
    made = box.apply(target_c=70.0)
    assert made["daemon"] == "not running"
    assert made["text"].startswith(f"{box.path}: changed; no gpufan is running")
    assert "target_c = 70" in box.path.read_text()


def test_undo_puts_back_every_byte(box: Box) -> None:
    before = box.path.read_bytes()
    made = box.apply(target_c=70.0, max_duty_percent=60)
    assert box.path.read_bytes() != before
    box.applier.undo(made["undo_id"])
    assert box.path.read_bytes() == before
    with pytest.raises(InputError, match="cannot be undone"):
        box.applier.undo(made["undo_id"])


def test_a_difference_is_applied_once_and_only_if_the_file_is_as_shown(box: Box) -> None:
    shown = box.applier.diff(PageSettings(target_c=70.0))
    other = box.applier.diff(PageSettings(target_c=60.0))
    box.applier.apply(shown["id"])
    for number in (shown["id"], other["id"], "", "x"):
        with pytest.raises(InputError):
            box.applier.apply(number)
    assert "target_c = 70" in box.path.read_text()


def test_a_mistake_that_somebody_else_makes_while_the_daemon_is_awaited_is_named(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.snapshot.write(snapshot_at(time.time(), settings="target 75 °C"))
    box.next = later(settings="target 75 °C")

    def pause(seconds: float) -> None:
        box.path.write_text("target_c = 1")
        box.pause(seconds)

    monkeypatch.setattr(box.applier, "_pause", pause)
    made = box.apply(target_c=70.0)
    assert (made["ok"], made["daemon"]) == (False, "refused")
    assert f"{box.path}: changed; {box.path}: line 1: target_c" in made["text"]
    assert made["undo_id"]


def test_a_bug_in_the_helper_is_an_answer_and_not_its_end(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ValueError("odd")

    monkeypatch.setattr(box.applier, "apply", fail)
    answer = helper_answer(b'{"type": "apply", "id": "x"}', DirectApplier(box.applier))
    assert json.loads(answer)["refused"] == "ValueError: odd (this is a bug)"


def test_a_change_by_somebody_else_is_not_undone(box: Box) -> None:
    made = box.apply(target_c=70.0)
    box.path.write_text("target_c = 80\n")
    with pytest.raises(InputError, match="was changed meanwhile: undo would lose that change"):
        box.applier.undo(made["undo_id"])
    assert box.path.read_text() == "target_c = 80\n"


def test_settings_that_the_file_has_already_make_no_difference(box: Box) -> None:
    assert box.applier.diff(PageSettings(target_c=75.0))["diff"] == ""


def test_settings_that_are_surely_not_meant_are_warned_of(box: Box) -> None:
    assert box.applier.diff(PageSettings(target_c=90.0))["warnings"]


def test_the_owner_and_mode_of_the_file_stay(box: Box) -> None:
    box.path.chmod(0o640)
    made = box.apply(target_c=70.0)
    assert box.path.stat().st_mode & 0o777 == 0o640
    box.applier.undo(made["undo_id"])
    assert box.path.stat().st_mode & 0o777 == 0o640


def test_only_the_last_changes_are_remembered(box: Box) -> None:
    shown = [box.applier.diff(PageSettings(target_c=70.0))["id"] for _ in range(20)]
    with pytest.raises(InputError, match="too old"):
        box.applier.apply(shown[0])
