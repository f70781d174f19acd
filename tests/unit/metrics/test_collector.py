"""Metrics for Prometheus: their values, that Prometheus accepts them, and that no client delays another."""

import errno
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from gpufan.cli.main import cli
from gpufan.cli.metrics import _listen_address, exporter
from gpufan.core.gpu import FanReading
from gpufan.core.reasons import Cause, Reason
from gpufan.core.snapshot import Errors
from gpufan.daemon.snapshot_file import SnapshotFile, snapshot_now
from gpufan.errors import GpufanError, InputError
from gpufan.metrics import exporter as serving
from gpufan.metrics.collector import registry
from gpufan.metrics.exporter import Server, write_textfile
from gpufan.system.printable import printable
from tests.doubles import require
from tests.unit.builders import gpu_state

CARD = {"uuid": "GPU-11111111-2222-3333-4444-555555555555", "index": "0", "name": "GTX", "pci": "00000000:0A:00.0"}


def written(folder: Path, *gpus: object, age_s: float = 0, **changes: object) -> Path:
    """A snapshot of `gpus`, of one card if there are none given."""
    taken = snapshot_now(gpus or (gpu_state(name="GTX"),), interval_s=1)  # type: ignore[arg-type]
    taken = msgspec.structs.replace(taken, time_s=time.time() - age_s, **changes)
    SnapshotFile(folder / "state.json").write(taken)
    return folder / "state.json"


