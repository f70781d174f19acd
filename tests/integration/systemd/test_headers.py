"""The service with a passive card that a fan of the motherboard cools: every way to die, and its sandbox."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gpufan.gpu.simulated import PROFILES, SimulatedBox
from tests.doubles.hwmon import DEVICE, HwmonDouble, hwmon_double
from tests.doubles.nvml import wait_for
from tests.integration.hwmon.conftest import P40_SETTINGS, is_as_before
from tests.integration.systemd.conftest import boot_layers
from tests.integration.systemd.rig import GPUFAN, Rig

pytestmark = pytest.mark.systemd

CASE_FAN = '[[fan]]\nname = "nct6798/pwm2"\n'
CONFIG = "/etc/gpufan/config.toml"
Box = tuple[Rig, HwmonDouble]


@pytest.fixture(scope="module")
def box(layers: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """One rig with the service installed."""
    with ExitStack() as ends:
        folder = tmp_path_factory.mktemp("double")
        chip = ends.enter_context(hwmon_double(folder / "sys"))
        p40 = SimulatedBox(PROFILES["p40-header"], lambda _: 150.0)
        rig = boot_layers(layers, folder, ends, p40, hwmon=chip.folder)
        rig.write(CONFIG, P40_SETTINGS + CASE_FAN)
        rig.write("/usr/sbin/fancontrol", "#!/bin/sh\nsleep 1000\ntrue\n", "755")
        rig.write("/etc/systemd/system/fancontrol.service", "[Service]\nExecStart=/bin/sh /usr/sbin/fancontrol\n")
        rig.run("systemctl", "start", "fancontrol.service")
        done = rig.run(GPUFAN, "install-service", "--yes")
        said = " ".join((done.stdout + done.stderr).split())
        assert "make sure that fancontrol leaves nct6798/pwm3, nct6798/pwm2 alone" in said
        assert "nct6798/pwm2: its fan went from 40 % to 55 %" in said
        yield rig, chip


def wait_until_controlled(box: Box) -> int:
    """Wait until the service sets the header; its process number outside."""
    rig, chip = box
    wait_for(lambda: chip.state(3).mode in (0, 1) and rig.show("gpufan.service", "ActiveState") == "active", 30)
    return rig.host_pid()


def die(box: Box, how: Callable[[int], object]) -> None:
    """Make the service die by `how`, and check that the header was as before until the next start."""
    rig, chip = box
    pid = wait_until_controlled(box)
    seen = len(chip.writes())
    how(pid)
    wait_for(lambda: ("pwm3_enable", 5) in chip.writes()[seen:], 30)
    wait_for(lambda: int(rig.show("gpufan.service", "MainPID")) != 0, 30)
    wait_for(lambda: ("pwm2_enable", 5) in chip.writes()[seen:], 30)
    given_back = chip.writes()[seen:].index(("pwm3_enable", 5))
    assert ("pwm3", 102) in chip.writes()[seen:][:given_back]
    wait_until_controlled(box)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_after_a_kill_the_bios_has_its_header_at_once(box: Box, number: signal.Signals) -> None:
    die(box, lambda pid: os.kill(pid, number))


def test_after_a_hang_the_bios_has_its_header(box: Box) -> None:
    rig, _ = box
    rig.drop_in("[Service]\nWatchdogSec=6\n")
    die(box, lambda pid: os.kill(pid, signal.SIGSTOP))
    rig.drop_in("")


def test_a_stop_gives_the_header_back(box: Box) -> None:
    rig, chip = box
    wait_until_controlled(box)
    rig.run("systemctl", "stop", "gpufan.service")
    assert is_as_before(chip)
    assert is_as_before(chip, 2)
    rig.run("systemctl", "start", "gpufan.service")
    wait_until_controlled(box)


def test_the_doctor_sees_fans_sandbox_and_rival(box: Box) -> None:
    rig, _ = box
    wait_until_controlled(box)
    report = rig.run(GPUFAN, "doctor", check=False).stdout
    assert "nct6798/pwm3 is there" in report
    assert "nct6798/pwm2: set to" in report
    assert "fancontrol (fancontrol.service) may set the same fans" in " ".join(report.split())
    assert "sandbox of the service does not open" not in report


def test_the_systems_python_gives_the_header_back_if_that_of_gpufan_is_broken(box: Box) -> None:
    rig, chip = box
    pid = wait_until_controlled(box)
    interpreter = rig.run("sh", "-c", "echo /opt/gpufan/bin/python3").stdout.strip()
    rig.run("mv", interpreter, f"{interpreter}.away")
    try:
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: is_as_before(chip), 30)
    finally:
        rig.run("mv", f"{interpreter}.away", interpreter)
        rig.run("systemctl", "restart", "gpufan.service")
    wait_until_controlled(box)


def test_the_sandbox_opens_only_the_chip_in_the_settings(box: Box) -> None:
    rig, chip = box
    chip.add_chip("nct6775.2608", "nct6795", 4, {"1": {}})
    wait_until_controlled(box)
    home = f"/sys/firmware/devices/platform/{DEVICE}/hwmon"
    assert home in rig.show("gpufan.service", "ReadWritePaths")
    inner = rig.show("gpufan.service", "MainPID")
    inside = ["nsenter", "--target", inner, "--mount", "sh", "-c"]
    assert rig.run(*inside, f"echo 102 > {home}/hwmon3/pwm3", check=False).returncode == 0
    other = "/sys/firmware/devices/platform/nct6775.2608/hwmon/hwmon4/pwm1"
    assert "Read-only" in rig.run(*inside, f"echo 102 > {other}", check=False).stderr


def test_a_channel_that_does_not_exist_here_stops_an_install(box: Box) -> None:
    rig, _ = box
    rig.write(CONFIG, P40_SETTINGS.replace("pwm3", "pwm9") + CASE_FAN)
    done = rig.run(GPUFAN, "install-service", "--yes", check=False)
    assert done.returncode == 2
    assert "nct6798/pwm9: no such fan" in done.stderr
    rig.write(CONFIG, P40_SETTINGS + CASE_FAN)


def test_a_boot_that_numbers_the_chip_anew_does_not_matter(box: Box) -> None:
    rig, chip = box
    wait_until_controlled(box)
    rig.run("systemctl", "stop", "gpufan.service")
    chip.change_chip(number=8)
    rig.run("systemctl", "start", "gpufan.service")
    wait_until_controlled(box)
    rig.run("systemctl", "stop", "gpufan.service")
    assert is_as_before(chip)
    rig.run("systemctl", "start", "gpufan.service")


def test_a_chip_whose_module_is_loaded_again_is_set_by_a_new_process(box: Box) -> None:
    rig, chip = box
    pid = wait_until_controlled(box)
    chip.change_chip(is_present=False)
    wait_for(lambda: "out of reach" in rig.run(GPUFAN, "status", check=False).stdout, 30)
    chip.change(2, mode=5)
    chip.change(3, mode=5)
    chip.change_chip(is_present=True)
    wait_for(lambda: chip.state(3).mode in (0, 1) and chip.state(2).mode in (0, 1), 30)
    assert rig.host_pid() != pid
    log = rig.run("journalctl", "-u", "gpufan.service", "-o", "cat").stdout
    assert log.count("has appeared: only a new process can set it in the sandbox") == 1


def test_an_uninstall_gives_the_header_back(box: Box) -> None:
    rig, chip = box
    wait_until_controlled(box)
    rig.run(GPUFAN, "uninstall-service")
    assert is_as_before(chip)
    time.sleep(0.5)
    assert is_as_before(chip)
    assert is_as_before(chip, 2)
