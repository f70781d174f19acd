"""`sudo gpufan web`: the process that speaks HTTP has no rights, and the helper changes nothing but fan settings."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.nvml import NvmlDouble, wait_for
from tests.integration.harness import Program
from tests.integration.web.page import running_page, terminal

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")


@pytest.fixture
def arguments(folder: Path, config: Path) -> list[str]:
    return ["--runtime-dir", str(folder), "--config", str(config), "--state-dir", str(folder)]


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def alive(pid: int) -> bool:
    with suppress(OSError):
        return status_of(pid)["State"][0] not in "ZX"
    return False


@pytest.mark.parametrize(
    "sudo",
    [{"SUDO_UID": "12345", "SUDO_GID": "12346"}, pytest.param({}, marks=pytest.mark.slow)],
    ids=["sudo", "root"],
)
def test_the_process_that_speaks_http_has_no_rights(arguments: list[str], sudo: dict[str, str]) -> None:
    with terminal(*arguments, env=sudo) as found:
        status = status_of(found.child())
        uid, gid = (sudo["SUDO_UID"], sudo["SUDO_GID"]) if sudo else ("65534", "65534")
        assert status["Uid"].split() == [uid] * 4
        assert status["Gid"].split() == [gid] * 4
        assert status["Groups"] == ""
        for thread in os.listdir(f"/proc/{found.child()}/task"):
            of_thread = status_of(int(thread))
            assert of_thread["Uid"].split() == [uid] * 4
            assert of_thread["NoNewPrivs"] == "1"
            assert {of_thread[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        links = {os.readlink(f"/proc/{found.child()}/fd/{number}") for number in (0, 1, 2)}
        assert not any("pts" in link or "tty" in link for link in links)
        assert status["NSsid"] != status_of(found.process.pid)["NSsid"]


@pytest.mark.slow
def test_a_page_without_a_terminal_has_no_helper(arguments: list[str]) -> None:
    with running_page(*arguments, before=["setsid", "--wait"]) as page:
        box = page.get("/api/box").json()
        assert not box["can_apply"]
        assert "sudo gpufan web" in box["why_not_apply"]
        answer = page.post("/api/diff", {"target_c": 70})
        assert (answer.status, answer.json()["error"]) == (400, box["why_not_apply"])


@pytest.mark.slow
def test_settings_are_applied_to_the_running_daemon_and_undone(
    double: NvmlDouble, start: Callable[..., Program], arguments: list[str], config: Path
) -> None:
    before = config.read_bytes()
    start("--config", str(config), stdin=subprocess.DEVNULL, start_new_session=True).wait_until_it_controls(0, 1)
    with terminal(*arguments) as found, found.page.events() as stream:
        assert found.page.get("/api/box").json()["can_apply"]
        assert {card["target_c"] for card in stream.wait_for("running", 8)["cards"]} == {75}
        shown = found.page.post("/api/diff", {"target_c": 66}).json()
        assert "-target_c = 75  # quiet" in shown["diff"] and "+target_c = 66  # quiet" in shown["diff"]
        assert config.read_bytes() == before
        made = found.page.post("/api/apply", {"id": shown["id"]}).json()
        assert (made["ok"], made["daemon"]) == (True, "accepted"), made
        assert config.read_text() == "# mine\ntarget_c = 66  # quiet\n"
        stream.wait_until(lambda event: {card["target_c"] for card in event["cards"]} == {66}, 5)
        assert found.page.post("/api/apply", {"id": shown["id"]}).status == 400
        undone = found.page.post("/api/undo", {"undo_id": made["undo_id"]}).json()
        assert (undone["ok"], undone["daemon"]) == (True, "accepted"), undone
        assert config.read_bytes() == before


def test_a_file_that_somebody_else_changes_is_left_alone(arguments: list[str], config: Path) -> None:
    with terminal(*arguments) as found:
        shown = found.page.post("/api/diff", {"target_c": 66}).json()
        config.write_text("target_c = 80\n")
        refused = found.page.post("/api/apply", {"id": shown["id"]})
        assert refused.status == 400 and "changed meanwhile" in refused.json()["error"]
        assert config.read_text() == "target_c = 80\n"
        shown = found.page.post("/api/diff", {"target_c": 66}).json()
        made = found.page.post("/api/apply", {"id": shown["id"]}).json()
        assert made["daemon"] == "not running"
        config.write_text("target_c = 81\n")
        assert found.page.post("/api/undo", {"undo_id": made["undo_id"]}).status == 400
        assert config.read_text() == "target_c = 81\n"


def test_undo_removes_a_file_that_was_not_there(arguments: list[str], config: Path) -> None:
    config.unlink()
    new = config.parent / "etc/config.toml"
    arguments[3] = str(new)
    new.parent.mkdir()
    new.write_text("")
    with terminal(*arguments) as found:
        new.unlink()
        shown = found.page.post("/api/diff", {"target_c": 66}).json()
        made = found.page.post("/api/apply", {"id": shown["id"]}).json()
        assert "target_c = 66" in new.read_text()
        assert found.page.post("/api/undo", {"undo_id": made["undo_id"]}).json()["ok"]
        assert not new.exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_both_processes(arguments: list[str], number: int) -> None:
    with terminal(*arguments) as found, found.page.events() as stream:
        stream.next()
        child = found.child()
        found.process.send_signal(number)
        assert found.process.wait(10) == 0
        wait_for(lambda: not alive(child))


def test_both_processes_end_with_the_terminal(arguments: list[str]) -> None:
    with terminal(*arguments) as found:
        child = found.child()
        found.close()
        found.process.wait(10)
        wait_for(lambda: not alive(child))


@pytest.mark.slow
def test_both_processes_end_with_the_terminal_under_nohup(arguments: list[str]) -> None:
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminal(*arguments) as found:
            child = found.child()
            found.close()
            found.process.wait(10)
            wait_for(lambda: not alive(child))
    finally:
        signal.signal(signal.SIGHUP, ignored)


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGSEGV, marks=pytest.mark.slow)], ids=lambda number: number.name
)
def test_the_helper_ends_with_the_process_that_speaks_http(arguments: list[str], number: int) -> None:
    with terminal(*arguments) as found:
        os.kill(found.child(), number)
        assert found.process.wait(10) == 1


def test_the_process_that_speaks_http_ends_with_the_helper(arguments: list[str]) -> None:
    with terminal(*arguments) as found:
        child = found.child()
        found.process.kill()
        wait_for(lambda: not alive(child))


@pytest.mark.slow
def test_a_settings_file_that_only_root_can_read_is_named(arguments: list[str], config: Path) -> None:
    config.chmod(0o600)
    with terminal(*arguments) as found:
        said = found.line_with(f"{config}: cannot be read: Permission denied: run this with sudo; ")
        assert "the page shows no settings" in said
        assert "Permission denied" in found.page.get("/api/settings").json()["error"]


def test_what_the_child_prints_cannot_control_the_terminal(arguments: list[str], folder: Path) -> None:
    with terminal(*arguments) as found:
        output = os.open(f"/proc/{found.child()}/fd/1", os.O_WRONLY)
        os.write(output, b"\x1b[2Jhello \x07\n")
        os.close(output)
        assert found.line_with("?[2Jhello ") == "?"


# ---- the helper under attack: requests that a compromised child could send ----


def hostile_requests() -> list[Any]:
    settings: dict[str, Any] = {"target_c": 70}
    return [
        {},
        {"type": "write", "path": "/etc/passwd", "text": "x"},
        {"type": "diff"},
        {"type": "diff", "settings": settings, "path": "/etc/passwd"},
        {"type": "diff", "settings": {**settings, "path": "/etc/passwd"}},
        {"type": "diff", "settings": {**settings, "dry_run": True}},
        {"type": "diff", "settings": {**settings, "gpus": ["none"]}},
        {"type": "diff", "settings": {**settings, "duration_s": 1}},
        {"type": "diff", "settings": {**settings, "cards": ["*"]}},
        {"type": "diff", "settings": {**settings, "cards": ['GPU-1"\n[x]\ndry_run = true\n#']}},
        {"type": "diff", "settings": {**settings, "quiet": [{"from": '22:00"\nx=1', "to": "07:00", "target_c": 70}]}},
        {"type": "diff", "settings": {"target_c": 5}},
        {"type": "diff", "settings": {"target_c": 70, "curve": [[50, 30]]}},
        {"type": "diff", "settings": {"curve": [[50, 30]] * 100}},
        {"type": "apply", "id": "../../etc/passwd"},
        {"type": "apply", "id": ""},
        {"type": "undo", "undo_id": "x"},
        [],
        "diff",
    ]


def test_the_helper_refuses_everything_but_settings_of_fans(config: Path, folder: Path) -> None:
    from gpufan.web.apply import Applier
    from gpufan.web.helper import DirectApplier, helper_answer

    before = config.read_bytes()
    applier = DirectApplier(Applier(config, folder))
    lines = [json.dumps(request).encode() for request in hostile_requests()]
    for line in [*lines, b"", b"{", b"\xff", b"[" * 100_000, b"null"]:
        answer = json.loads(helper_answer(line, applier))
        assert answer["refused"], line
        assert "\n" not in answer["refused"]
    assert config.read_bytes() == before
    assert [path.name for path in config.parent.iterdir()] == [config.name]


def test_the_helper_ends_when_it_receives_a_line_without_end(arguments: list[str]) -> None:
    from gpufan.web.helper import LINE_BYTES, LineReader

    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        reader = LineReader(ours)
        sent = 0
        while sent <= LINE_BYTES + 65536:
            with suppress(BlockingIOError):
                sent += theirs.send(b"x" * 65536)
            ours.settimeout(0.01)
            try:
                reader.read()
            except TimeoutError:
                continue
            except OSError as error:
                assert "too long" in str(error)
                return
    raise AssertionError("the helper reads for ever")
