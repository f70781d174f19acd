"""Chips of every kind under the real daemon: their fans are driven, and are as the BIOS had them after every end."""

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from gpufan.daemon.snapshot_file import read_snapshot
from tests.doubles.hwmon import CHIP, DEVICE, HwmonDouble
from tests.doubles.nvml import wait_for
from tests.integration.hwmon.conftest import P40_SETTINGS, Start

USB, USB_AGAIN = "1-2:1.0/0003:1B1C:0C10.0005", "1-2:1.0/0003:1B1C:0C10.0009"

CHIPS: dict[str, dict[str, Any]] = {
    "thermal cruise, mode 2": {"mode": 2},
    "fan speed cruise, mode 3": {"mode": 3},
    "smart fan 3, mode 4": {"mode": 4},
    "smart fan 4, mode 5": {"mode": 5},
    "full speed, mode 0": {"mode": 0},
    "manual before": {"mode": 1, "raw": 90},
    "no mode": {"mode": 1, "raw": 90, "has_mode": False},
    "7 bits": {"mask": 0xFE},
    "7 bits, manual before": {"mask": 0xFE, "mode": 1, "raw": 90},
    "8 levels, as thinkpad": {"levels": 7, "mode": 2},
    "3 levels without a mode, as dell-smm": {"levels": 2, "mode": 1, "raw": 127, "has_mode": False},
    "fails at every 5th access": {"fails_every": 5},
    "busy at every 4th access": {"fails_every": 4, "busy_error": errno.EAGAIN},
    "no data at every 7th access": {"fails_every": 7, "busy_error": errno.ENODATA, "mode": 1, "raw": 90},
    "no tachometer": {"has_tachometer": False},
    "another tachometer": {"tachometer": 7},
    "a tachometer that is late": {"late_rpm_s": 1.5, "bios_raw": 0, "raw": 0, "speed_percent": 0.0},
}


class Box:
    """The header of a passive card at 60 °C, on a chip that a test chooses."""

    def __init__(self, start: Start, chip: HwmonDouble, folder: Path, name: str, device: str = DEVICE) -> None:
        self.start, self.chip, self.folder, self.device = start, chip, folder, device
        self.settings = P40_SETTINGS.replace("nct6798/pwm3", name)
        self.before = chip.state(3, device)[:2]

    def is_driven(self) -> bool:
        """Whether the fan turns at 60 % or more, and gpufan is content with it."""
        (card,) = read_snapshot(self.folder / "state.json").gpus
        state = self.chip.state(3, self.device)
        return (
            (card.control, card.fault, card.duty_percent) == ("ours", None, 60)
            and state.mode in (0, 1)
            and state.pwm >= 150
            and state.rpm > 0
        )

    def check(self) -> None:
        """Run gpufan twice: once to a SIGTERM, and once to a SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            program = self.start(self.settings)
            wait_for(self.is_driven)
            guardian = program.guardian()
            os.kill(program.process.pid, number)
            program.end()
            wait_for(lambda guardian=guardian: not guardian.exists())
            assert self.chip.state(3, self.device)[:2] == self.before


@pytest.mark.slow
@pytest.mark.parametrize("values", CHIPS.values(), ids=CHIPS)
def test_a_fan_on_a_chip_of_any_kind_is_driven_and_given_back(
    start_p40: Start, chip: HwmonDouble, folder: Path, values: dict[str, Any]
) -> None:
    chip.change(3, **values)
    tachometer = f"/fan{values['tachometer']}" if "tachometer" in values else ""
    Box(start_p40, chip, folder, f"nct6798/pwm3{tachometer}").check()


@pytest.mark.slow
def test_of_two_equal_chips_the_named_one_is_driven(start_p40: Start, chip: HwmonDouble, folder: Path) -> None:
    other = "nct6775.2608"
    chip.add_chip(other, CHIP, 4, {"3": {}})
    Box(start_p40, chip, folder, f"nct6798@{other}/pwm3", other).check()
    assert chip.state(3)[:2] == (5, 102)


@pytest.mark.slow
def test_a_second_chip_of_the_same_name_does_not_hide_what_a_killed_run_has_set(
    start_p40: Start, chip: HwmonDouble, folder: Path
) -> None:
    box = Box(start_p40, chip, folder, "nct6798/pwm3")
    start_p40().kill_with_guardian()
    assert chip.state(3).mode == 1
    chip.add_chip("nct6775.2608", CHIP, 4, {"3": {}})
    box.settings = P40_SETTINGS.replace("nct6798/pwm3", f"nct6798@{DEVICE}/pwm3")
    box.check()


@pytest.mark.slow
def test_files_in_the_folder_of_the_device_are_driven(start_p40: Start, chip: HwmonDouble, folder: Path) -> None:
    chip.add_chip("f71882fg.656", "f71882fg", 4, {"3": {"mode": 2}}, has_files_in_device=True)
    Box(start_p40, chip, folder, "f71882fg/pwm3", "f71882fg.656").check()


@pytest.mark.slow
def test_a_hub_on_usb_is_found_again_when_it_is_plugged_in_again(
    start_p40: Start, chip: HwmonDouble, folder: Path
) -> None:
    chip.add_chip(USB, "corsaircpro", 4, {"3": {"mode": 1, "raw": 90, "has_mode": False}})
    box = Box(start_p40, chip, folder, "corsaircpro/pwm3", USB)
    program = start_p40(box.settings)
    wait_for(box.is_driven)
    chip.change_chip(device=USB, is_present=False)
    wait_for(lambda: read_snapshot(folder / "state.json").gpus[0].control == "lost")
    chip.change(3, device=USB, raw=80)  # as it is after power on
    chip.change_chip(device=USB, is_present=True, place=USB_AGAIN, number=9)
    wait_for(box.is_driven)
    assert "0C10.0009" in (folder / "taken.json").read_text()
    program.signal(signal.SIGTERM)
    assert program.end()[0] == 0
    assert chip.state(3, USB)[:2] == (1, 80)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"file_mode": 0o444}, "nct6798/pwm3: the kernel's driver lets nobody set this fan"),
        ({"refuses_automatic": True}, "nct6798/pwm3: the chip refuses its own mode 5, so it could not be given back"),
        ({"mode_is_readable": False}, "nct6798/pwm3: its mode cannot be read, so it could not be given back"),
        ({"read_error": errno.ENODATA}, "nct6798/pwm3: its duty cannot be read, so it could not be given back"),
        (
            {"mode_error": errno.EPERM},
            "the driver of the chip forbids it; thinkpad_acpi needs",
        ),
    ],
)
def test_a_chip_that_cannot_be_set_or_given_back_is_left_alone_with_one_line(
    start_p40: Start, chip: HwmonDouble, folder: Path, values: dict[str, Any], line: str
) -> None:
    chip.change(3, **values)
    start_p40()
    wait_for(lambda: line in read_snapshot(folder / "state.json").gpus[0].reason.message)
    assert chip.state(3)[:2] == (5, 102)
