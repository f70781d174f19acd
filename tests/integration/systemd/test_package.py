"""The Debian package on fresh boxes: installed, upgraded, removed and purged by the real apt, without a network."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from pynvml import NVML_ERROR_DRIVER_NOT_LOADED

from gpufan.gpu.simulated import PROFILES, SimulatedBox
from tests.doubles.hwmon import DEVICE, hwmon_double
from tests.doubles.nvml import AUTO, MANUAL, Kind, wait_for
from tests.integration.hwmon.conftest import P40_SETTINGS, is_as_before
from tests.integration.packages import changed_deb, deb
from tests.integration.systemd.conftest import Boot, boot_layers
from tests.integration.systemd.fresh import SUITES
from tests.integration.systemd.rig import GPUFAN, Rig

pytestmark = pytest.mark.systemd
BootFresh = Callable[..., Rig]
Measured = Callable[[str, float], None]

COMMAND = "sudo gpufan install-service"
SETTINGS = "/etc/gpufan/config.toml"
LAST_GOOD = "/var/lib/gpufan/last-good-settings.json"
NOT_OF_GPUFAN = ("var/lib/dpkg/", "var/lib/apt/", "etc/ld.so.cache", "etc/hosts")
"""What apt, dpkg and the packages under Python write for themselves."""


def policies(rig: Rig) -> list[int]:
    return [card.fans[0].policy for card in rig.double.cards[:2]]


def apt(rig: Rig, *words: str) -> str:
    """What apt-get says. Without recommended packages, since `autoremove` keeps some of these."""
    options = ("-y", "-q", "-o", "APT::Install-Recommends=0")
    return rig.run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *options, *words).stdout


def state(rig: Rig) -> dict[str, str]:
    """Every file that has changed since the first boot, except those of apt and its like."""
    return {name: about for name, about in rig.changes().items() if not name.startswith(NOT_OF_GPUFAN)}


def uncontrolled_s(rig: Rig, seen: int) -> dict[int, float]:
    """For each card, how long the driver had its fans: from the first release after call `seen` to the next set."""
    released, found = {}, {}
    for call in rig.double.log()[seen:]:
        if call.operation == Kind.SET_DEFAULT and call.result == 0:
            released.setdefault(call.card, call.time_ns)
        elif call.operation == Kind.SET_FAN and call.card in released and call.card not in found:
            found[call.card] = (call.time_ns - released[call.card]) / 1e9
    return found


@pytest.mark.parametrize("suite", SUITES)
def test_a_package_lives_from_its_install_to_its_purge_and_leaves_no_trace(
    suite: str, boot_fresh: BootFresh, tmp_path: Path, measured: Measured
):
    newer = changed_deb(tmp_path, "99")
    rig = boot_fresh(suite, deb(), newer)
    assert rig.run("sh", "-c", "command -v python3", check=False).returncode != 0
    before = state(rig)

    # An install changes no fan, and says what to do.
    said = apt(rig, "install", f"/srv/{deb().name}")
    (hint,) = (line for line in said.splitlines() if COMMAND in line)
    assert "nothing is started" in hint
    assert rig.double.log() == []
    assert rig.show("gpufan.service", "ActiveState") == "inactive"
    assert rig.show("gpufan.service", "UnitFileState") == "disabled"
    doctor = rig.run("gpufan", "doctor", check=False).stdout
    assert "from a package of the distribution" in doctor
    assert "not installed, so nothing controls the fans" in re.sub(r"\s+", " ", doctor)
    assert "gpufan-alerts" not in doctor

    # The service runs the files of the package.
    rig.run("gpufan", "install-service", "--yes", "--exporter", "--web")
    assert policies(rig) == [MANUAL, MANUAL]
    assert rig.show("gpufan.service", "FragmentPath").endswith("lib/systemd/system/gpufan.service")
    for folder in ("/opt/gpufan", "/usr/local/bin/gpufan", "/usr/local/share/man/man1/gpufan.1"):
        assert rig.run("test", "-e", folder, check=False).returncode == 1
    for companion in ("history", "exporter", "web"):
        assert rig.show(f"gpufan-{companion}.service", "ActiveState") == "active"
    pid, seen = rig.show("gpufan.service", "MainPID"), len(rig.double.log())
    os.kill(rig.host_pid(), signal.SIGKILL)
    wait_for(lambda: rig.show("gpufan.service", "MainPID") not in ("0", pid), 20)
    wait_for(lambda: policies(rig) == [MANUAL, MANUAL], 20)
    assert sorted(uncontrolled_s(rig, seen)) == [0, 1]

    # An upgrade restarts it, and keeps settings, history and learnt data.
    rig.run("gpufan", "config", "set", "target_c", "71")
    wait_for(lambda: rig.run("test", "-s", "/var/lib/gpufan/history/history.sqlite", check=False).returncode == 0, 10)
    pid, seen = rig.show("gpufan.service", "MainPID"), len(rig.double.log())
    said = apt(rig, "install", f"/srv/{newer.name}")
    assert COMMAND not in said
    assert rig.show("gpufan.service", "MainPID") != pid
    assert policies(rig) == [MANUAL, MANUAL]
    assert "gpufan 99 publishes" in re.sub(r"\s+", " ", rig.run("gpufan", "doctor", check=False).stdout)
    seconds = uncontrolled_s(rig, seen)
    assert sorted(seconds) == [0, 1]
    measured(f"fans with the driver in an upgrade, {suite}", max(seconds.values()))
    assert "target_c = 71" in rig.run("cat", SETTINGS).stdout
    assert "target 71" in rig.run("gpufan", "status").stdout
    assert rig.run("test", "-s", "/var/lib/gpufan/history/history.sqlite").returncode == 0

    # A removal gives the fans back and keeps the user's data; a purge leaves nothing.
    apt(rig, "remove", "gpufan")
    assert policies(rig) == [AUTO, AUTO]
    assert rig.show("gpufan.service", "LoadState") == "not-found"
    left = {name for name in state(rig) if "gpufan" in name}
    assert left == {name for name in left if name.startswith(("etc/gpufan", "var/lib/gpufan"))}
    assert "target_c = 71" in rig.run("cat", SETTINGS).stdout
    apt(rig, "purge", "gpufan")
    assert not {name for name in state(rig) if "gpufan" in name}
    apt(rig, "autoremove", "--purge")
    assert {name for name, about in state(rig).items() if before.get(name) != about} == set()


def test_a_new_version_that_fails_leaves_the_old_one_running_or_the_fans_with_the_driver(
    boot_fresh: BootFresh, tmp_path: Path
):
    def cannot_be_imported(code: Path) -> None:
        (code / "cli/main.py").write_text("import nothing_of_this_name\n")

    def fails_at_the_start(code: Path) -> None:
        (code / "daemon/run.py").write_text("raise RuntimeError('a fault of this version')\n")

    broken = changed_deb(tmp_path, "98", cannot_be_imported)
    failing = changed_deb(tmp_path, "99", fails_at_the_start)
    rig = boot_fresh("bookworm", deb(), broken, failing)
    apt(rig, "install", f"/srv/{deb().name}")
    rig.run("gpufan", "install-service", "--yes")
    pid = rig.show("gpufan.service", "MainPID")
    said = apt(rig, "install", f"/srv/{broken.name}")
    assert "this package does not work with Python 3.11" in said
    assert rig.show("gpufan.service", "MainPID") == pid
    assert policies(rig) == [MANUAL, MANUAL]
    said = apt(rig, "install", f"/srv/{failing.name}")
    assert "gpufan.service does not start; until it does, the driver controls the fans" in said
    assert COMMAND not in said
    assert policies(rig) == [AUTO, AUTO]
    apt(rig, "--allow-downgrades", "install", f"/srv/{deb().name}")
    wait_for(lambda: policies(rig) == [MANUAL, MANUAL], 20)


def test_a_service_from_a_clone_moves_to_the_package_with_its_settings(rig: Rig, tmp_path: Path):
    before = state(rig)
    rig.install("--target", "72")
    # Where 0.1.0 had its record.
    rig.run("mv", "/var/lib/gpufan-install/install.json", "/var/lib/gpufan/install.json")
    rig.put(deb(), "/srv/gpufan.deb")
    said = apt(rig, "install", "/srv/gpufan.deb")
    assert "sudo /usr/bin/gpufan install-service" in said
    assert "/opt/gpufan/bin/python3" in rig.show("gpufan.service", "ExecStart")
    doctor = rig.run("/usr/bin/gpufan", "doctor", check=False).stdout
    assert "which no update of the package renews" in re.sub(r"\s+", " ", doctor)

    rig.run("/usr/bin/gpufan", "install-service", "--yes")
    assert "/usr/lib/gpufan/bin/python3" in rig.show("gpufan.service", "ExecStart")
    assert policies(rig) == [MANUAL, MANUAL]
    for path in ("/opt/gpufan", "/usr/local/bin/gpufan", "/usr/local/share/man/man1/gpufan.1"):
        assert rig.run("test", "-e", path, check=False).returncode == 1
    assert rig.run("sh", "-c", "command -v gpufan").stdout == "/usr/bin/gpufan\n"
    assert "target 72" in rig.run("gpufan", "status").stdout
    rig.reboot()
    wait_for(lambda: policies(rig) == [MANUAL, MANUAL], 20)
    apt(rig, "purge", "gpufan")
    rig.run("rm", "/srv/gpufan.deb")
    assert state(rig) == before


def test_an_upgrade_renews_the_unit_of_a_box_with_header_fans_and_a_purge_leaves_no_trace(
    layers: list[Path], tmp_path: Path
):
    def with_another_unit(code: Path) -> None:
        unit = code.parents[4] / "systemd/system/gpufan.service"
        unit.write_text(unit.read_text().replace("WatchdogSec=15", "WatchdogSec=14"))

    newer = changed_deb(tmp_path, "99", with_another_unit)
    with ExitStack() as ends:
        chip = ends.enter_context(hwmon_double(tmp_path / "sys"))
        rig = boot_layers(
            layers, tmp_path, ends, SimulatedBox(PROFILES["p40-header"], lambda _: 150.0), hwmon=chip.folder
        )
        before = state(rig)
        for path in (deb(), newer):
            rig.put(path, f"/srv/{path.name}")
        apt(rig, "install", f"/srv/{deb().name}")
        rig.write(SETTINGS, P40_SETTINGS)
        rig.run("gpufan", "install-service", "--yes")
        wait_for(lambda: chip.state(3).mode in (0, 1), 20)
        home = f"/sys/firmware/devices/platform/{DEVICE}/hwmon"
        assert f"ReadWritePaths=-{home}" in rig.run("cat", "/etc/systemd/system/gpufan.service.d/box.conf").stdout
        assert "changed by" not in rig.run("gpufan", "doctor", check=False).stdout

        pid, seen = rig.show("gpufan.service", "MainPID"), len(chip.writes())
        said = apt(rig, "install", f"/srv/{newer.name}")
        assert COMMAND not in said
        assert rig.show("gpufan.service", "MainPID") not in ("0", pid)
        assert rig.show("gpufan.service", "WatchdogUSec") == "14s"
        assert home in rig.show("gpufan.service", "ReadWritePaths")
        assert ("pwm3_enable", 5) in chip.writes()[seen:]
        wait_for(lambda: chip.state(3).mode in (0, 1), 20)
        seen = len(chip.writes())
        os.kill(rig.host_pid(), signal.SIGKILL)
        wait_for(lambda: ("pwm3_enable", 5) in chip.writes()[seen:], 20)

        apt(rig, "remove", "gpufan")
        assert is_as_before(chip)
        apt(rig, "purge", "gpufan")
        rig.run("rm", *(f"/srv/{path.name}" for path in (deb(), newer)))
        assert state(rig) == before


def test_a_removed_package_leaves_the_service_of_a_clone_alone(rig: Rig):
    rig.put(deb(), "/srv/gpufan.deb")
    # An install that is killed before its end, and then removed, keeps the settings.
    rig.write(SETTINGS, "interval_s = 2\n")
    rig.run("dpkg", "--unpack", "/srv/gpufan.deb")
    rig.run("dpkg", "--remove", "gpufan")
    assert rig.run("cat", SETTINGS).stdout == "interval_s = 2\n"

    apt(rig, "install", "/srv/gpufan.deb")
    rig.install("--target", "72")
    pid = rig.show("gpufan.service", "MainPID")
    apt(rig, "remove", "gpufan")
    assert rig.show("gpufan.service", "MainPID") == pid
    assert policies(rig) == [MANUAL, MANUAL]
    assert "target_c = 72" in rig.run("cat", SETTINGS).stdout
    # A purge leaves the settings too, also those that were changed after the removal.
    rig.run(GPUFAN, "config", "set", "target_c", "73")
    wait_for(lambda: rig.run("grep", "-q", "target_c = 73", LAST_GOOD, check=False).returncode == 0, 10)
    apt(rig, "purge", "gpufan")
    assert "target_c = 73" in rig.run("cat", SETTINGS).stdout
    apt(rig, "install", "/srv/gpufan.deb")
    apt(rig, "purge", "gpufan")
    assert "target_c = 73" in rig.run("cat", SETTINGS).stdout
    assert rig.show("gpufan.service", "MainPID") == pid
    assert policies(rig) == [MANUAL, MANUAL]


def test_an_upgrade_ends_while_a_service_cannot_start_and_a_masked_one_can_be_removed(
    boot_fresh: BootFresh, tmp_path: Path
):
    newer = changed_deb(tmp_path, "99")
    rig = boot_fresh("bookworm", deb(), newer)
    apt(rig, "install", f"/srv/{deb().name}")
    rig.run("gpufan", "install-service", "--yes")
    rig.run("systemctl", "disable", "gpufan.service")
    # The service waits for the driver without an end.
    rig.double.map.init_error = NVML_ERROR_DRIVER_NOT_LOADED
    rig.run("rm", "/dev/nvidiactl")
    said = apt(rig, "install", f"/srv/{newer.name}")
    assert "gpufan.service does not start; until it does, the driver controls the fans" in said
    assert "gpufan-history.service" not in said
    assert COMMAND not in said
    assert policies(rig) == [AUTO, AUTO]
    rig.double.map.init_error = 0
    rig.run("mknod", "/dev/nvidiactl", "c", "195", "255")
    wait_for(lambda: policies(rig) == [MANUAL, MANUAL], 20)

    rig.run("systemctl", "mask", "gpufan.service")
    refused = rig.run("gpufan", "install-service", "--yes", check=False)
    assert "`sudo systemctl unmask gpufan.service`" in refused.stderr
    apt(rig, "purge", "gpufan")
    assert policies(rig) == [AUTO, AUTO]
    assert not {name for name in state(rig) if "gpufan" in name}


KILLED_UPGRADE = """
setsid dpkg -i "$1" </dev/null >/tmp/dpkg 2>&1 &
until eval "$2"; do :; done
kill -s KILL -- -$!
wait $! || true
"""
"""Shell commands: kill an upgrade and all of its processes as soon as a condition holds."""


def test_an_upgrade_that_is_killed_leaves_no_fan_standing_and_can_be_repeated(boot_fresh: BootFresh, tmp_path: Path):
    newer = changed_deb(tmp_path, "99")
    rig = boot_fresh("bookworm", deb(), newer)
    apt(rig, "install", f"/srv/{deb().name}")
    rig.run("gpufan", "install-service", "--yes", "--target", "71")
    files_unpacked = "[ -e /usr/lib/gpufan/lib/python3/site-packages/gpufan/__init__.py.dpkg-new ]"
    files_compiled = "ls /usr/lib/gpufan/lib/python3/site-packages/gpufan/__pycache__ 2>/dev/null | grep -q ."
    for package, moment in ((newer, files_unpacked), (newer, files_compiled)):
        rig.run("find", "/usr/lib/gpufan", "-name", "__pycache__", "-prune", "-exec", "rm", "-r", "{}", "+")
        rig.run("sh", "-ec", KILLED_UPGRADE, "sh", f"/srv/{package.name}", moment)
        assert "ok installed" not in rig.run("dpkg", "-s", "gpufan").stdout
        pid, seen = rig.show("gpufan.service", "MainPID"), len(rig.double.log())
        assert policies(rig) == [MANUAL, MANUAL]
        os.kill(rig.host_pid(), signal.SIGKILL)
        wait_for(lambda seen=seen: sorted(uncontrolled_s(rig, seen)) == [0, 1], 20)
        wait_for(lambda pid=pid: rig.show("gpufan.service", "MainPID") not in ("0", pid), 20)
    rig.run("systemctl", "stop", "gpufan.service")
    said = rig.run("dpkg", "-i", f"/srv/{newer.name}").stdout
    assert "gpufan.service stays stopped. To control the fans: sudo systemctl start gpufan" in said
    assert COMMAND not in said
    rig.run("systemctl", "start", "gpufan.service")
    assert "gpufan 99" in rig.run("gpufan", "--version").stdout
    assert "target 71" in rig.run("gpufan", "status").stdout


def test_display_manager_and_rivals_are_put_back_when_the_package_is_removed(boot: Boot):
    rig = boot(target="graphical.target")
    wait_for(lambda: rig.show("lightdm.service", "ActiveState") == "active", 20)
    rig.put(deb(), "/srv/gpufan.deb")
    apt(rig, "install", "/srv/gpufan.deb")
    rig.run("gpufan", "install-service", "--yes")
    assert rig.show("lightdm.service", "ActiveState") == "inactive"
    apt(rig, "remove", "gpufan")
    assert rig.show("lightdm.service", "ActiveState") == "active"
    assert policies(rig) == [AUTO, AUTO]


def other_python() -> Path | None:
    """A Python on this machine of another minor version than that of Debian 12, with its library beside it."""
    versions = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    return next((found for minor in (13, 12, 10) for found in versions.glob(f"3.{minor}.*")), None)


def python_package(folder: Path, python: Path) -> Path:
    """A package in the place of Debian's python3, as an upgrade of the distribution brings it."""
    tree = folder / "python"
    (program,) = python.glob("bin/python3.??")
    ignored = shutil.ignore_patterns("test", "site-packages", "idlelib", "__pycache__", "*.a")
    shutil.copytree(python / "lib" / program.name, tree / "usr/lib" / program.name, ignore=ignored)
    for library in python.glob("lib/libpython3.*.so*"):
        shutil.copy(library, tree / "usr/lib", follow_symlinks=False)
    (tree / "usr/bin").mkdir()
    shutil.copy(program.resolve(), tree / "usr/bin" / program.name)
    (tree / "usr/bin/python3").symlink_to(program.name)
    (tree / "DEBIAN").mkdir()
    fields = {"Package": "python3", "Version": "99", "Architecture": "all", "Maintainer": "x <x@x>", "Description": "x"}
    fields["Replaces"] = "python3-minimal"  # which has /usr/bin/python3
    (tree / "DEBIAN/control").write_text("".join(f"{name}: {value}\n" for name, value in fields.items()))
    path = folder / "python.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", tree, path], check=True)
    return path


