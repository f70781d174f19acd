"""Messages from a running `gpufan alerts run` to a real SMTP server and a real web hook on the loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gpufan.alerts import deliver, receivers
from gpufan.alerts.deliver import Answer, Request
from gpufan.core.reasons import Cause, Reason
from gpufan.daemon.snapshot_file import SnapshotFile, snapshot_now
from tests.doubles.nvml import NvmlDouble, wait_for
from tests.integration.harness import Program
from tests.unit.builders import gpu_state

pytest.importorskip("apprise")
pytest.importorskip("aiosmtpd")

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler

SECRET = "hunter2"
LIMIT_S = 30


class Mailbox(MessageHandler):
    """Keeps every mail; the server is real."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: list[Message] = []

    def handle_message(self, message: Message) -> None:
        self.mails.append(message)

    def subjects(self) -> list[str]:
        return [" ".join(str(mail["Subject"]).split()) for mail in self.mails]


@pytest.fixture
def mail() -> Iterator[tuple[Mailbox, str]]:
    """A mail server, and the URL of a receiver behind it."""
    box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Controller(box, hostname="127.0.0.1", port=port)
    server.start()
    yield box, f"mailto://127.0.0.1:{port}?from=gpufan@example.org&to=me@example.org"
    server.stop()


class Hook:
    """A web hook that can be down, slow, or refuse; it keeps what it accepted."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.attempts = 0
        self.status = 200
        self.free = threading.Event()
        self.free.set()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.attempts += 1
                hook.free.wait(LIMIT_S)
                if hook.status == 200:
                    hook.bodies.append(json.loads(body))
                self.send_response(hook.status, f"token {SECRET}")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://me:{SECRET}@127.0.0.1:{self.server.server_port}/{SECRET}?+X-Token={SECRET}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def titles(self) -> list[str]:
        return [body["title"] for body in self.bodies]


@pytest.fixture
def hook() -> Iterator[Hook]:
    found = Hook()
    yield found
    found.free.set()
    found.server.shutdown()
    found.server.server_close()


class Box:
    """A snapshot that a thread renews ten times a second, as a gpufan with a card that this test sets does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = SnapshotFile(folder / "state.json")
        self.state = gpu_state()
        self.alive = True
        self._ended = threading.Event()
        self.write()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def write(self) -> None:
        self.file.write(snapshot_now((self.state,), interval_s=1))

    def _run(self) -> None:
        while not self._ended.wait(0.1):
            if self.alive:
                self.write()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    found = Box(tmp_path)
    yield found
    found.close()


def settings(folder: Path, *urls: str, extra: str = "") -> Path:
    file = folder / "alerts.toml"
    at_once = "\n".join(f"{name} = 0" for name in ("lost", "fan-still", "throttled", "no-controller"))
    file.write_text(f"urls = {json.dumps(urls)}\n{extra}\n[after_s]\n{at_once}\n")
    file.chmod(0o640)
    return file


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "gpufan", "alerts", *map(str, arguments)]


