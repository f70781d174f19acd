"""Metrics for Prometheus: their values, and that Prometheus accepts them."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from gpufan.core.gpu import FanReading
from gpufan.core.reasons import Cause, Reason
from gpufan.core.snapshot import Errors
from gpufan.metrics.collector import metrics_registry
from gpufan.system.printable import printable
from tests.doubles import require
from tests.unit.builders import gpu_state
from tests.unit.metrics.conftest import written

CARD = {"uuid": "GPU-11111111-2222-3333-4444-555555555555", "index": "0", "name": "GTX", "pci": "00000000:0A:00.0"}


def samples(path: Path) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and its labels without those that name the card."""
    text = generate_latest(metrics_registry(path)).decode()
    return {
        (sample.name, frozenset(item for item in sample.labels.items() if item[0] not in CARD)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(path: Path, name: str, **labels: str) -> float | None:
    return samples(path).get((name, frozenset(labels.items())))


# ---- the values ----


def test_a_case_fan_has_metrics_of_its_own(tmp_path: Path) -> None:
    name = "nct6798/pwm2"
    counts = {"overrides": 2, "errors_by_kind": Errors(refused=3)}
    fan = gpu_state(uuid=f"fan:{name}", label=name, name=name, settings="follows all cards", **counts)
    path = written(tmp_path, gpu_state(), case_fans=(fan,))
    text = generate_latest(metrics_registry(path)).decode()
    for line in (
        'gpufan_case_fan_temperature_celsius{name="nct6798/pwm2"} 74.0',
        'gpufan_case_fan_duty_ratio{name="nct6798/pwm2"} 0.62',
        'gpufan_case_fan_speed_rpm{name="nct6798/pwm2"} 2950.0',
        'gpufan_case_fan_control{name="nct6798/pwm2",state="ours"} 1.0',
        'gpufan_case_fan_overrides_total{name="nct6798/pwm2"} 2.0',
        'gpufan_case_fan_uncontrolled_seconds{name="nct6798/pwm2"} 0.0',
        'gpufan_case_fan_errors_total{kind="refused",name="nct6798/pwm2"} 3.0',
        'gpufan_case_fan_config_info{name="nct6798/pwm2",settings="follows all cards"} 1.0',
    ):
        assert line in text.splitlines()
    assert text.count("gpufan_gpu_temperature_celsius{") == 1


def test_a_box_without_case_fans_has_no_metrics_of_them(tmp_path: Path) -> None:
    assert "case_fan" not in generate_latest(metrics_registry(written(tmp_path, gpu_state()))).decode()


def test_temperature_power_and_duty_of_a_card_are_in_base_units(tmp_path: Path) -> None:
    path = written(tmp_path, gpu_state(slowdown_c=93))
    assert value(path, "gpufan_gpu_temperature_celsius") == 74
    assert value(path, "gpufan_gpu_slowdown_temperature_celsius") == 93
    assert value(path, "gpufan_gpu_power_watts") == 229.7
    assert value(path, "gpufan_gpu_duty_ratio") == 0.62
    assert value(path, "gpufan_fan_speed_ratio", fan="0") == 0.61
    assert value(path, "gpufan_fan_target_ratio", fan="0") == 0.62
    assert value(path, "gpufan_fan_speed_rpm", fan="0") == 2950


def test_limits_and_what_they_hold_back_are_in_base_units_and_absent_without_limits(tmp_path: Path) -> None:
    limits = {"power_limit_w": 180.0, "temperature_limit_c": 79.0, "held_back_w": 48.5, "held_back_j": 1200.0}
    path = written(tmp_path, gpu_state(**limits))
    assert value(path, "gpufan_gpu_power_limit_watts") == 180
    assert value(path, "gpufan_gpu_temperature_limit_celsius") == 79
    assert value(path, "gpufan_gpu_power_held_back_watts") == 48.5
    assert value(path, "gpufan_gpu_energy_held_back_joules_total") == 1200
    assert value(written(tmp_path, gpu_state()), "gpufan_gpu_power_limit_watts") is None


def test_every_sample_of_a_card_has_the_labels_of_the_card(tmp_path: Path) -> None:
    families = text_string_to_metric_families(generate_latest(metrics_registry(written(tmp_path))).decode())
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


def test_the_headers_of_a_card_are_a_label(tmp_path: Path) -> None:
    path = written(tmp_path, gpu_state(backend="hwmon", settings="s", channels=("nct6798/pwm2", "it8688/pwm1")))
    headers = "nct6798/pwm2, it8688/pwm1"
    assert value(path, "gpufan_gpu_config_info", backend="hwmon", settings="s", headers=headers) == 1


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
    made = metrics_registry(written(tmp_path, gpu_state(name=name, settings=name)))
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
            input=generate_latest(metrics_registry(path)),
            capture_output=True,
            check=False,
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
