"""Names of channels: stable, and exact where two chips are the same."""

from pathlib import Path

import pytest

from gpufan.errors import InputError
from gpufan.hwmon.channels import SysfsChip, find_channels, resolve_channel


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


NCT = {"pwm2": "102", "pwm2_enable": "5", "fan2_input": "800", "fan2_label": "CPU Fan", "pwm10": "0", "pwm2_mode": "1"}


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
