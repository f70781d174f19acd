"""`gpufan list --fans`, `fans identify` and `fans calibrate` on the files of a chip."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpufan.hwmon import chip_files
from gpufan.service import channel_trials
from tests.doubles.hwmon import HwmonDouble, make_hanging_chip, make_plain_chip
from tests.doubles.nvml import wait_for
from tests.integration.harness import guardians
from tests.integration.hwmon.conftest import Start, is_as_before

Gpufan = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_trials, "POLL_S", 0.06)
    monkeypatch.setattr(channel_trials, "SETTLE_S", 2.0)


def test_every_channel_is_listed_with_rpm_duty_and_who_sets_it(gpufan: Gpufan, chip: HwmonDouble) -> None:
    chip.change(1, mode=1, raw=128)
    status, out, _ = gpufan("list", "--fans")
    assert status == 0
    lines = out.splitlines()
    assert lines[1].startswith("nct6798/pwm1  CPU Fan")
    assert "50 %  the BIOS or another program: 50 % in manual mode" in lines[1]
    assert "800  40 %  the chip, in its automatic mode 5" in lines[2]
    assert json.loads(gpufan("list", "--fans", "--json")[1])[2]["name"] == "nct6798/pwm3"


def test_a_hanging_chip_is_listed_as_unknown(gpufan: Gpufan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chip_files, "ANSWER_S", 0.1)
    monkeypatch.setenv("GPUFAN_SYS_FOLDER", str(tmp_path / "sys"))
    make_hanging_chip(tmp_path / "sys", "hanging")
    make_plain_chip(tmp_path / "sys", "healthy")
    lines = gpufan("list", "--fans")[1].splitlines()
    assert "unknown: its chip does not answer: pwm1 hangs" in lines[1]
    assert "the chip, in its automatic mode 2" in lines[2]


def test_a_channel_that_gpufan_sets_names_the_card(start_p40: Start, gpufan: Gpufan, chip: HwmonDouble) -> None:
    program = start_p40()
    wait_for(lambda: f"gpufan (process {program.process.pid}), for 0 Tesla P40" in gpufan("list", "--fans")[1])


def test_a_box_without_channels_says_which_module_to_load(gpufan: Gpufan, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("GPUFAN_SYS_FOLDER", str(tmp_path))
    assert "modprobe" in gpufan("list", "--fans")[1]
    assert gpufan("fans", "identify")[0] == 1


def test_identify_moves_each_fan_and_gives_each_back(gpufan: Gpufan, chip: HwmonDouble, folder: Path) -> None:
    status, out, err = gpufan("fans", "identify")
    assert status == 0, err
    lines = out.splitlines()
    assert [line.partition(": ")[2] for line in lines] == [
        f"at 100 % fan{number} went from {old} to {new} rpm"
        for number, old, new in ((1, 800, 2000), (2, 800, 2000), (3, 1920, 4800))
    ]
    assert all(is_as_before(chip, channel) for channel in (1, 2, 3))
    assert not (folder / "taken.json").exists()


def test_identify_finds_a_tachometer_that_has_another_number(gpufan: Gpufan, chip: HwmonDouble) -> None:
    chip.change(1, is_blocked=True, speed_percent=0.0)
    chip.change(2, has_tachometer=False)
    chip.change(3, tachometer=7)
    lines = gpufan("fans", "identify")[1].splitlines()
    assert lines[0].endswith("a fan without a tachometer is nct6798/pwm1/none")
    assert lines[2] == "nct6798/pwm3: at 100 % fan7 went from 1920 to 4800 rpm: name it nct6798/pwm3/fan7"


def test_identify_says_if_a_higher_duty_makes_a_fan_slower(gpufan: Gpufan, chip: HwmonDouble) -> None:
    chip.change(1, is_inverted=True)
    line = gpufan("fans", "identify")[1].splitlines()[0]
    assert "at 100 % fan1 went from 1200 to 0 rpm: a higher duty makes it slower: correct that in the BIOS" in line


def test_identify_goes_on_after_a_channel_that_cannot_be_set(gpufan: Gpufan, chip: HwmonDouble) -> None:
    chip.change(1, mode_error=errno.EIO)
    chip.change(2, is_blocked=True, speed_percent=0.0)
    status, out, err = gpufan("fans", "identify")
    lines = out.splitlines()
    assert (status, err) == (1, "gpufan: 1 of 3 fans could not be tried: the lines above say why\n")
    assert lines[0] == "nct6798/pwm1 (CPU Fan): Input/output error"
    assert "no tachometer followed" in lines[1]
    assert "fan3 went" in lines[2]


def test_a_fan_that_identify_cannot_give_back_stays_in_the_record(
    gpufan: Gpufan, chip: HwmonDouble, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpm_at = channel_trials._Trial.rpm_at

    def fail_later(trial: Any, percent: int) -> list[int | None]:
        found = rpm_at(trial, percent)
        chip.change(1, mode_error=errno.EIO)
        return found

    monkeypatch.setattr(channel_trials._Trial, "rpm_at", fail_later)
    status, out, err = gpufan("fans", "identify")
    assert (status, err.count("\n"), "nct6798/pwm1: Input/output error" in err) == (1, 1, True)
    assert out.splitlines()[0].startswith("nct6798/pwm1 (CPU Fan): not given back: nct6798/pwm1: Input/output error")
    assert "fan3 went from" in out.splitlines()[2]
    (left,) = json.loads((folder / "taken.json").read_text())["cards"]
    assert left["uuid"] == "fan:nct6798/pwm1"
    chip.change(1, mode_error=0)
    assert gpufan("restore", "--taken")[0] == 0
    assert all(is_as_before(chip, channel) for channel in (1, 2, 3))


def test_identify_names_a_hanging_chip_once(gpufan: Gpufan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chip_files, "ANSWER_S", 0.1)
    monkeypatch.setenv("GPUFAN_SYS_FOLDER", str(tmp_path / "sys"))
    make_hanging_chip(tmp_path / "sys", "hanging")
    status, out, err = gpufan("fans", "identify")
    assert (status, out) == (1, "hanging/pwm1: its chip does not answer: pwm1 hangs\n")
    assert err == "gpufan: 1 of 1 fans could not be tried: the lines above say why\n"


@pytest.mark.slow
def test_calibrate_finds_where_a_fan_stops_and_starts(gpufan: Gpufan, chip: HwmonDouble) -> None:
    chip.change(2, stop_raw=48, start_raw=64)  # 19 % and 25 %
    status, out, err = gpufan("fans", "calibrate", "nct6798/pwm2")
    assert status == 0, err
    assert "nct6798/pwm2 stops at 15 % and starts at 25 %: min_duty_percent = 25 is safe" in out
    assert is_as_before(chip, 2)


@pytest.mark.slow
def test_calibrate_says_if_a_fan_never_stops(gpufan: Gpufan, chip: HwmonDouble) -> None:
    chip.change(2, stop_raw=-1, start_raw=-1, full_rpm=2000)
    chip.change(2, ramp_percent_per_s=200.0)
    # A fan of the 4-pin kind may turn at 0 %: the double turns slowly then.
    chip.change(2, least_percent=20.0)
    status, out, err = gpufan("fans", "calibrate", "nct6798/pwm2")
    assert status == 0, err
    assert "turns at every duty" in out


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_trial_that_ends_early_gives_the_fan_back(chip: HwmonDouble, folder: Path, number: int) -> None:
    environment = {**os.environ, "GPUFAN_RUNTIME_DIR": str(folder)}
    command = [sys.executable, "-m", "gpufan", "fans", "calibrate", "nct6798/pwm2"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: chip.state(2).mode == 1)
        (guardian,) = guardians(process.pid)
        process.send_signal(number)
        assert process.wait(20) != 0
    wait_for(lambda: not guardian.exists())
    assert is_as_before(chip, 2)


def test_no_trial_runs_beside_a_running_gpufan(start_p40: Start, gpufan: Gpufan, chip: HwmonDouble) -> None:
    start_p40()
    status, out, err = gpufan("fans", "identify")
    assert (status, out) == (1, "")
    assert "gpufan" in err


@pytest.mark.parametrize("name", ["nct6798/pwm9", "pwm2", ""])
def test_calibrate_refuses_a_wrong_name(gpufan: Gpufan, untouched_chip: HwmonDouble, name: str) -> None:
    status, out, err = gpufan("fans", "calibrate", name)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert untouched_chip.writes() == []
