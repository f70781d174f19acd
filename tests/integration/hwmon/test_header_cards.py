"""A passive card that a fan on a header of the motherboard cools, under the real daemon and the files of a chip."""

import errno
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gpufan.core.snapshot import Snapshot
from gpufan.daemon.snapshot_file import read_snapshot
from gpufan.errors import DriverError
from gpufan.gpu import cards, release_fans
from tests.doubles.hwmon import HwmonDouble
from tests.doubles.nvml import Kind, NvmlDouble, wait_for
from tests.integration.hwmon.conftest import P40_SETTINGS, Start, is_as_before

Gpufan = Callable[..., tuple[int, str, str]]


def percent(chip: HwmonDouble, channel: int = 3) -> int:
    return round(chip.state(channel).pwm / 2.55)


def snapshot(folder: Path) -> Snapshot:
    return read_snapshot(folder / "state.json")


def test_the_header_follows_the_curve_of_the_card(start_p40: Start, chip: HwmonDouble, p40: NvmlDouble) -> None:
    program = start_p40()
    wait_for(lambda: percent(chip) == 60)
    p40.cards[0].temperature = 70
    wait_for(lambda: percent(chip) == 70)
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0
    assert is_as_before(chip)


def test_the_state_before_is_in_the_record_before_the_first_write(
    start_p40: Start, chip: HwmonDouble, folder: Path
) -> None:
    start_p40()
    (card,) = json.loads((folder / "taken.json").read_text())["cards"]
    (channel,) = card["channels"]
    assert (channel["name"], channel["mode_before"], channel["pwm_before"]) == ("nct6798/pwm3", 5, 102)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGQUIT, marks=pytest.mark.slow)])
def test_a_signal_gives_the_header_back(start_p40: Start, chip: HwmonDouble, number: int) -> None:
    program = start_p40()
    program.signal(number)
    program.end()
    assert is_as_before(chip)


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, *(pytest.param(crash, marks=pytest.mark.slow) for crash in (signal.SIGSEGV, signal.SIGABRT))],
)
def test_the_guardian_gives_the_header_back_after_a_kill_or_crash(
    start_p40: Start, chip: HwmonDouble, folder: Path, number: int
) -> None:
    program = start_p40()
    guardian = program.guardian()
    program.signal(number)
    program.end()
    wait_for(lambda: not guardian.exists())
    assert is_as_before(chip)
    assert not (folder / "taken.json").exists()


@pytest.mark.parametrize("arguments", [[], pytest.param(["--taken"], marks=pytest.mark.slow)])
def test_restore_gives_the_header_back_that_a_killed_run_has_set(
    start_p40: Start, chip: HwmonDouble, gpufan: Gpufan, arguments: list[str]
) -> None:
    start_p40().kill_with_guardian()
    assert not is_as_before(chip)
    status, out, err = gpufan("restore", *arguments)
    assert status == 0, err
    assert "nct6798/pwm3 is as it was before gpufan" in out
    assert is_as_before(chip)


