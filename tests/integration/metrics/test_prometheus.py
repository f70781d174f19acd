"""The real Prometheus scrapes the real exporter: of a simulated run, and of a run with every kind of trouble."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from gpufan.core.reasons import Cause, Reason
from gpufan.daemon.snapshot_file import SnapshotFile, snapshot_now
from gpufan.metrics.dashboard import ALERTS, DASHBOARD, dashboard_files
from tests.doubles import require
from tests.doubles.nvml import wait_for
from tests.unit.builders import gpu_state

pytestmark = pytest.mark.slow

VARIABLES = {"$__rate_interval": "10s", "$__range": "30s"}


class Trouble:
    """A snapshot with a card for each alert, that gets worse each time it is written."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._file = SnapshotFile(folder / "state.json")
        self._written = 0

    def get_worse(self) -> None:
        self._written += 1
        cards = (
            {"group": "fail-safe"},
            {"control": "lost", "group": "lost", "temperature_c": None, "fans": ()},
            {"control": "released", "group": "fault"},
            {"temperature_c": 92.0, "slowdown_c": 93},
            {"uncontrolled_s": 300.0},
            {"fault": Reason(Cause.FAN_STILL, fan=0, found_percent=100, seconds=10.0)},
            {"fault": Reason(Cause.FAN_SLOW, fan=0, found_percent=40, set_percent=62)},
            {"overrides": 10 * self._written, "throttle": "heat", "throttled_s": 1000.0 * self._written},
        )
        states = tuple(
            gpu_state(**{"index": index, "uuid": f"GPU-{index}", "name": "GTX", **changes})
            for index, changes in enumerate(cards)
        )
        fans = (
            {"fault": Reason(Cause.FAN_STILL, fan=0, found_percent=100, seconds=10.0)},
            {"fault": Reason(Cause.FAN_SLOW, fan=0, found_percent=40, set_percent=62)},
            {"uncontrolled_s": 300.0},
            {"overrides": 10 * self._written},
        )
        case_fans = tuple(gpu_state(name=f"nct6798/pwm{number}", **fan) for number, fan in enumerate(fans, 1))
        self._file.write(snapshot_now(states, interval_s=1, reload_refused="a mistake", case_fans=case_fans))


class Prometheus:
    """A server that scrapes and evaluates every second."""

    def __init__(self, folder: Path, targets: list[str], stack: ExitStack) -> None:
        for name, data in dashboard_files().items():
            (folder / name).write_bytes(data)
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [ALERTS],
            "scrape_configs": [{"job_name": "gpufan", "static_configs": [{"targets": targets}]}],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))
        self._log = (folder / "prometheus.log").open("w+")
        stack.callback(self._log.close)
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self._process = stack.enter_context(
            subprocess.Popen(
                [
                    require("prometheus", "prometheus"),
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=subprocess.DEVNULL,
                stderr=self._log,
            )
        )
        stack.callback(self._process.kill)

    def ask(self, path: str, **parameters: str) -> Any:
        with urlopen(f"{self._url}/api/v1/{path}?{urlencode(parameters)}", timeout=5) as response:
            answer = json.load(response)
        assert answer["status"] == "success"
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return result

    def is_up(self) -> bool:
        assert self._process.poll() is None, self._log.read()
        try:
            return bool(self.query("up"))
        except (URLError, ConnectionError):
            return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def gpufan(stack: ExitStack, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gpufan", *arguments]
    process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    stack.callback(process.kill)
    return process


def exporter(stack: ExitStack, folder: Path) -> str:
    """Start one for the snapshot in `folder`; its address."""
    process = gpufan(stack, "exporter", "--listen", "127.0.0.1:0", "--runtime-dir", str(folder))
    assert process.stdout is not None
    return process.stdout.readline().split("/")[2]


def eventually(condition: Callable[[], object], between: Callable[[], object]) -> None:
    """Return as soon as `condition` is true; what is `between` happens every half second."""
    end_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_s, "not true within a minute"
        between()
        time.sleep(0.5)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, dict[str, str], Trouble]]:
    """Prometheus, the address of the exporter of each run, and the run in trouble."""
    require("prometheus", "prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    with ExitStack() as stack:
        trouble = Trouble(folder / "trouble")
        trouble.get_worse()
        gpufan(stack, "run", "--simulate", "dual-1080ti-case", "--runtime-dir", str(folder / "well"))
        wait_for((folder / "well" / "state.json").exists)
        addresses = {name: exporter(stack, folder / name) for name in ("well", "trouble", "gone")}
        prometheus = Prometheus(folder, list(addresses.values()), stack)
        eventually(prometheus.is_up, trouble.get_worse)
        yield prometheus, addresses, trouble


def test_every_alert_is_raised_where_there_is_trouble_and_none_where_all_is_well(
    box: tuple[Prometheus, dict[str, str], Trouble],
) -> None:
    prometheus, addresses, trouble = box
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    def raised() -> set[tuple[str, str]]:
        return {
            (alert["labels"]["alertname"], alert["labels"]["instance"]) for alert in prometheus.ask("alerts")["alerts"]
        }

    wanted = {(rule["name"], addresses["gone" if rule["name"] == "GpufanDown" else "trouble"]) for rule in rules}
    assert len(wanted) == 15
    eventually(lambda: wanted <= raised(), trouble.get_worse)
    assert raised() == wanted


def test_every_alert_names_its_box(box: tuple[Prometheus, dict[str, str], Trouble]) -> None:
    prometheus, _, trouble = box
    eventually(lambda: prometheus.ask("alerts")["alerts"], trouble.get_worse)
    for alert in prometheus.ask("alerts")["alerts"]:
        assert alert["labels"]["instance"] in alert["annotations"]["summary"]
        assert "error expanding template" not in "".join(alert["annotations"].values())
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}


def test_every_expression_of_the_dashboard_has_a_result(box: tuple[Prometheus, dict[str, str], Trouble]) -> None:
    prometheus, addresses, trouble = box
    expressions = [
        target["expr"]
        for panel in json.loads(dashboard_files()[DASHBOARD])["panels"]
        for target in panel.get("targets", ())
    ]
    assert len(expressions) > 15
    for expression in expressions:
        for variable, value in {**VARIABLES, "$instance": addresses["well"]}.items():
            expression = expression.replace(variable, value)
        assert "$" not in expression
        eventually(lambda asked=expression: prometheus.query(asked), trouble.get_worse)


def test_the_selectable_boxes_are_the_scraped_ones(
    box: tuple[Prometheus, dict[str, str], Trouble],
) -> None:
    prometheus, addresses, trouble = box
    variables = json.loads(dashboard_files()[DASHBOARD])["templating"]["list"]
    assert [variable["query"]["query"] for variable in variables if variable["type"] == "query"] == [
        "label_values(gpufan_up, instance)"
    ]
    eventually(lambda: len(prometheus.query("gpufan_up")) == 3, trouble.get_worse)
    assert {sample["metric"]["instance"] for sample in prometheus.query("gpufan_up")} == set(addresses.values())
