"""Names of channels: stable, and exact where two chips are the same."""

import errno
import os
import re
from pathlib import Path

import pytest

from gpufan.errors import InputError
from gpufan.gpu.release_fans import release_channels
from gpufan.hwmon import chip_files
from gpufan.hwmon.channels import GRAPHICS_CHIPS, find_channels, resolve_channel
from gpufan.hwmon.sysfs import SysfsChip
from tests.doubles.hwmon import let_hang


def make_chip(folder: Path, device: str, number: int, name: str, files: dict[str, str]) -> Path:
    """Make the files of a chip below `folder`, as the kernel lays them out."""
    home = folder / "devices/platform" / device / "hwmon" / f"hwmon{number}"
    home.mkdir(parents=True)
    (home / "name").write_text(f"{name}\n")
    for file, text in files.items():
        (home / file).write_text(f"{text}\n")
    (folder / "class/hwmon").mkdir(parents=True, exist_ok=True)
    (folder / f"class/hwmon/hwmon{number}").symlink_to(home)
    return home


NCT = {
    "pwm2": "102",
    "pwm2_enable": "5",
    "fan2_input": "800",
    "fan2_label": "CPU Fan",
    "fan5_input": "0",
    "pwm10": "0",
    "pwm2_mode": "1",
}


@pytest.fixture
def sys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GPUFAN_SYS_FOLDER", str(tmp_path))
    return tmp_path


def test_a_channel_is_named_by_chip_and_output_whatever_its_number(sys: Path) -> None:
    make_chip(sys, "coretemp.0", 0, "coretemp", {"temp1_input": "40000"})
    make_chip(sys, "nct6775.656", 7, "nct6798", NCT)
    assert [channel.name for channel in find_channels()] == ["nct6798/pwm2", "nct6798/pwm10"]
    assert [channel.tachometer for channel in find_channels()] == [2, None]


@pytest.mark.parametrize(
    ("name", "tachometer"),
    [
        ("nct6798/pwm2", 2),
        ("nct6798/cpu fan", 2),
        ("nct6798@nct6775.656/pwm2", 2),
        ("nct6798/pwm2/fan5", 5),
        ("nct6798/pwm2/none", None),
    ],
)
def test_a_name_may_be_a_label_and_may_name_device_and_tachometer(sys: Path, name: str, tachometer: int | None) -> None:
    make_chip(sys, "nct6775.656", 7, "nct6798", NCT)
    channel = resolve_channel(name, find_channels())
    assert (channel.name, channel.tachometer) == ("nct6798/pwm2", tachometer)


@pytest.mark.parametrize("label", ["CPU/OPT", "Lüfter 风扇", "fan3", "none"])
def test_a_label_of_any_kind_is_a_name(sys: Path, label: str) -> None:
    make_chip(sys, "nct6775.656", 7, "nct6798", NCT | {"fan2_label": label})
    for name in (f"nct6798/{label}", f"nct6798@nct6775.656/{label}", f"nct6798/{label}/none"):
        assert resolve_channel(name, find_channels()).name == "nct6798/pwm2"


def test_a_label_that_is_the_name_of_another_output_hides_neither(sys: Path) -> None:
    make_chip(sys, "nct6775.656", 7, "nct6798", NCT | {"fan2_label": "pwm10"})
    assert [resolve_channel(f"nct6798/pwm{number}", find_channels()).number for number in (2, 10)] == [2, 10]


def test_two_outputs_with_the_same_label_are_named_by_their_numbers(sys: Path) -> None:
    make_chip(sys, "nct6775.656", 7, "nct6798", NCT | {"fan10_label": "CPU Fan"})
    with pytest.raises(InputError, match="names several fans: write nct6798/pwm2 or nct6798/pwm10"):
        resolve_channel("nct6798/cpu fan", find_channels())


@pytest.mark.parametrize(("name", "shown"), [("asus/wmi", "asus?wmi"), ("a@b", "a?b"), ("Lüfter", "Lüfter")])
def test_a_chip_of_any_name_is_set_and_given_back(sys: Path, name: str, shown: str) -> None:
    home = make_chip(sys, "x", 1, name, NCT)
    channel = resolve_channel(f"{shown}/pwm2", find_channels())
    SysfsChip(channel).write("pwm2", 77)
    record = {"name": "", "chip": channel.chip, "home": str(channel.home), "number": 2}
    assert release_channels([{**record, "mode_before": 5, "pwm_before": 102}]) == ""
    assert (home / "pwm2").read_text() == "102"


