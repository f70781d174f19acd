"""The exporter: no client delays another, and a file for node_exporter is complete or absent."""

import errno
import http.client
import logging
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import click
import pytest

from gpufan.cli.main import cli
from gpufan.cli.metrics import exporter
from gpufan.cli.options import read_listen_option
from gpufan.errors import GpufanError, InputError
from gpufan.metrics import exporter as serving
from gpufan.metrics.collector import metrics_registry
from gpufan.metrics.exporter import ExporterServer, update_metrics_textfile, write_metrics_textfile
from tests.unit.metrics.conftest import written

# ---- over HTTP ----


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ExporterServer]:
    with ExporterServer(("127.0.0.1", 0), metrics_registry(written(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def request(server: ExporterServer, method: str, path: str, **headers: str) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=5)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers.get_content_type(), response.read()
    finally:
        connection.close()


def test_metrics_are_served_as_text_and_as_openmetrics(server: ExporterServer) -> None:
    status, kind, body = request(server, "GET", "/metrics")
    assert (status, kind) == (200, "text/plain")
    assert b"gpufan_up 1.0" in body
    status, kind, body = request(server, "GET", "/metrics", Accept="application/openmetrics-text;version=1.0.0")
    assert (status, kind, body[-6:]) == (200, "application/openmetrics-text", b"# EOF\n")


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/metrics/", "/metricsx", "/../etc/passwd"])
def test_every_other_path_is_not_found(server: ExporterServer, path: str) -> None:
    status, _, body = request(server, "GET", path)
    assert status == 404
    assert b"gpufan_up" not in body


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(server: ExporterServer, method: str) -> None:
    assert request(server, method, "/metrics")[0] == 501


def test_a_slow_client_delays_no_other(server: ExporterServer) -> None:
    with socket.create_connection(server.server_address[:2], 5) as slow:
        slow.sendall(b"GET /met")
        began_s = time.monotonic()
        assert request(server, "GET", "/metrics")[0] == 200
        assert time.monotonic() - began_s < serving.CLIENT_TIMEOUT_S / 2


def test_a_slow_client_is_disconnected(server: ExporterServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert serving._ExporterHandler.timeout == serving.CLIENT_TIMEOUT_S
    monkeypatch.setattr(serving._ExporterHandler, "timeout", 0.05)
    with socket.create_connection(server.server_address[:2], 5) as slow:
        slow.sendall(b"GET /met")
        assert slow.recv(1) == b""


def test_80_clients_that_drip_are_disconnected_and_delay_nobody_for_long(
    server: ExporterServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving._ExporterHandler, "timeout", 1.0)
    monkeypatch.setattr(serving, "CROWD_S", 0.2)
    before = threading.active_count()
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(server.server_address[:2], 5)) for _ in range(80)]
        begun_s = time.monotonic()
        seen = [0]
        asked = stack.enter_context(ThreadPoolExecutor(1)).submit(request, server, "GET", "/metrics")
        while clients:
            assert time.monotonic() - begun_s < 5, "a drop within each time limit holds a connection for ever"
            seen.append(threading.active_count() - before)
            clients = [client for client in clients if _drips(client)]
            time.sleep(0.05)
        assert asked.result(5)[0] == 200
    assert max(seen) <= serving.CLIENTS + 1  # and the thread of this test


def _drips(client: socket.socket) -> bool:
    """Send one more byte; False once the server has disconnected."""
    try:
        client.sendall(b"G")
        client.setblocking(False)
        return client.recv(1) != b""
    except BlockingIOError:
        client.settimeout(5)
        return True
    except OSError:
        return False


def test_headers_of_6_megabytes_are_not_read(server: ExporterServer) -> None:
    with socket.create_connection(server.server_address[:2], 5) as client, suppress(ConnectionError):
        client.sendall(b"GET /metrics HTTP/1.0\r\n")
        with suppress(ConnectionError):
            for _ in range(99):
                client.sendall(b"A: " + b"a" * 60_000 + b"\r\n")
            client.sendall(b"\r\n")
        assert client.recv(1) == b""
    assert request(server, "GET", "/metrics")[0] == 200


def test_a_client_that_disconnects_is_not_reported(server: ExporterServer, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(server.server_address[:2], 5) as gone:
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # ends with a reset
        gone.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert request(server, "GET", "/metrics")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_port_in_use_is_an_error_with_the_remedy(server: ExporterServer, tmp_path: Path) -> None:
    host, port = server.server_address[:2]
    with pytest.raises(GpufanError, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use.*--listen"):
        ExporterServer((str(host), port), metrics_registry(tmp_path))


@pytest.mark.parametrize("host", ["..", "a" * 80, "999.1.1.1"])
def test_an_unknown_host_is_an_input_error(tmp_path: Path, host: str) -> None:
    with pytest.raises(InputError, match="there is no host"):
        ExporterServer((host, 0), metrics_registry(tmp_path))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:10835", ("127.0.0.1", 10835)),
        ("localhost:1", ("localhost", 1)),
        ("[::1]:80", ("::1", 80)),
        (":65535", ("", 65535)),
    ],
)
def test_an_address_is_read(text: str, address: tuple[str, int]) -> None:
    assert read_listen_option(text) == address


@pytest.mark.parametrize("text", ["", "10835", "localhost", "::1:80", "a:b", "a:65536", "a:-1", "[x]:1", "a b:1"])
def test_a_wrong_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match=r"write HOST:PORT, such as 127\.0\.0\.1:8080"):
        read_listen_option(text)


