"""URLs without their secrets, scripts with a time limit and without rights, and the words for what failed."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gpufan.alerts import deliver, receivers
from gpufan.alerts.deliver import UNKNOWN, Answer, Request, apprise_log_phrase
from gpufan.alerts.messages import Message, Phase, Trouble
from gpufan.alerts.receivers import (
    NotDelivered,
    ScriptReceiver,
    UrlReceiver,
    check_receivers,
    masked_receiver_url,
    receiver_url_problems,
)
from gpufan.alerts.settings import AlertSettings
from gpufan.errors import InputError, MissingExtra
from tests.doubles.nvml import wait_for

MESSAGE = Message(
    phase=Phase.BEGAN, trouble=Trouble.LOST, box="rig", card="0 GTX 1080 Ti", uuid="GPU-1", since_s=60, time_s=120
)
FILE = Path("/etc/gpufan/alerts.toml")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mailto://me:hunter2@example.org?to=you@hunter2.org", "mailto://example.org"),
        ("mailtos://me:hunter2@Example.org:587", "mailtos://example.org"),
        ("json://me:hunter2@127.0.0.1:8080/hunter2?key=hunter2", "json://127.0.0.1"),
        ("jsons://[::1]:8080/hunter2", "jsons://::1"),
        ("json://localhost/hunter2", "json://localhost"),
        ("tgram://123456:hunter2/99", "tgram://..."),
        ("slack://hunter2/hunter2/hunter2", "slack://..."),
        ("discord://123/hunter2", "discord://..."),
        ("pover://user@hunter2", "pover://..."),
        ("sendgrid://SG.hunter2.abc:me@example.org", "sendgrid://..."),
        ("ntfy://hunter2", "ntfy://..."),
        ("ntfys://hunter2@ntfy.sh/hunter2", "ntfys://ntfy.sh"),
        ("json://[hunter2", "json://..."),
        ("hunter2", "..."),
        ("hunter2-hunter2-hunter2://x", "..."),
    ],
)
def test_of_a_url_only_scheme_and_host_are_shown(url: str, shown: str):
    assert masked_receiver_url(url) == shown
    assert "hunter2" not in repr(UrlReceiver(1, url))
    assert "hunter2" not in UrlReceiver(1, url).name


def test_only_urls_that_apprise_understands_pass_the_check(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("apprise")
    monkeypatch.setattr(
        receivers, "_deliver_to_url_receivers", deliver.deliver_request
    )  # a process of its own needs half a second
    urls = ("json://localhost/hunter2", "nothing://hunter2", "mailto://me:hunter2@example.org", "tgram://hunter2")
    check_receivers(AlertSettings(urls=(urls[0], urls[2])), FILE)
    with pytest.raises(InputError) as error:
        check_receivers(AlertSettings(urls=urls, scripts=("/nowhere",)), FILE)
    assert str(error.value).startswith(f"{FILE}: urls: entry 2: nothing://... is no URL that Apprise understands; ")
    assert "urls: entry 4: tgram://..." in str(error.value)
    assert "on_event: entry 1: /nowhere: No such file or directory" in str(error.value)
    assert "hunter2" not in str(error.value)


def test_without_the_extra_the_check_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(receivers, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"messages need apprise, which is not installed: .* 'gpufan\[alerts\]'"):
        receiver_url_problems(["json://localhost"])
    check_receivers(AlertSettings(scripts=("/bin/true",)), FILE)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user can read and write; those of pytest are for their owner only."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def script(folder: Path, text: str) -> ScriptReceiver:
    path = folder / "script"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return ScriptReceiver(str(path))


def test_a_script_gets_the_message_in_variables_and_as_json(folder: Path):
    script(folder, f"cat >{folder}/json; env >{folder}/env").send(MESSAGE)
    found = json.loads((folder / "json").read_text())
    assert (found["phase"], found["trouble"], found["card"], found["since_s"]) == ("began", "lost", "0 GTX 1080 Ti", 60)
    assert found["title"] == "gpufan on rig: 0 GTX 1080 Ti: the card does not answer"
    variables = (folder / "env").read_text().splitlines()
    assert "GPUFAN_ALERT_TROUBLE=lost" in variables
    assert "GPUFAN_ALERT_SINCE=60" in variables
    assert f"GPUFAN_ALERT_TITLE={found['title']}" in variables


def test_a_script_need_not_read_its_input_and_does_not_get_the_place_of_the_secrets(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x")
    script(folder, '[ -z "$CREDENTIALS_DIRECTORY" ]').send(MESSAGE)


@pytest.mark.parametrize(("text", "reason"), [("exit 3", "exit status 3"), ("kill -9 $$", "ended by signal 9")])
def test_a_script_that_fails_has_not_delivered(folder: Path, text: str, reason: str):
    with pytest.raises(NotDelivered, match=reason):
        script(folder, text).send(MESSAGE)


def test_a_script_that_hangs_ends_with_all_that_it_has_started(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(receivers, "SCRIPT_S", 0.3)
    start_s = time.monotonic()
    with pytest.raises(NotDelivered, match=r"no end within 0\.3 s"):
        script(folder, f"sleep 600 & echo $! >{folder}/child; wait").send(MESSAGE)
    assert time.monotonic() - start_s < 10
    child = Path(f"/proc/{(folder / 'child').read_text().strip()}/stat")
    wait_for(lambda: not child.exists() or child.read_text().split()[2] == "Z", 10)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a program as somebody else")
@pytest.mark.parametrize(("sudo", "user"), [("", 65534), ("0", 65534), ("1234", 1234)])
def test_a_script_never_runs_as_root(folder: Path, monkeypatch: pytest.MonkeyPatch, sudo: str, user: int):
    monkeypatch.setenv("SUDO_UID", sudo)
    monkeypatch.setenv("SUDO_GID", sudo)
    script(folder, f'[ "$(id -u) $(id -g) $(id -G)" = "{user} {user} {user}" ]').send(MESSAGE)


def test_a_script_that_others_can_write_or_nobody_can_run_is_refused(folder: Path):
    receiver = script(folder, "true")
    with pytest.raises(InputError, match=f"others can write {folder}: "):
        check_receivers(AlertSettings(scripts=(receiver.path,)), FILE)
    folder.chmod(0o755)
    check_receivers(AlertSettings(scripts=(receiver.path,)), FILE)
    for mode, problem in ((0o777, f"others can write {receiver.path}: "), (0o644, "is not a program")):
        Path(receiver.path).chmod(mode)
        with pytest.raises(InputError, match=problem):
            check_receivers(AlertSettings(scripts=(receiver.path,)), FILE)


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("[Errno 111] Connection refused", "the receiver refuses the connection"),
        ("[Errno -2] Name or service not known", "no such host, or no name service"),
        ("HTTPConnectionPool(host='x'): Read timed out.", "the receiver is too slow"),
        (
            "Failed to send JSON POST notification: Unauthorized, error=401.",
            "the receiver refuses the user or password",
        ),
        ("Failed to send: error=503.", "the receiver has an error of its own"),
        ("certificate verify failed: self signed", "no secure connection: wrong certificate, or wrong port"),
        ("token hunter2", UNKNOWN),
    ],
)
def test_a_failure_has_a_phrase_of_ours(line: str, meaning: str):
    assert apprise_log_phrase(["Sent to hunter2", line]) == meaning


def test_an_exception_of_apprise_is_answered_without_its_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(logging.getLogger("apprise"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("apprise"), "handlers", [])

    def explode(*_: object) -> Answer:
        logging.getLogger("apprise").warning("hunter2")
        raise ValueError("hunter2")

    monkeypatch.setattr(deliver, "_check_or_send_with_apprise", explode)
    assert deliver.deliver_request(Request(["json://localhost/hunter2"], "title", "text")) == Answer(reason=UNKNOWN)
    assert caplog.records == []


def test_a_delivery_that_crashes_or_hangs_is_not_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    receiver = UrlReceiver(1, "json://localhost/hunter2")
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(NotDelivered, match="no reason is known; exit status 3"):
        receiver.send(MESSAGE)
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(receivers, "DELIVERY_S", 0.2)
    with pytest.raises(NotDelivered, match=r"no end within 0\.2 s"):
        receiver.send(MESSAGE)


def test_the_process_of_a_delivery_writes_nothing_but_its_answer():
    pytest.importorskip("apprise")
    request = msgspec.json.encode(Request(["json://127.0.0.1:1/hunter2", "nothing://hunter2"], "title", "text"))
    command = [sys.executable, "-I", "-m", "gpufan.alerts.deliver"]
    done = subprocess.run(command, input=request, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert msgspec.json.decode(done.stdout, type=Answer).bad == [1]