def test_of_two_equal_chips_of_one_device_the_one_with_the_output_is_used(sys: Path) -> None:
    other = make_chip(sys, "x", 1, "hub", {"fan1_input": "900"})
    home = make_chip(sys, "x", 2, "hub", NCT)
    channel = resolve_channel("hub@x/pwm2", find_channels())
    SysfsChip(channel).write("pwm2", 77)
    assert (home / "pwm2").read_text() == "77"
    (other / "pwm2").write_text("1")
    with pytest.raises(InputError, match=r"hub@x/pwm2: its device has several chips of this name"):
        resolve_channel("hub@x/pwm2", find_channels())


def test_a_tachometer_that_the_chip_does_not_have_is_refused(sys: Path) -> None:
    make_chip(sys, "nct6775.656", 7, "nct6798", NCT)
    with pytest.raises(InputError, match="nct6798 has no fan7_input; its tachometers are fan2, fan5"):
        resolve_channel("nct6798/pwm2/fan7", find_channels())


@pytest.mark.parametrize("name", GRAPHICS_CHIPS)
def test_the_fan_of_a_graphics_card_is_never_offered(sys: Path, name: str) -> None:
    make_chip(sys, "pci0000:00/0000:03:00.0", 2, name, NCT)
    assert find_channels() == []
    with pytest.raises(InputError, match="this is the fan of a graphics card"):
        resolve_channel(f"{name}/pwm2", find_channels())


def test_a_chip_behind_a_graphics_card_is_never_offered(sys: Path) -> None:
    make_chip(sys, "pci0000:00/0000:03:00.0/i2c-5/5-002e", 2, "adt7475", NCT)
    assert len(find_channels()) == 2
    (sys / "devices/platform/pci0000:00/0000:03:00.0/class").write_text("0x030000\n")
    assert find_channels() == []


@pytest.mark.parametrize("name", ["coretemp", "nvme", "drivetemp"])
def test_a_chip_without_outputs_has_no_channels(sys: Path, name: str) -> None:
    make_chip(sys, "x", 2, name, {"temp1_input": "40000", "fan1_input": "900", "pwm1_auto_point1_pwm": "0"})
    assert find_channels() == []


def test_a_fan_that_nobody_may_set_is_listed_but_refused(sys: Path) -> None:
    home = make_chip(sys, "x", 2, "corsairpsu", {"pwm1": "0", "pwm1_enable": "0", "fan1_input": "0"})
    (home / "pwm1").chmod(0o444)
    (home / "pwm1_enable").chmod(0o444)
    assert [channel.name for channel in find_channels()] == ["corsairpsu/pwm1"]
    with pytest.raises(InputError, match="corsairpsu/pwm1: the kernel's driver lets nobody set this fan"):
        resolve_channel("corsairpsu/pwm1", find_channels())
    (home / "pwm1_enable").chmod(0o644)  # f71805f lets the duty be written once the mode is manual
    assert resolve_channel("corsairpsu/pwm1", find_channels()).number == 1


def test_a_device_on_usb_is_named_by_its_socket(sys: Path) -> None:
    for socket, number in (("1-2:1.0", 5), ("1-3:1.0", 6)):
        make_chip(sys, f"{socket}/0003:1B1C:0C10.000{number}", number, "corsaircpro", {"pwm1": "0"})
    first, second = find_channels()
    assert (first.name, second.name) == ("corsaircpro@1-2:1.0/pwm1", "corsaircpro@1-3:1.0/pwm1")
    assert resolve_channel(second.name, [first, second]) == second
    assert first.writable_folder.name == "1-2:1.0"


def test_of_two_equal_chips_the_device_decides(sys: Path) -> None:
    make_chip(sys, "nct6775.656", 1, "nct6798", NCT)
    make_chip(sys, "nct6775.2608", 2, "nct6798", NCT)
    with pytest.raises(InputError, match=r"nct6798@nct6775.2608/pwm2 or nct6798@nct6775.656/pwm2"):
        resolve_channel("nct6798/pwm2", find_channels())
    assert resolve_channel("nct6798@nct6775.2608/pwm2", find_channels()).home.parent.name == "nct6775.2608"