def test_by_default_metrics_are_served_to_this_machine_only() -> None:
    (listen,) = [option for option in exporter.params if option.name == "listen"]
    assert isinstance(listen, click.Option)
    assert listen.default == "127.0.0.1:10835"


# ---- into a file ----


@contextmanager
def ended_after(sleeps: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """In place of sleep: Ctrl-C the last time. The times that were slept, s."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) >= sleeps:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(serving.time, "sleep", sleep)
        yield slept


def test_the_file_is_complete_and_readable_by_everybody(tmp_path: Path) -> None:
    file = tmp_path / "gpufan.prom"
    write_metrics_textfile(file, written(tmp_path))
    assert "gpufan_up 1.0\n" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o644
    assert sorted(os.listdir(tmp_path)) == ["gpufan.prom", "state.json"]


def test_the_file_is_updated_and_removed_when_the_exporter_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path)
    replaced = []
    monkeypatch.setattr(serving, "replace_unsynced", lambda _, data: replaced.append(data))
    with ended_after(3, monkeypatch) as slept:
        update_metrics_textfile(tmp_path / "gpufan.prom", path, 15)
    assert (len(replaced), slept) == (3, [15, 15, 15])
    assert not (tmp_path / "gpufan.prom").exists()


def test_a_failed_write_is_reported_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes = [False, False, True, False, False]

    def replace(file: Path, data: bytes) -> None:
        if not outcomes.pop(0):
            raise OSError(errno.ENOSPC, "No space left on device")

    path = written(tmp_path)
    monkeypatch.setattr(serving, "replace_unsynced", replace)
    with ended_after(len(outcomes), monkeypatch), caplog.at_level(logging.WARNING):
        update_metrics_textfile(tmp_path / "gpufan.prom", path, 15)
    (first, second) = caplog.messages
    assert first == second
    assert re.search(r"gpufan\.prom cannot be written: No space left on device.*; it is tried again$", first)


def test_a_failed_single_write_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GpufanError, match=r"gpufan\.prom cannot be written: .*; choose another --textfile"):
        write_metrics_textfile(tmp_path / "none" / "gpufan.prom", tmp_path)


# ---- the command ----


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--listen", "x"], "is not an address"),
        (["--once"], "--once goes with --textfile"),
        (["--every", "5"], "--every goes with --textfile"),
        (["--textfile", "a.txt"], "end with .prom: name such a file"),
        (["--textfile", "pipe.prom", "--once"], "pipe.prom is not a file: name another --textfile"),
        (["--textfile", "a.prom", "--listen", ":1"], "exclude each other"),
        (["--textfile", "a.prom", "--once", "--every", "5"], "exclude each other"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.prom")
    with pytest.raises((InputError, click.BadParameter)) as refused:
        cli.main(["exporter", *arguments], standalone_mode=False)
    assert complaint in str(refused.value)


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "gpufan.metrics.exporter")
    with pytest.raises(InputError, match=r"metrics need prometheus_client.*pip install 'gpufan\[metrics\]'"):
        cli.main(["exporter"], standalone_mode=False)


def test_100_clients_can_connect_at_once(tmp_path: Path) -> None:
    with ExporterServer(("127.0.0.1", 0), metrics_registry(tmp_path / "state.json")) as server, ExitStack() as crowd:
        address = ("127.0.0.1", server.socket.getsockname()[1])
        for _ in range(100):  # and none is accepted yet
            crowd.enter_context(socket.create_connection(address, timeout=0.5))
