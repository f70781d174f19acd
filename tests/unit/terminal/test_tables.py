"""What `gpufan status` prints of a card: a problem in red on a terminal, and plain text in a pipe."""

import json
import re
from pathlib import Path

import pytest
from rich.cells import cell_len

from gpufan.core.gpu import FanReading
from gpufan.core.reasons import Cause, Reason
from gpufan.core.sentences import card_sentence, rpm_text
from gpufan.core.snapshot import SettingsInUse
from gpufan.daemon.snapshot_file import SnapshotFile, snapshot_now
from gpufan.terminal.drawing import temperature_style
from gpufan.terminal.tables import print_cards, print_cards_as_json, print_status
from tests.unit.builders import FakeGpu, gpu_state

STILL = gpu_state(
    fault=Reason(Cause.FAN_STILL, fan=1, found_percent=100, seconds=10.0),
    uncontrolled_s=65.0,
    settings="target 78 °C",
    fans=(FanReading(61, 62, True, 2950), FanReading(61, 62, True, 0)),
)


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    SnapshotFile(tmp_path / "state.json").write(snapshot_now((STILL,), interval_s=1))
    return tmp_path / "state.json"


def status_on_a_terminal(snapshot: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_status(snapshot, as_json=False)
    return capsys.readouterr().out


@pytest.mark.parametrize("is_simulated", [True, False])
def test_status_says_that_cards_are_simulated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_simulated: bool
) -> None:
    simulated_s = 7.0 if is_simulated else None
    SnapshotFile(tmp_path / "state.json").write(snapshot_now((STILL,), interval_s=1, simulated_s=simulated_s))
    print_status(tmp_path / "state.json", as_json=False)
    assert capsys.readouterr().out.splitlines()[0].endswith("every 1 s, simulated cards") is is_simulated


def test_status_in_a_pipe_is_plain_text(snapshot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_status(snapshot, as_json=False)
    assert capsys.readouterr().out.splitlines()[1:] == [
        card_sentence(STILL),
        "  229.7 W, at 61 % 61 %, fans at 2950 0 rpm, target 78 °C, without control for 0:01:05",
    ]


def test_status_shows_no_power_of_a_case_fan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fan = gpu_state(uuid="fan:nct6798/pwm2", label="nct6798/pwm2", power_w=None, settings="follows all cards")
    SnapshotFile(tmp_path / "state.json").write(snapshot_now((STILL,), case_fans=(fan,), interval_s=1))
    print_status(tmp_path / "state.json", as_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == "  at 61 %, fan at 2950 rpm, follows all cards"


def test_status_on_a_terminal_is_the_table_with_rpm_and_settings(
    snapshot: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = re.sub(r"\x1b\[[0-9;]*m", "", status_on_a_terminal(snapshot, capsys, monkeypatch)).splitlines()
    assert lines[1].split() == ["GPU", "°C", "W", "set", "read", "why"]
    assert re.match(r"0 GTX 1080 Ti +74 +230 +62 % +61 61 +the curve gives 58 %", lines[2])
    assert lines[-1].strip() == "target 78 °C; fans at 2950 0 rpm"
    assert max(map(cell_len, lines)) <= 80


def test_status_shows_an_order_and_its_rest_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered = gpu_state(
        reason=Reason(Cause.CURVE, curve_percent=60), order="60 %", order_left_s=552.0, settings="ordered: 60 %"
    )
    path = tmp_path / "state.json"
    SnapshotFile(path).write(snapshot_now((ordered,), interval_s=1))
    print_status(path, as_json=False)
    for out in (capsys.readouterr().out, status_on_a_terminal(path, capsys, monkeypatch)):
        assert (out.count("ordered: 60 %, for another 0:09:12"), out.count("ordered")) == (1, 1)


def test_status_shows_which_settings_are_in_use_in_place_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = snapshot_now(
        (STILL,), interval_s=1, settings_in_use=SettingsInUse.BUILT_IN, settings_refused="f: line 3: a mistake"
    )
    SnapshotFile(tmp_path / "state.json").write(run)
    print_status(tmp_path / "state.json", as_json=False)
    assert "settings not used, but the built-in ones: f: line 3: a mistake\n" in capsys.readouterr().out


def test_status_on_a_terminal_shows_a_standing_fan_in_red(
    snapshot: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b[1;31mthe curve gives 58 %" in status_on_a_terminal(snapshot, capsys, monkeypatch)


def test_fans_whose_rpm_the_driver_does_not_report_have_none_in_status() -> None:
    assert rpm_text((FanReading(61, 62, True), FanReading(60, 62, True))) == ""
    assert rpm_text((FanReading(61, 62, True, 2950),)) == "fan at 2950 rpm"


@pytest.mark.parametrize(
    ("changes", "style"),
    [
        ({"temperature_c": 60.0}, "green"),
        ({"temperature_c": 83.0, "slowdown_c": 96}, "yellow"),
        ({"temperature_c": 91.0, "slowdown_c": 96}, "bold red"),
        ({"temperature_c": 85.0}, "bold red"),  # without a threshold of its own: 90 °C
        ({"temperature_c": 60.0, "throttle": "heat"}, "bold red"),
        ({"temperature_c": None}, ""),
    ],
)
def test_a_temperature_has_the_colour_of_its_distance_to_the_slowdown(changes: dict[str, object], style: str) -> None:
    assert temperature_style(gpu_state(**changes)) == style


def test_list_says_that_gpufan_sets_the_fans_over_x(capsys: pytest.CaptureFixture[str]) -> None:
    gpu = FakeGpu(backend="x11")
    print_cards([(gpu.info, gpu.read())], {gpu.info.uuid: 4711})
    assert "at 23 % 23 %, controlled by gpufan (process 4711), over X\n" in capsys.readouterr().out


def test_a_card_that_does_not_answer_is_listed_as_json_without_readings(capsys: pytest.CaptureFixture[str]) -> None:
    info = FakeGpu().info
    print_cards_as_json([(info, None)], {})
    (card,) = json.loads(capsys.readouterr().out)
    assert (card["uuid"], card["answers"], "temperature_c" in card) == (info.uuid, False, False)