@pytest.mark.parametrize("name", ["nct6798/pwm3", "nct6799/pwm2", "nct6798@other/pwm2", "nct6798", "", "/", "nct6798/"])
def test_a_name_of_nothing_says_what_there_is(sys: Path, name: str) -> None:
    make_chip(sys, "nct6775.656", 1, "nct6798", NCT)
    with pytest.raises(InputError, match=r"nct6798/pwm2 \(CPU Fan\)|such as nct6798/pwm2"):
        resolve_channel(name, find_channels())


@pytest.mark.parametrize(
    ("file", "found"), [("name", ["it8613/pwm2"]), ("fan2_label", ["it8613/pwm2", "nct6798/pwm2"])]
)
def test_a_chip_that_hangs_hides_no_other_chip(
    sys: Path, monkeypatch: pytest.MonkeyPatch, file: str, found: list[str]
) -> None:
    monkeypatch.setattr(chip_files, "ANSWER_S", 0.05)
    let_hang(make_chip(sys, "nct6775.656", 1, "nct6798", {"pwm2": "90", "fan2_label": "CPU Fan"}) / file)
    make_chip(sys, "it87.2608", 2, "it8613", {"pwm2": "90"})
    assert [[channel.name for channel in find_channels()] for _ in range(2)] == [found, found]


def test_a_box_without_hwmon_has_no_channel(sys: Path) -> None:
    assert find_channels() == []
    with pytest.raises(InputError, match="load the module of its chip, such as `sudo modprobe"):
        resolve_channel("nct6798/pwm2", [])


def test_a_chip_is_found_again_under_a_new_number(sys: Path) -> None:
    home = make_chip(sys, "nct6775.656", 1, "nct6798", NCT)
    chip = SysfsChip(find_channels()[0])
    assert chip.read("pwm2") == 102
    home.rename(home.with_name("hwmon5"))
    with pytest.raises(FileNotFoundError):
        chip.read("pwm2")
    assert chip.read("pwm2") == 102


def test_files_in_the_folder_of_the_device_are_found(sys: Path) -> None:
    # As those of f71882fg, pc87427 and other drivers that register without a name.
    home = make_chip(sys, "f71882fg.656", 3, "f71882fg", {})
    (home / "name").unlink()
    device = home.parent.parent
    for file, text in {"name": "f71882fg", "pwm2": "102", "pwm2_enable": "2", "fan2_input": "800"}.items():
        (device / file).write_text(f"{text}\n")
    (channel,) = find_channels()
    assert (channel.name, channel.tachometer, channel.writable_folder) == ("f71882fg/pwm2", 2, device)
    SysfsChip(channel).write("pwm2", 77)
    record = {"name": "", "chip": "f71882fg", "home": str(channel.home), "number": 2}
    assert (device / "pwm2").read_text() == "77"
    assert release_channels([{**record, "mode_before": 2, "pwm_before": 102}]) == ""
    assert (device / "pwm2").read_text() == "102"


@pytest.mark.parametrize("number", [errno.EIO, errno.EAGAIN, errno.ENODATA, errno.ETIMEDOUT])
def test_a_chip_that_is_busy_for_a_moment_is_asked_again(
    sys: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    make_chip(sys, "nct6775.656", 1, "nct6798", NCT)
    chip = SysfsChip(find_channels()[0])
    fails = 2
    read = os.read

    def read_busy(descriptor: int, length: int) -> bytes:
        nonlocal fails
        fails -= 1
        if fails >= 0:
            raise OSError(number, os.strerror(number))
        return read(descriptor, length)

    monkeypatch.setattr("gpufan.hwmon.sysfs.os.read", read_busy)
    assert chip.read("pwm2") == 102
    fails = 3
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        chip.read("pwm2")


def test_a_shorter_number_replaces_a_longer_one(sys: Path) -> None:
    home = make_chip(sys, "nct6775.656", 1, "nct6798", NCT)
    SysfsChip(find_channels()[0]).write("pwm2", 7)
    assert (home / "pwm2").read_text() == "7"


def test_content_that_is_no_number_is_an_error(sys: Path) -> None:
    make_chip(sys, "nct6775.656", 1, "nct6798", NCT | {"fan2_input": "N/A"})
    with pytest.raises(OSError, match="fan2_input has no number"):
        SysfsChip(find_channels()[0]).read("fan2_input")


def test_names_and_labels_cannot_give_orders_to_a_terminal(sys: Path) -> None:
    make_chip(sys, "x", 1, "nct\x1b[2J", NCT | {"fan2_label": "\x1b]0;x\x07"})
    assert all("\x1b" not in str(channel) for channel in find_channels())