def samples(path: Path) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and its labels without those that name the card."""
    text = generate_latest(registry(path)).decode()
    return {
        (sample.name, frozenset(item for item in sample.labels.items() if item[0] not in CARD)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(path: Path, name: str, **labels: str) -> float | None:
    return samples(path).get((name, frozenset(labels.items())))


# ---- the values ----


def test_temperature_power_and_duty_of_a_card_are_in_base_units(tmp_path: Path) -> None:
    path = written(tmp_path, gpu_state(slowdown_c=93))
    assert value(path, "gpufan_gpu_temperature_celsius") == 74
    assert value(path, "gpufan_gpu_slowdown_temperature_celsius") == 93
    assert value(path, "gpufan_gpu_power_watts") == 229.7
    assert value(path, "gpufan_gpu_duty_ratio") == 0.62
    assert value(path, "gpufan_fan_speed_ratio", fan="0") == 0.61
    assert value(path, "gpufan_fan_target_ratio", fan="0") == 0.62
    assert value(path, "gpufan_fan_speed_rpm", fan="0") == 2950


def test_every_sample_of_a_card_has_the_labels_of_the_card(tmp_path: Path) -> None:
    families = text_string_to_metric_families(generate_latest(registry(written(tmp_path))).decode())
    of_cards = [sample for family in families for sample in family.samples if "_gpu_" in sample.name]
    assert len(of_cards) > 20
    assert all(CARD.items() <= sample.labels.items() for sample in of_cards)


def test_unknown_values_are_absent(tmp_path: Path) -> None:
    fan = FanReading(None, None, None)
    path = written(tmp_path, gpu_state(temperature_c=None, power_w=None, duty_percent=None, fans=(fan,)))
    absent = ("temperature", "power", "duty", "speed", "target", "slowdown", "throttle{")
    assert not [name for name, _ in samples(path) if any(f"_{word}_" in name for word in absent)]


def test_one_control_one_kind_and_one_throttle_reason_is_1_at_a_time(tmp_path: Path) -> None:
    path = written(tmp_path, gpu_state(control="released", group="fault", throttle="heat"))
    holding = [(name, dict(labels)) for (name, labels), number in samples(path).items() if number == 1]
    assert ("gpufan_gpu_control", {"state": "released"}) in holding
    assert ("gpufan_gpu_reason", {"kind": "fault"}) in holding
    assert ("gpufan_gpu_throttle", {"reason": "heat"}) in holding
    for name in ("control", "reason", "throttle"):
        assert sum(held == f"gpufan_gpu_{name}" for held, _ in holding) == 1
    assert value(path, "gpufan_gpu_control", state="ours") == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"fault": Reason(Cause.FAN_STILL, fan=1, found_percent=100, seconds=10.0)},
        {"control": "released", "reason": Reason(Cause.FAN_STILL, fan=1, found_percent=100, seconds=10.0)},
    ],
)
def test_a_fault_of_the_fans_is_1_and_every_other_fault_is_0(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = written(tmp_path, gpu_state(**changes))
    faults = {
        dict(labels)["cause"]: number for (name, labels), number in samples(path).items() if name == "gpufan_gpu_fault"
    }
    assert {cause for cause, number in faults.items() if number} == {"fan-still"}
    assert faults.keys() >= {
        "fan-slow",
        "fan-floor",
        "fan-fast",
        "other-target",
        "fan-taken",
        "fan-released",
        "refused",
    }


def test_the_time_without_control_is_exported(tmp_path: Path) -> None:
    assert value(written(tmp_path), "gpufan_gpu_uncontrolled_seconds") == 0
    assert value(written(tmp_path, gpu_state(uncontrolled_s=12.5)), "gpufan_gpu_uncontrolled_seconds") == 12.5


def test_errors_are_counted_by_kind(tmp_path: Path) -> None:
    counts = Errors(refused=1, unreadable=2, lost=3, not_given_back=4)
    path = written(tmp_path, gpu_state(overrides=5, errors_by_kind=counts, fail_safe_s=6.5, throttled_s=7.5))
    assert value(path, "gpufan_gpu_overrides_total") == 5
    assert [
        value(path, "gpufan_gpu_errors_total", kind=kind)
        for kind in ("refused", "unreadable", "lost", "not-given-back")
    ] == [1, 2, 3, 4]
    assert value(path, "gpufan_gpu_fail_safe_seconds_total") == 6.5
    assert value(path, "gpufan_gpu_throttled_seconds_total") == 7.5


def test_settings_backend_and_versions_are_labels(tmp_path: Path) -> None:
    path = written(tmp_path, gpu_state(settings="curve 50:30,83:100"), version="9.9")
    assert value(path, "gpufan_gpu_config_info", backend="nvml", settings="curve 50:30,83:100") == 1
    assert ("gpufan_build_info", "9.9") in [(name, dict(labels).get("version")) for name, labels in samples(path)]


def test_the_run_has_metrics_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, started_s=1.5e9, interval_s=2.0, dry_run=True, clock_steps=3, reload_refused="a mistake")
    assert value(path, "gpufan_start_time_seconds") == 1.5e9
    assert value(path, "gpufan_interval_seconds") == 2
    assert value(path, "gpufan_dry_run") == 1
    assert value(path, "gpufan_clock_steps_total") == 3
    assert value(path, "gpufan_reload_refused") == 1


def test_with_a_fresh_snapshot_gpufan_is_up(tmp_path: Path) -> None:
    path = written(tmp_path, age_s=3)
    assert value(path, "gpufan_up") == 1
    assert value(path, "gpufan_snapshot_age_seconds") == pytest.approx(3, abs=1)


def test_a_stale_snapshot_has_an_age_and_no_metrics_of_cards(tmp_path: Path) -> None:
    path = written(tmp_path, age_s=100)
    assert value(path, "gpufan_up") == 0
    assert value(path, "gpufan_snapshot_age_seconds") == pytest.approx(100, abs=1)
    assert not [name for name, _ in samples(path) if "_gpu_" in name or "_fan_" in name]


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff", b'{"format":2}'])
def test_without_a_snapshot_gpufan_is_down_and_the_metrics_are_valid(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "state.json"
    if content is not None:
        path.write_bytes(content)
    assert {name: number for (name, _), number in samples(path).items()} == {"gpufan_up": 0, "gpufan_build_info": 1}


ODD = 'an "odd"\n\\n} name{} = 1 # é😀\t\x7f'


@pytest.mark.slow
@given(name=st.text(st.characters(codec="utf-8"), max_size=30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_any_name_of_a_card_is_exported(tmp_path: Path, name: str) -> None:
    test_an_odd_name_of_a_card_is_exported(tmp_path, name)


@pytest.mark.parametrize("name", ["", ODD])
def test_an_odd_name_of_a_card_is_exported(tmp_path: Path, name: str) -> None:
    made = registry(written(tmp_path, gpu_state(name=name, settings=name)))
    for text, parse in (
        (generate_latest(made), text_string_to_metric_families),
        (generate_openmetrics(made), read_openmetrics),
    ):
        names = {s.labels["name"] for family in parse(text.decode()) for s in family.samples if "name" in s.labels}
        assert names == {printable(name)}


def test_promtool_accepts_the_metrics(tmp_path: Path) -> None:
    gpus = (gpu_state(name=ODD, throttle="none"), gpu_state(index=1, uuid="GPU-2", pci="1", fans=()))
    for path in (written(tmp_path, *gpus), tmp_path / "none"):
        checked = subprocess.run(
            [require("promtool", "prometheus"), "check", "metrics"],
            input=generate_latest(registry(path)),
            capture_output=True,
            check=False,
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


# ---- over HTTP ----


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), registry(written(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def request(server: Server, method: str, path: str, **headers: str) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=5)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers.get_content_type(), response.read()
    finally:
        connection.close()


def test_metrics_are_served_as_text_and_as_openmetrics(server: Server) -> None:
    status, kind, body = request(server, "GET", "/metrics")
    assert (status, kind) == (200, "text/plain")
    assert b"gpufan_up 1.0" in body
    status, kind, body = request(server, "GET", "/metrics", Accept="application/openmetrics-text;version=1.0.0")
    assert (status, kind, body[-6:]) == (200, "application/openmetrics-text", b"# EOF\n")


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/metrics/", "/metricsx", "/../etc/passwd"])
def test_every_other_path_is_not_found(server: Server, path: str) -> None:
    status, _, body = request(server, "GET", path)
    assert status == 404
    assert b"gpufan_up" not in body


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(server: Server, method: str) -> None:
    assert request(server, method, "/metrics")[0] == 501


def test_a_slow_client_delays_no_other(server: Server) -> None:
    with socket.create_connection(server.server_address[:2], 5) as slow:
        slow.sendall(b"GET /met")
        began_s = time.monotonic()
        assert request(server, "GET", "/metrics")[0] == 200
        assert time.monotonic() - began_s < serving.CLIENT_TIMEOUT_S / 2


def test_a_slow_client_is_disconnected(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    assert serving._Handler.timeout == serving.CLIENT_TIMEOUT_S
    monkeypatch.setattr(serving._Handler, "timeout", 0.05)
    with socket.create_connection(server.server_address[:2], 5) as slow:
        slow.sendall(b"GET /met")
        assert slow.recv(1) == b""


def test_80_clients_that_drip_are_disconnected_and_delay_nobody_for_long(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving._Handler, "timeout", 1.0)
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


def test_headers_of_6_megabytes_are_not_read(server: Server) -> None:
    with socket.create_connection(server.server_address[:2], 5) as client, suppress(ConnectionError):
        client.sendall(b"GET /metrics HTTP/1.0\r\n")
        with suppress(ConnectionError):
            for _ in range(99):
                client.sendall(b"A: " + b"a" * 60_000 + b"\r\n")
            client.sendall(b"\r\n")
        assert client.recv(1) == b""
    assert request(server, "GET", "/metrics")[0] == 200


def test_a_client_that_disconnects_is_not_reported(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(server.server_address[:2], 5) as gone:
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # ends with a reset
        gone.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert request(server, "GET", "/metrics")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_port_in_use_is_an_error_with_the_remedy(server: Server, tmp_path: Path) -> None:
    host, port = server.server_address[:2]
    with pytest.raises(GpufanError, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use.*--listen"):
        Server((str(host), port), registry(tmp_path))


@pytest.mark.parametrize("host", ["..", "a" * 80, "999.1.1.1"])
def test_an_unknown_host_is_an_input_error(tmp_path: Path, host: str) -> None:
    with pytest.raises(InputError, match="there is no host"):
        Server((host, 0), registry(tmp_path))


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
    assert _listen_address(text) == address


@pytest.mark.parametrize("text", ["", "10835", "localhost", "::1:80", "a:b", "a:65536", "a:-1", "[x]:1", "a b:1"])
def test_a_wrong_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match=r"write it as 127\.0\.0\.1:10835"):
        _listen_address(text)


def test_by_default_metrics_are_served_to_this_machine_only() -> None:
    (listen,) = [option for option in exporter.params if option.name == "listen"]
    assert isinstance(listen, click.Option)
    assert listen.default == "127.0.0.1:10835"


# ---- into a file ----


def fail(*_: object) -> None:
    raise AssertionError("nothing to complain of")


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
    write_textfile(file, written(tmp_path), None, fail)
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
        write_textfile(tmp_path / "gpufan.prom", path, 15, fail)
    assert (len(replaced), slept) == (3, [15, 15, 15])
    assert not (tmp_path / "gpufan.prom").exists()


def test_a_failed_write_is_reported_once_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = [False, False, True, False, False]

    def replace(file: Path, data: bytes) -> None:
        if not outcomes.pop(0):
            raise OSError(errno.ENOSPC, "No space left on device")

    path = written(tmp_path)
    monkeypatch.setattr(serving, "replace_unsynced", replace)
    complaints: list[str] = []
    with ended_after(len(outcomes), monkeypatch):
        write_textfile(tmp_path / "gpufan.prom", path, 15, complaints.append)
    assert complaints == [f"{tmp_path}/gpufan.prom cannot be written: No space left on device; trying again"] * 2


def test_a_failed_single_write_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(GpufanError, match=r"gpufan\.prom cannot be written: .*; choose another --textfile"):
        write_textfile(tmp_path / "none" / "gpufan.prom", tmp_path, None, fail)


# ---- the command ----


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--listen", "x"], "is not an address"),
        (["--once"], "--once goes with --textfile"),
        (["--every", "5"], "--every goes with --textfile"),
        (["--textfile", "a.txt"], "end with .prom"),
        (["--textfile", "a.prom", "--listen", ":1"], "exclude each other"),
        (["--textfile", "a.prom", "--once", "--every", "5"], "exclude each other"),
    ],
)
def test_options_that_exclude_each_other_are_refused(arguments: list[str], complaint: str) -> None:
    with pytest.raises((InputError, click.BadParameter)) as refused:
        cli.main(["exporter", *arguments], standalone_mode=False)
    assert complaint in str(refused.value)


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "gpufan.metrics.exporter")
    with pytest.raises(InputError, match=r"metrics need prometheus_client.*pip install 'gpufan\[metrics\]'"):
        cli.main(["exporter"], standalone_mode=False)


def test_100_clients_can_connect_at_once(tmp_path: Path) -> None:
    with Server(("127.0.0.1", 0), registry(tmp_path / "state.json")) as server, ExitStack() as crowd:
        address = ("127.0.0.1", server.socket.getsockname()[1])
        for _ in range(100):  # and none is accepted yet
            crowd.enter_context(socket.create_connection(address, timeout=0.5))