def test_the_script_gives_a_header_back_without_nvml(start_p40: Start, chip: HwmonDouble, folder: Path) -> None:
    start_p40().kill_with_guardian()
    command = [sys.executable, "-I", release_fans.__file__, str(folder / "taken.json"), "no-such-library.so"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    assert is_as_before(chip)


def test_the_script_finds_a_chip_that_the_kernel_has_numbered_anew(
    start_p40: Start, chip: HwmonDouble, folder: Path
) -> None:
    start_p40().kill_with_guardian()
    chip.change_chip(number=7)
    assert release_fans.release_recorded_cards(folder / "taken.json") == 0
    assert is_as_before(chip)


@pytest.mark.parametrize("arguments", [["restore", "--taken"], ["restore"]])
def test_a_fan_whose_chip_is_gone_stays_in_the_record_until_its_module_is_loaded_again(
    start_p40: Start, chip: HwmonDouble, gpufan: Gpufan, folder: Path, arguments: list[str]
) -> None:
    start_p40().kill_with_guardian()
    chip.change_chip(is_present=False)
    assert release_fans.release_recorded_cards(folder / "taken.json") == 1
    status, _, err = gpufan(*arguments)
    assert (status, err.count("\n")) == (1, 2)  # the script above has written a line too
    assert "nct6798/pwm3: its chip is gone: load its kernel module, then run `sudo gpufan restore`" in err
    chip.change_chip(is_present=True)
    assert gpufan(*arguments)[0] == 0
    assert is_as_before(chip)
    assert not (folder / "taken.json").exists()


def test_only_cards_that_were_not_given_back_stay_in_the_record(
    start_p40: Start, chip: HwmonDouble, gpufan: Gpufan, folder: Path
) -> None:
    start_p40().kill_with_guardian()
    record = folder / "taken.json"
    (card,) = json.loads(record.read_text())["cards"]
    gone = card | {"uuid": "fan:gone", "channels": [card["channels"][0] | {"chip": "gone", "name": "gone/pwm3"}]}
    for release in (
        lambda: release_fans.release_recorded_cards(record),
        lambda: gpufan("restore", "--taken")[0],
    ):
        record.write_text(json.dumps({"cards": [card, gone]}))
        assert release() == 1
        assert json.loads(record.read_text())["cards"] == [gone]
    assert is_as_before(chip)


def test_restore_gives_the_header_back_although_the_driver_does_not_work(
    start_p40: Start, chip: HwmonDouble, gpufan: Gpufan, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_p40().kill_with_guardian()

    def fail(*_: object) -> None:
        raise DriverError("the driver is not loaded")

    monkeypatch.setattr(cards, "open_cards", fail)
    status, _, err = gpufan("restore")
    assert (status, err.count("\n")) == (1, 1)
    assert "nct6798/pwm3 is as it was before gpufan; the driver is not loaded" in err
    assert is_as_before(chip)


@pytest.mark.slow
def test_a_channel_that_does_not_accept_its_former_mode_is_named(
    start_p40: Start, chip: HwmonDouble, gpufan: Gpufan, folder: Path
) -> None:
    start_p40().kill_with_guardian()
    chip.change(3, mode_error=errno.EIO)
    status, _, err = gpufan("restore", "--taken")
    assert status == 1
    assert "nct6798/pwm3" in err
    assert (folder / "taken.json").exists()
    chip.change(3, mode_error=0)
    assert gpufan("restore", "--taken")[0] == 0
    assert is_as_before(chip)


@pytest.mark.slow
def test_a_run_after_a_killed_one_still_knows_what_the_bios_had(start_p40: Start, chip: HwmonDouble) -> None:
    start_p40().kill_with_guardian()
    program = start_p40()
    program.signal(signal.SIGTERM)
    program.end()
    assert is_as_before(chip)


def test_a_header_that_was_manual_before_is_manual_again_with_its_duty(start_p40: Start, chip: HwmonDouble) -> None:
    chip.change(3, mode=1, raw=77)
    program = start_p40()
    wait_for(lambda: percent(chip) == 60)
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0
    assert chip.state(3)[:2] == (1, 77)


@pytest.mark.slow
def test_a_header_without_a_mode_gets_its_duty_back(start_p40: Start, chip: HwmonDouble) -> None:
    chip.change(3, mode=1, raw=77, has_mode=False)
    program = start_p40()
    wait_for(lambda: percent(chip) == 60)
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0
    assert chip.state(3)[:2] == (1, 77)


def test_a_header_whose_mode_cannot_be_read_is_never_set(start_p40: Start, chip: HwmonDouble, folder: Path) -> None:
    chip.change(3, mode_is_readable=False)
    program = start_p40()
    wait_for(lambda: "could not be given back" in snapshot(folder).gpus[0].reason.message)
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0
    assert chip.writes() == []


def test_a_mode_that_flips_back_is_set_again_and_counted(start_p40: Start, chip: HwmonDouble, folder: Path) -> None:
    start_p40()
    wait_for(lambda: percent(chip) == 60)
    chip.change(3, mode=5)
    wait_for(lambda: chip.state(3).mode == 1)
    wait_for(lambda: snapshot(folder).gpus[0].overrides > 0)


@pytest.mark.slow
def test_a_mode_that_always_flips_back_is_a_fault_that_is_tried_again(
    start_p40: Start, chip: HwmonDouble, folder: Path
) -> None:
    chip.change(3, flips_back_s=0.02)
    start_p40(P40_SETTINGS.replace("hold_s", "interval_s = 0.3\nhold_s"))
    wait_for(lambda: snapshot(folder).gpus[0].fault is not None or snapshot(folder).gpus[0].control == "released")


@pytest.mark.slow
def test_a_write_that_fails_is_a_fault_and_ends_with_it(
    start_p40: Start, chip: HwmonDouble, folder: Path, p40: NvmlDouble
) -> None:
    start_p40()
    wait_for(lambda: percent(chip) == 60)
    chip.change(3, duty_error=errno.EIO)
    p40.cards[0].temperature = 70
    wait_for(lambda: snapshot(folder).gpus[0].control == "released")
    assert snapshot(folder).gpus[0].errors_by_kind.refused > 0
    chip.change(3, duty_error=0)
    wait_for(lambda: percent(chip) == 70)


@pytest.mark.slow
def test_if_one_of_two_fans_cannot_be_set_the_other_runs_at_full_speed(
    start_p40: Start, chip: HwmonDouble, folder: Path, p40: NvmlDouble
) -> None:
    start_p40(P40_SETTINGS.replace('["nct6798/pwm3"]', '["nct6798/pwm2", "nct6798/pwm3"]'))
    wait_for(lambda: (percent(chip, 2), percent(chip)) == (60, 60))
    chip.change(3, duty_error=errno.EIO)
    p40.cards[0].temperature = 65
    wait_for(lambda: snapshot(folder).gpus[0].control == "released")
    wait_for(lambda: percent(chip, 2) == 100)


@pytest.mark.slow
def test_while_one_of_two_fans_is_missing_the_other_runs_at_full_speed_and_is_given_back(
    start_p40: Start, chip: HwmonDouble, folder: Path
) -> None:
    program = start_p40(P40_SETTINGS.replace('["nct6798/pwm3"]', '["it8613/pwm1", "nct6798/pwm3"]'))
    wait_for(lambda: percent(chip) == 100)
    wait_for(lambda: "it8613/pwm1: no such fan" in snapshot(folder).gpus[0].reason.message)
    chip.add_chip("it87.2608", "it8613", 4, {"1": {}})
    wait_for(lambda: snapshot(folder).gpus[0].control == "ours")
    wait_for(lambda: chip.state(1, "it87.2608")[:2] == (1, 153) and percent(chip) == 60)
    chip.change_chip(device="it87.2608", is_present=False)
    wait_for(lambda: percent(chip) == 100)
    program.kill_with_guardian()
    assert release_fans.release_recorded_cards(folder / "taken.json") == 1
    assert is_as_before(chip)
    chip.change_chip(device="it87.2608", is_present=True)
    assert release_fans.release_recorded_cards(folder / "taken.json") == 0
    assert chip.state(1, "it87.2608")[:2] == (5, 102)


@pytest.mark.slow
def test_a_blocked_fan_is_a_fault(start_p40: Start, chip: HwmonDouble, folder: Path) -> None:
    start_p40()
    wait_for(lambda: snapshot(folder).gpus[0].fans[0].speed_rpm)
    chip.change(3, is_blocked=True)
    wait_for(lambda: percent(chip) == 100)
    wait_for(lambda: (fault := snapshot(folder).gpus[0].fault) is not None and fault.cause == "fan-still", 30)


def test_a_lost_card_gets_full_speed_until_it_is_back(start_p40: Start, chip: HwmonDouble, p40: NvmlDouble) -> None:
    start_p40()
    wait_for(lambda: percent(chip) == 60)
    p40.cards[0].lost = 1
    wait_for(lambda: percent(chip) == 100)
    p40.cards[0].lost = 0
    wait_for(lambda: percent(chip) == 60)


@pytest.mark.slow
def test_a_card_that_hangs_gets_full_speed_and_its_header_is_given_back_at_the_end(
    start_p40: Start, chip: HwmonDouble, p40: NvmlDouble
) -> None:
    program = start_p40()
    wait_for(lambda: percent(chip) == 60)
    p40.cards[0].hang[Kind.TEMPERATURE] = 1
    wait_for(lambda: percent(chip) == 100)
    program.signal(signal.SIGTERM)
    program.end()
    p40.let_go()
    wait_for(lambda: is_as_before(chip))


@pytest.mark.slow
def test_a_chip_that_vanishes_loses_the_card_until_it_is_back_under_another_number(
    start_p40: Start, chip: HwmonDouble, folder: Path
) -> None:
    program = start_p40()
    wait_for(lambda: percent(chip) == 60)
    chip.change_chip(is_present=False)
    wait_for(lambda: snapshot(folder).gpus[0].control == "lost")
    chip.change_chip(is_present=True, number=9)
    chip.change(3, mode=5)
    wait_for(lambda: percent(chip) == 60)
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0
    assert is_as_before(chip)


@pytest.mark.slow
def test_a_chip_that_comes_after_the_start_is_used(start_p40: Start, chip: HwmonDouble) -> None:
    chip.change_chip(is_present=False)
    import threading

    threading.Timer(1.0, lambda: chip.change_chip(is_present=True)).start()
    start_p40()
    wait_for(lambda: percent(chip) == 60)


@pytest.mark.slow
@pytest.mark.parametrize("levels", [3, 7])
def test_a_chip_that_rounds_down_runs_at_least_as_fast_as_demanded(
    start_p40: Start, chip: HwmonDouble, folder: Path, p40: NvmlDouble, levels: int
) -> None:
    chip.change(3, levels=levels)
    start_p40()
    for temperature in (60, 45, 71, 83):
        p40.cards[0].temperature = temperature
        wanted = temperature if temperature < 80 else 92
        wait_for(lambda wanted=wanted: percent(chip) >= wanted - 2 and snapshot(folder).gpus[0].duty_percent == wanted)
        wait_for(lambda: snapshot(folder).gpus[0].fault is None and snapshot(folder).gpus[0].control == "ours")


def test_a_standing_fan_is_started_at_full_speed_and_then_slowed(
    start_p40: Start, chip: HwmonDouble, p40: NvmlDouble
) -> None:
    chip.change(3, bios_raw=0, raw=0, speed_percent=0.0, start_raw=120)
    p40.cards[0].temperature = 40
    start_p40()
    wait_for(lambda: chip.state(3).rpm > 0 and percent(chip) == 40)
    assert ("pwm3", 255) in chip.writes()


@pytest.mark.slow
def test_a_fan_that_stops_at_its_duty_is_started_again_and_runs_faster(
    start_p40: Start, chip: HwmonDouble, p40: NvmlDouble, folder: Path
) -> None:
    p40.cards[0].temperature = 40
    start_p40()
    wait_for(lambda: percent(chip) == 40 and chip.state(3).rpm > 0)
    chip.change(3, stop_raw=110, start_raw=120)
    wait_for(lambda: percent(chip) == 45 and chip.state(3).rpm > 0)
    wait_for(lambda: snapshot(folder).gpus[0].duty_percent == 45)


@pytest.mark.slow
def test_two_cards_on_one_header_get_the_higher_duty(
    install: Callable[..., NvmlDouble], chip: HwmonDouble, folder: Path, tmp_path: Path
) -> None:
    from tests.integration.harness import Program

    double = install()
    text = P40_SETTINGS.replace("*P40*", "1080")
    (tmp_path / "two.toml").write_text(text)
    double.cards[0].temperature, double.cards[1].temperature = 50, 70
    program = Program(double, folder, ["run", "--interval", "0.1", "--config", str(tmp_path / "two.toml")])
    with program.process:
        wait_for(lambda: percent(chip) == 70)
        double.cards[1].temperature = 45
        wait_for(lambda: percent(chip) == 50)
        assert [gpu.control for gpu in snapshot(folder).gpus] == ["ours", "ours"]
        program.signal(signal.SIGTERM)
        assert program.end()[0] == 0
    assert is_as_before(chip)
    assert all(fan.policy == 0 for card in double.cards for fan in card.fans)


def test_new_fans_in_the_settings_need_a_restart(
    start_p40: Start, chip: HwmonDouble, folder: Path, tmp_path: Path
) -> None:
    program = start_p40()
    (tmp_path / "config.toml").write_text(P40_SETTINGS.replace("pwm3", "pwm2"))
    program.signal(signal.SIGHUP)
    wait_for(lambda: "restart" in (snapshot(folder).reload_refused or ""))
    assert {file for file, _ in chip.writes()} == {"pwm3", "pwm3_enable"}
