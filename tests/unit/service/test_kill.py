"""An install that is killed at any moment can be repeated, and undone."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from gpufan.service import exposure, manifest, plan, root_copy
from tests.unit.service.conftest import Box

INSTALL = ("install-service", "--yes", "--skip-check", "--curve", "40:30,80:100")
UNINSTALL = ("uninstall-service", "--purge")
SLOW = pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
CHANGES = {"os.rename", "os.remove", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree"}
RENAMEAT2 = "ctypes.dlsym"  # which comes just before the call


def changes_the_box(event: str, arguments: Sequence[object]) -> bool:
    """Whether an audit event is a write, or a command to systemd."""
    if event == "open":
        return Path(str(arguments[0])).name != "calls" and bool(
            int(str(arguments[2])) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
    return event in {*CHANGES, RENAMEAT2, "systemctl"}


def run(box: Box, command: Sequence[str], kill_at: int = 0) -> list[str]:
    """Run gpufan in a child, which is killed before its change number `kill_at`. Returns the changes that it began."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        count = 0

        def look(event: str, arguments: Sequence[object]) -> None:
            nonlocal count
            if changes_the_box(event, arguments):
                os.write(writer, f"{event}\n".encode())
                count += 1
                if count == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)

        status = 1
        try:
            sys.addaudithook(look)
            box.call(*command)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader) as began:
        changes = began.read().split()
    _, status = os.waitpid(child, 0)
    assert status == 0 or (kill_at and os.WTERMSIG(status) == signal.SIGKILL)
    return changes


@pytest.fixture
def copying_box(box: Box, monkeypatch: pytest.MonkeyPatch) -> Box:
    """Where the service needs a copy of gpufan, and a rival sets the same fans."""

    def make_copy() -> None:
        draft = root_copy.draft_copy_folder()
        root_copy.remove_copy_folder(draft)
        draft.mkdir()
        (draft / root_copy._MARK).touch()
        (draft / "bin").mkdir()
        (draft / root_copy._MARK).write_text(str(root_copy.copied_files_digest()))

    monkeypatch.setattr(exposure, "installation_exposure", lambda: "it is a test")
    monkeypatch.setattr(root_copy, "check_copy", lambda: None)
    monkeypatch.setattr(root_copy, "first_exposure", lambda _: None)
    monkeypatch.setattr(root_copy, "make_copy", make_copy)
    monkeypatch.setattr(plan, "check_rights", lambda: None)
    (box.root / "opt").mkdir()
    (box.root / "services").write_text(
        "Id=fans.service\nExecStart={ path=/usr/bin/coolgpus ; argv[]=/usr/bin/coolgpus ; ignore_errors=no }\n"
    )
    (box.root / "active/fans.service").touch()
    return box


def points(count: int, slow: bool) -> range:
    """Every second of the changes, or 4 of them."""
    return range(1, count + 1, 2 if slow else count // 3)


@SLOW
def test_a_killed_install_can_be_undone_and_repeated(copying_box: Box, slow: bool):
    box = copying_box
    before = box.state()
    count = len(run(box, INSTALL))
    complete = box.state()
    assert count >= 40
    assert {"active/gpufan.service", "opt/gpufan/bin"} <= complete
    assert not {"active/lightdm.service", "active/fans.service"} & complete
    run(box, UNINSTALL)
    assert box.state() == before
    for point in points(count, slow):
        for repeats in (False, True):
            run(box, INSTALL, kill_at=point)
            if repeats:
                run(box, INSTALL)
                assert complete <= box.state(), f"killed at change {point}, then repeated"
            run(box, UNINSTALL)
            assert box.state() == before, f"killed at change {point}, then {'repeated and ' * repeats}undone"


@pytest.mark.slow
def test_a_killed_uninstall_can_be_repeated(copying_box: Box):
    box = copying_box
    before = box.state()
    run(box, INSTALL)
    count = len(run(box, UNINSTALL))
    for point in points(count, slow=True):
        run(box, INSTALL)
        run(box, UNINSTALL, kill_at=point)
        run(box, UNINSTALL)
        assert box.state() == before, f"killed at change {point}"


@SLOW
def test_a_killed_update_leaves_the_service_its_copy_and_can_be_repeated(
    copying_box: Box, monkeypatch: pytest.MonkeyPatch, slow: bool
):
    box, copy = copying_box, root_copy.COPY
    run(box, INSTALL)
    complete = box.state()
    monkeypatch.setattr(root_copy, "copied_files_digest", lambda: "newer")
    changes = run(box, INSTALL)
    assert len(changes) >= 20
    replaces = changes.index(RENAMEAT2) + 1
    for point in range(1, len(changes) + 1) if slow else range(replaces - 1, replaces + 4):
        monkeypatch.setattr(root_copy, "copied_files_digest", lambda point=point: f"newer {point}")
        run(box, INSTALL, kill_at=point)
        assert (copy / "bin").exists(), f"killed at change {point}"
        is_complete = manifest.load_manifest().digest == f"newer {point}"
        calls = box.root / "calls"
        calls.write_text("")
        run(box, INSTALL)
        assert ("restart --no-block gpufan.service" in calls.read_text()) is not is_complete
        assert (copy / root_copy._MARK).read_text() == f"newer {point}"
        assert complete <= box.state()
        assert os.listdir(box.root / "opt") == ["gpufan"], f"killed at change {point}"