class Alerts:
    """`gpufan alerts run` as a process."""

    def __init__(self, box: Box, file: Path) -> None:
        arguments = command("run", "--config", file, "--runtime-dir", box.folder)
        self._log = box.folder / "log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(arguments, stderr=log)

    def log(self) -> str:
        return self._log.read_text()

    def end(self) -> str:
        """Stop it; returns its log."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(LIMIT_S) == 0
        return self.log()


@contextmanager
def running(box: Box, file: Path) -> Iterator[Alerts]:
    """`gpufan alerts run` in this block."""
    with ExitStack() as stack:
        alerts = Alerts(box, file)
        stack.enter_context(alerts.process)
        stack.callback(alerts.process.kill)
        yield alerts


def test_a_trouble_arrives_by_mail_and_by_web_hook_with_all_that_matters(
    box: Box, mail: tuple[Mailbox, str], hook: Hook
) -> None:
    mails, url = mail
    with running(box, settings(box.folder, url, hook.url)) as alerts:
        box.state = gpu_state(group="lost", control="lost")
        wait_for(lambda: mails.mails and hook.bodies, LIMIT_S)
        log = alerts.end()
    (subject,) = mails.subjects()
    assert subject.endswith(": 0 GTX 1080 Ti: the card does not answer")
    text = mails.mails[0].get_payload(decode=True).decode()
    for part in (os.uname().nodename, "0 GTX 1080 Ti", "the card is gone", "Since ", "What to do: "):
        assert part in text
    assert hook.bodies[0]["title"] == subject
    assert hook.bodies[0]["type"] == "failure"
    assert log.count("sent: gpufan on ") == 2
    assert SECRET not in log


@pytest.mark.slow
def test_a_card_of_a_real_run_that_is_lost_is_reported(
    double: NvmlDouble, start: Callable[..., Program], folder: Path, tmp_path: Path, hook: Hook
) -> None:
    start().wait_until_it_controls(0, 1)
    arguments = command("run", "--config", settings(tmp_path, hook.url), "--runtime-dir", folder)
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        double.cards[1].lost = 1
        wait_for(lambda: hook.bodies, LIMIT_S)
        process.terminate()
        assert process.wait(LIMIT_S) == 0
    assert hook.titles()[0].endswith(": 1 GTX 1080 Ti: the card does not answer")


@pytest.mark.slow
def test_a_gpufan_that_ends_is_reported(box: Box, hook: Hook) -> None:
    with running(box, settings(box.folder, hook.url)):
        box.alive = False
        box.close()
        box.file.remove()
        wait_for(lambda: hook.titles(), LIMIT_S)
    assert hook.titles()[0].endswith(": no gpufan controls the fans")


@pytest.mark.slow
def test_a_receiver_that_is_down_gets_everything_later_and_no_secret_is_logged(
    box: Box, mail: tuple[Mailbox, str], hook: Hook
) -> None:
    mails, url = mail
    hook.status = 503
    with running(box, settings(box.folder, url, hook.url)) as alerts:
        still = Reason(Cause.FAN_STILL, fan=0, found_percent=62, seconds=12)
        box.state = gpu_state(throttle="heat", fault=still)
        wait_for(lambda: len(mails.mails) == 2 and hook.attempts >= 1, LIMIT_S)
        assert hook.bodies == []
        hook.status = 200
        wait_for(lambda: len(hook.bodies) == 2, LIMIT_S)
        log = alerts.end()
    assert hook.titles() == mails.subjects()
    assert "urls 2 (json://127.0.0.1): not delivered: the receiver has an error of its own" in log
    assert "urls 2 (json://127.0.0.1): accepts messages again" in log
    assert SECRET not in log


@pytest.mark.slow
def test_a_receiver_that_hangs_delays_no_other_and_not_the_end(box: Box, mail: tuple[Mailbox, str], hook: Hook) -> None:
    mails, url = mail
    hook.free.clear()
    with running(box, settings(box.folder, hook.url, url)) as alerts:
        box.state = gpu_state(group="lost", control="lost")
        wait_for(lambda: mails.mails and hook.attempts, LIMIT_S)
        start_s = time.monotonic()
        log = alerts.end()
        assert time.monotonic() - start_s < LIMIT_S / 2
    assert SECRET not in log


@pytest.mark.slow
def test_a_stop_still_delivers_what_waits(box: Box, hook: Hook) -> None:
    hook.status = 503
    with running(box, settings(box.folder, hook.url)) as alerts:
        box.state = gpu_state(group="lost", control="lost")
        wait_for(lambda: hook.attempts, LIMIT_S)
        hook.status = 200
        alerts.end()
    assert len(hook.bodies) == 1


def test_a_script_that_fails_is_logged_and_another_is_run(box: Box) -> None:
    with running(box, settings(box.folder, extra='on_event = ["/bin/true", "/bin/false"]')) as alerts:
        box.state = gpu_state(group="lost", control="lost")
        wait_for(lambda: "/bin/true: sent: gpufan on " in alerts.log(), LIMIT_S)
        wait_for(lambda: "/bin/false: not delivered: exit status 1" in alerts.log(), LIMIT_S)


@pytest.fixture
def apprise_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliver without a process of its own, in which Apprise needs half a second to load."""
    one_at_a_time = threading.Lock()  # they share a log

    def carry_out(request: Request) -> Answer:
        with one_at_a_time:
            return deliver.deliver_request(request)

    monkeypatch.setattr(receivers, "_deliver_to_url_receivers", carry_out)


@pytest.mark.usefixtures("apprise_in_this_process")
def test_a_test_message_shows_who_accepted_it(
    gpufan: Callable[..., tuple[int, str, str]], tmp_path: Path, mail: tuple[Mailbox, str], hook: Hook
) -> None:
    mails, url = mail
    file = str(settings(tmp_path, url, hook.url, extra='on_event = ["/bin/true"]'))
    said = "urls 1 (mailto://127.0.0.1): sent\nurls 2 (json://127.0.0.1): sent\n/bin/true: sent\n"
    assert gpufan("alerts", "test", "--config", file) == (0, said, "")
    assert mails.subjects() == [f"gpufan on {os.uname().nodename}: test message"]
    hook.status = 401
    status, out, err = gpufan("alerts", "test", "--config", file)
    assert status == 1
    assert "urls 2 (json://127.0.0.1): not delivered: the receiver refuses the user or password\n" in out
    assert err == "gpufan: 1 of 3 receivers did not get the message\n"
    assert SECRET not in out


@pytest.mark.usefixtures("apprise_in_this_process")
@pytest.mark.parametrize("verb", ["run", "test", "check"])
def test_every_command_refuses_a_file_with_mistakes(
    gpufan: Callable[..., tuple[int, str, str]], tmp_path: Path, verb: str
) -> None:
    file = settings(tmp_path, f"nothing://{SECRET}")
    said = f"gpufan: {file}: urls: entry 1: nothing://... is no URL that Apprise understands\n"
    assert gpufan("alerts", verb, "--config", str(file)) == (2, "", said)


@pytest.mark.usefixtures("apprise_in_this_process")
def test_the_service_reads_the_copy_that_systemd_made_for_it(
    gpufan: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hook: Hook
) -> None:
    settings(tmp_path, hook.url)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert gpufan("alerts", "check") == (0, "/etc/gpufan/alerts.toml: no mistake found\n", "")