def test_another_python_of_the_system_runs_the_service_at_once(boot_fresh: BootFresh, tmp_path: Path):
    python = other_python()
    if python is None:
        pytest.skip("no other Python here")
    rig = boot_fresh("bookworm", deb(), python_package(tmp_path, python))
    apt(rig, "install", f"/srv/{deb().name}")
    rig.run("gpufan", "install-service", "--yes")
    rig.run("gpufan", "config", "set", "target_c", "71")
    assert "python3.11" in rig.run("readlink", f"/proc/{rig.show('gpufan.service', 'MainPID')}/exe").stdout
    rig.run("dpkg", "-i", "/srv/python.deb")
    pid = rig.show("gpufan.service", "MainPID")
    assert python.name.rpartition(".")[0] in rig.run("readlink", f"/proc/{pid}/exe").stdout
    assert policies(rig) == [MANUAL, MANUAL]
    assert "target 71" in rig.run("gpufan", "status").stdout
    assert rig.run("gpufan", "doctor", check=False).returncode == 0


def test_a_python_that_the_package_does_not_support_leaves_the_fans_with_the_driver(
    boot_fresh: BootFresh, tmp_path: Path
):
    rig = boot_fresh("bookworm", deb())
    apt(rig, "install", f"/srv/{deb().name}")
    rig.run("gpufan", "install-service", "--yes")
    rig.run("rm", "/usr/lib/gpufan/lib/python3.11")  # as if the package knew no Python 3.11
    refused = rig.run("gpufan", "status", check=False)
    assert refused.returncode == 1
    assert "gpufan: this package does not work with Python 3.11" in refused.stderr
    assert "install a newer package of gpufan" in refused.stderr
    os.kill(rig.host_pid(), signal.SIGKILL)
    wait_for(lambda: policies(rig) == [AUTO, AUTO], 10)
    rig.run("rm", "-r", "/usr/lib/gpufan")  # by somebody who does not know dpkg
    apt(rig, "purge", "gpufan")
    assert not {name for name in state(rig) if "gpufan" in name}
