"""Files for monitoring: alert rules that fire only when they should, and a valid dashboard."""

import json
import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from gpufan.daemon.snapshot_file import SnapshotFile, snapshot_now
from gpufan.metrics.collector import metrics_registry
from gpufan.metrics.dashboard import DASHBOARD, dashboard_files
from gpufan.system.resources import resource
from tests.doubles import require
from tests.unit.builders import gpu_state

RULES = resource("templates/alerts.yml")
CARD = 'instance="box",uuid="GPU-1",index="0",name="GTX",pci="1"'


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(dashboard_files()[DASHBOARD])["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


# ---- alerts ----


def test_promtool_accepts_the_rules() -> None:
    done = subprocess.run(
        [require("promtool", "prometheus"), "check", "rules", "--lint=all", "--lint-fatal", str(RULES)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def gpu(metric: str, values: str, **labels: str) -> tuple[str, str]:
    """A series of one card, a value a minute."""
    more = "".join(f',{label}="{value}"' for label, value in labels.items())
    return f"gpufan_gpu_{metric}{{{CARD}{more}}}", values


def case_fan(metric: str, values: str, **labels: str) -> tuple[str, str]:
    """A series of one case fan, a value a minute."""
    more = "".join(f',{label}="{value}"' for label, value in labels.items())
    return f'gpufan_case_fan_{metric}{{instance="box",name="nct6798/pwm2"{more}}}', values


HOT, SLOWDOWN = gpu("temperature_celsius", "88x60"), gpu("slowdown_temperature_celsius", "93x60")

# Case: the alert that fires, of which series, at which minute.
CASES: dict[str, tuple[str | None, list[tuple[str, str]], int]] = {
    "gpufan is gone": ("GpufanDown", [('gpufan_up{instance="box"}', "1 1 0x60")], 5),
    "its exporter is gone": ("GpufanDown", [('up{instance="box",job="gpufan-exporter"}', "1 1 0x60")], 5),
    "its file is not written any more": (
        "GpufanDown",
        [('node_textfile_mtime_seconds{instance="box",file="/var/lib/gpufan.prom"}', "0x60")],
        10,
    ),
    "its file is written": (
        None,
        [('node_textfile_mtime_seconds{instance="box",file="/var/lib/gpufan.prom"}', "0+60x60")],
        30,
    ),
    "gpufan is started again": (None, [('gpufan_up{instance="box"}', "1 1 0 1x60")], 5),
    "another exporter is gone": (None, [('up{instance="box",job="node"}', "0x60")], 5),
    "5 degrees under the threshold": ("GpufanCardTooHot", [HOT, SLOWDOWN], 3),
    "6 degrees under the threshold": (None, [gpu("temperature_celsius", "87x60"), SLOWDOWN], 30),
    "85 without a threshold": ("GpufanCardTooHot", [gpu("temperature_celsius", "85x60")], 3),
    "84 without a threshold": (None, [gpu("temperature_celsius", "84x60")], 30),
    "hot for a moment": (None, [gpu("temperature_celsius", "60 90 60x60"), SLOWDOWN], 5),
    "in the fail-safe": ("GpufanFailSafe", [gpu("reason", "0 1x60", kind="fail-safe")], 4),
    "on the curve": (None, [gpu("reason", "1x60", kind="curve"), gpu("reason", "0x60", kind="fail-safe")], 30),
    "lost": ("GpufanCardLost", [gpu("control", "0 1x60", state="lost")], 4),
    "given back": ("GpufanFansReleased", [gpu("control", "0 1x60", state="released")], 5),
    "ours": (None, [gpu("control", "1x60", state="ours"), gpu("control", "0x60", state="lost")], 30),
    "without control for two minutes": ("GpufanUncontrolled", [gpu("uncontrolled_seconds", "0+60x60")], 4),
    "without control for a moment": (None, [gpu("uncontrolled_seconds", "0 60 0x60")], 5),
    "a fan that stands still": ("GpufanFanStill", [gpu("fault", "0 1x60", cause="fan-still")], 3),
    "a fan that is slow": ("GpufanFanSlow", [gpu("fault", "0 1x60", cause="fan-slow")], 15),
    "a fan that is slow for a while": (None, [gpu("fault", "0 1x8 0x60", cause="fan-slow")], 15),
    "a floor of the driver": (None, [gpu("fault", "1x60", cause="fan-floor")], 30),
    "overridden again and again": ("GpufanFansOverridden", [gpu("overrides_total", "0+1x60")], 10),
    "overridden once": (None, [gpu("overrides_total", "0x5 1x60")], 10),
    "a case fan that stands still": ("GpufanCaseFanStill", [case_fan("fault", "0 1x60", cause="fan-still")], 3),
    "a case fan that is slow": ("GpufanCaseFanSlow", [case_fan("fault", "0 1x60", cause="fan-slow")], 15),
    "a case fan whose chip is gone": (
        "GpufanCaseFanUncontrolled",
        [case_fan("uncontrolled_seconds", "0+60x60"), case_fan("control", "1x60", state="lost")],
        4,
    ),
    "a case fan without a live card": (None, [case_fan("reason", "1x60", kind="fail-safe")], 30),
    "a case fan that another program sets": ("GpufanCaseFanOverridden", [case_fan("overrides_total", "0+1x60")], 10),
    "a case fan that another program set once": (None, [case_fan("overrides_total", "0x5 1x60")], 10),
    "throttled half of the time": ("GpufanThrottled", [gpu("throttled_seconds_total", "0+30x60")], 30),
    "throttled a little": (None, [gpu("throttled_seconds_total", "0+3x60")], 30),
    "settings refused": ("GpufanSettingsRefused", [('gpufan_reload_refused{instance="box"}', "1x60")], 10),
}


def test_each_alert_fires_when_it_should_and_no_other(tmp_path: Path) -> None:
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series],
            "promql_expr_test": [
                {
                    # The comment is for promtool to repeat where it finds a difference.
                    "expr": f'count by (alertname) (ALERTS{{alertstate="firing"}}) # {case}',
                    "eval_time": f"{minute}m",
                    "exp_samples": [] if alert is None else [{"labels": f'{{alertname="{alert}"}}', "value": 1}],
                }
            ],
        }
        for case, (alert, series, minute) in CASES.items()
    ]
    file = tmp_path / "test.yml"
    # Every JSON is YAML.
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(
        [require("promtool", "prometheus"), "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    assert {alert for alert, _, _ in CASES.values()} - {None} == set(re.findall(r"alert: (\w+)", RULES.read_text()))


# ---- the dashboard ----


def test_no_two_panels_overlap_and_none_is_too_wide() -> None:
    places = [panel["gridPos"] for panel in json.loads(dashboard_files()[DASHBOARD])["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


def test_every_panel_has_a_unique_number_and_a_description() -> None:
    found = json.loads(dashboard_files()[DASHBOARD])["panels"]
    assert len({panel["id"] for panel in found}) == len(found)
    assert all(panel["title"] and panel["description"] for panel in panels())


def test_grafana_knows_every_field_of_it() -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="Grafana's own types need CPython 3.11")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    ours = json.loads(dashboard_files()[DASHBOARD])
    theirs = json.loads(JSONEncoder().encode(Dashboard.from_json(ours)))
    assert missing(ours, theirs) == []


def missing(wanted: Any, found: Any, place: str = "") -> list[str]:
    """Where `found` differs from `wanted`, or lacks something of it."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [line for key in wanted for line in missing(wanted[key], found.get(key), f"{place}/{key}")]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(wanted, found, strict=True))
        return [line for number, pair in pairs for line in missing(*pair, f"{place}/{number}")]
    return [] if wanted == found else [f"{place}: {wanted} became {found}"]


def test_the_data_source_is_a_variable_everywhere() -> None:
    for panel in panels():
        for place in (panel, *panel["targets"]):
            assert place["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_dashboard_and_alerts_use_only_metrics_that_exist(tmp_path: Path) -> None:
    card = gpu_state(throttle="none", slowdown_c=93)
    SnapshotFile(tmp_path / "state.json").write(snapshot_now((card,), interval_s=1, case_fans=(card,)))
    told = set(
        re.findall(r"^(gpufan_\w+)", generate_latest(metrics_registry(tmp_path / "state.json")).decode(), re.MULTILINE)
    )
    asked = set(re.findall(r"gpufan_\w+", " ".join(expressions()) + RULES.read_text()))
    assert len(asked) > 10
    assert asked <= told
    assert {name for name in told if name.startswith("gpufan_case_fan_")} - asked == {
        "gpufan_case_fan_control",  # `uncontrolled_seconds` says it with the time
        "gpufan_case_fan_reason",
    }


UNITS = {"celsius": "celsius", "ratio": "percentunit", "rpm": "rotrpm", "seconds": "s", "watts": "watt"}


def test_a_graph_has_the_unit_of_its_metric() -> None:
    graphs = [panel for panel in panels() if panel["type"] == "timeseries"]
    shown = [
        (panel["fieldConfig"]["defaults"]["unit"], UNITS[unit[1]])
        for panel in graphs
        for target in panel["targets"]
        if (unit := re.match(r"gpufan_\w+_([a-z]+)\{", target["expr"])) and unit[1] in UNITS
    ]
    assert len(shown) >= 9
    assert all(unit == wanted for unit, wanted in shown)
