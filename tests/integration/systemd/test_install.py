"""`gpufan install-service` and `gpufan uninstall-service` under the real systemd."""

import re
import time

import pytest

from gpufan import __version__
from tests.doubles.nvml import AUTO, IGNORES, MANUAL, wait_for
from tests.integration.systemd.conftest import Boot
from tests.integration.systemd.rig import GPUFAN, VENV, Rig

pytestmark = pytest.mark.systemd

SETTINGS = "etc/gpufan/config.toml"
STATE = "var/lib/gpufan"
COOLGPUS = """[Service]
ExecStart=/usr/local/bin/coolgpus --temp 20 55 80 --speed 20 30 99 --hyst 3
[Install]
WantedBy=multi-user.target
"""


def policies(rig: Rig) -> list[int]:
    return [card.fans[0].policy for card in rig.double.cards[:2]]


def doctor(rig: Rig) -> str:
    """What the doctor of the user's gpufan says, in one line."""
    return " ".join(rig.run(GPUFAN, "doctor", check=False).stdout.split())


def refused(rig: Rig, *command: str) -> str:
    """The one line that the command ends with, having changed nothing."""
    with rig.unchanged():
        done = rig.run(*command, check=False)
    assert done.returncode in (1, 2), done.stdout
    assert policies(rig) == [AUTO, AUTO]
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_install_and_uninstall_leave_only_the_files_that_they_name(rig: Rig):
    before = rig.changes()
    said = rig.install("--curve", "40:30,80:100")
    assert "its fan went from" in said
    assert rig.show("gpufan.service", "ActiveState") == "active"
    assert policies(rig) == [MANUAL, MANUAL]
    assert 'curve = "40:30,80:100"' in rig.run("cat", f"/{SETTINGS}").stdout

    with rig.unchanged():
        pid = rig.show("gpufan.service", "MainPID")
        rig.install()
        assert rig.show("gpufan.service", "MainPID") == pid, "a second install restarted what had not changed"

    rig.run("/opt/gpufan/bin/gpufan", "uninstall-service")
    assert policies(rig) == [AUTO, AUTO]
    after = rig.changes()
    kept = {name for name in after.keys() - before.keys() if not name.startswith(STATE)}
    assert kept == {"etc/gpufan", SETTINGS}
    assert {name: after[name] for name in before} == before
    with rig.unchanged():
        assert "not installed" in rig.run(GPUFAN, "uninstall-service").stdout
    rig.run(GPUFAN, "uninstall-service", "--purge")
    assert rig.changes() == before


def test_every_user_finds_the_command_its_manual_page_and_its_completion(rig: Rig):
    rig.install()
    as_user = ("setpriv", "--reuid=user", "--clear-groups")
    assert rig.run(*as_user, "sh", "-c", "command -v gpufan").stdout == "/usr/local/bin/gpufan\n"
    assert "GTX 1080 Ti" in rig.run(*as_user, "gpufan", "status").stdout
    assert "gpufan run" in rig.run("cat", "/usr/local/share/man/man1/gpufan.1").stdout
    assert "bash_complete" in rig.run("cat", "/usr/local/share/bash-completion/completions/gpufan").stdout


def test_the_history_stays_until_it_is_purged(rig: Rig):
    rig.install()
    file = "/var/lib/gpufan/history/history.sqlite"
    wait_for(lambda: rig.run("test", "-s", file, check=False).returncode == 0, 10)
    assert rig.run("stat", "-c", "%U", file).stdout != "root\n"
    rig.run("gpufan", "uninstall-service")
    assert rig.show("gpufan-history.service", "LoadState") == "not-found"
    rig.install()
    assert rig.show("gpufan-history.service", "ActiveState") == "active"
    rig.run("gpufan", "uninstall-service", "--purge")
    assert rig.run("ls", "/var/lib/private").stdout == ""


def test_after_systemctl_clean_the_service_is_still_installed_and_can_be_uninstalled(rig: Rig):
    before = rig.changes()
    rig.install()
    rig.run("systemctl", "stop", "gpufan.service", "gpufan-history.service")
    rig.run("systemctl", "clean", "--what=state", "gpufan.service")
    assert rig.run("test", "-e", f"/{STATE}", check=False).returncode == 1
    rig.run("gpufan", "uninstall-service", "--purge")
    assert rig.changes() == before


def test_a_service_whose_files_are_faulty_by_now_is_stopped_by_an_uninstall(rig: Rig):
    before = rig.changes()
    rig.install()
    rig.write("/etc/systemd/system/gpufan.service.d/broken.conf", "[Service]\nType=oneshot\nRestart=always\n")
    rig.run("systemctl", "daemon-reload")
    assert rig.show("gpufan.service", "LoadState") == "bad-setting"
    assert policies(rig) == [MANUAL, MANUAL]
    rig.run("gpufan", "uninstall-service", "--purge")
    assert policies(rig) == [AUTO, AUTO]
    assert rig.run("pgrep", "-f", "gpufan run", check=False).returncode == 1
    rig.run("rm", "-r", "/etc/systemd/system/gpufan.service.d")
    assert rig.changes() == before


def test_a_new_version_replaces_the_old_copy_and_unit(rig: Rig):
    rig.install()
    pid = rig.show("gpufan.service", "MainPID")
    rig.run("sh", "-c", f"sed -i '$a # newer' {VENV}/lib/python3*/site-packages/gpufan/core/curve.py")
    rig.run("sed", "-i", "s/^WatchdogSec=.*/WatchdogSec=99/", "/etc/systemd/system/gpufan.service")
    assert "which has other code of the same version" in doctor(rig)
    rig.run("sh", "-c", f"echo '__version__ = \"99\"' >$(echo {VENV}/lib/python3*/site-packages/gpufan/__init__.py)")
    assert f"which is older, gpufan {__version__}; this is gpufan 99" in doctor(rig)
    said = rig.install()
    assert "-WatchdogSec=99" in said
    assert "+WatchdogSec=15" in said
    assert rig.show("gpufan.service", "ActiveState") == "active"
    assert rig.show("gpufan.service", "MainPID") != pid
    assert "# newer" in rig.run("sh", "-c", "cat /opt/gpufan/lib/python3*/site-packages/gpufan/core/curve.py").stdout


def test_lightdm_is_disabled_until_gpufan_is_uninstalled(boot: Boot):
    rig = boot(target="graphical.target")
    wait_for(lambda: rig.show("lightdm.service", "ActiveState") == "active", 20)
    before = rig.changes()
    assert "stop and disable lightdm.service" in rig.install()
    assert rig.show("lightdm.service", "ActiveState") == "inactive"
    rig.reboot()
    assert rig.show("lightdm.service", "ActiveState") == "inactive"
    wait_for(lambda: rig.show("gpufan.service", "ActiveState") == "active", 20)
    rig.run("/opt/gpufan/bin/gpufan", "uninstall-service", "--purge")
    assert rig.show("lightdm.service", "ActiveState") == "active"
    assert rig.show("display-manager.service", "Id") == "lightdm.service"
    assert rig.changes() == before


def test_a_rival_is_disabled_and_its_curve_is_used(rig: Rig):
    rig.write("/usr/local/bin/coolgpus", "#!/bin/sh\nexec sleep infinity\n", "755")
    rig.write("/etc/systemd/system/fans.service", COOLGPUS)
    rig.run("systemctl", "enable", "--now", "fans.service")
    before = rig.changes()
    assert "stop and disable fans.service" in rig.install()
    assert rig.show("fans.service", "ActiveState") == "inactive"
    settings = rig.run("cat", f"/{SETTINGS}").stdout
    assert 'curve = "20:20,55:30,80:99"' in settings
    assert re.search(r"^hysteresis_c = 3", settings, re.MULTILINE)
    rig.run("/opt/gpufan/bin/gpufan", "uninstall-service", "--purge")
    assert rig.show("fans.service", "ActiveState") == "active"
    assert rig.changes() == before


def test_an_install_that_fails_changes_nothing(rig: Rig):
    assert "add --yes" in refused(rig, GPUFAN, "install-service")
    assert "sudo" in refused(rig, "setpriv", "--reuid=user", "--clear-groups", GPUFAN, "install-service", "--yes")
    hidden = f"mount -t tmpfs none /run && exec {GPUFAN} install-service --yes"
    assert "systemd does not run this box" in refused(rig, "unshare", "-m", "sh", "-c", hidden)
    read_only = f"mount --bind /etc /etc && mount -o remount,bind,ro /etc && exec {GPUFAN} install-service --yes"
    assert "/etc/systemd/system is read-only" in refused(rig, "unshare", "-m", "sh", "-c", read_only)
    assert "no such card" in refused(rig, GPUFAN, "install-service", "--yes", "--gpu", "7")

    rig.double.cards[1].fans[0].stuck = IGNORES
    stuck = refused(rig, GPUFAN, "install-service", "--yes")
    assert "1 GTX 1080 Ti: fan 0 stays with the driver" in stuck
    rig.double.cards[1].fans[0].stuck = 0

    rig.write(f"/{SETTINGS}", "curv = 3\n")
    assert "curv" in refused(rig, GPUFAN, "install-service", "--yes")
    rig.write(f"/{SETTINGS}", "")
    rig.run("chown", "user", f"/{SETTINGS}")
    assert f"sudo chown root: /{SETTINGS}" in refused(rig, GPUFAN, "install-service", "--yes")
    rig.run("rm", f"/{SETTINGS}")

    rig.write("/etc/systemd/system/gpufan.service.d/broken.conf", "[Service]\nExecStart=\nExecStart=/bin/false\n")
    assert "gpufan.service does not start" in refused(rig, GPUFAN, "install-service", "--yes")
    assert rig.show("gpufan.service", "LoadState") != "loaded"


def test_a_dry_run_lists_the_steps_and_changes_nothing(rig: Rig):
    with rig.unchanged():
        said = rig.run(GPUFAN, "install-service", "--dry-run").stdout
    assert "write /etc/systemd/system/gpufan.service" in said
    assert "copy gpufan to /opt/gpufan" in said
    assert rig.double.log() == []


def test_an_installation_of_root_is_not_copied(rig: Rig):
    rig.run("sh", "-c", f"cp -r {VENV} /srv/venv && chown -R root: /srv/venv")
    said = rig.run("/srv/venv/bin/python", "-I", "-m", "gpufan", "install-service", "--yes").stdout
    assert "/opt/gpufan" not in said
    assert "/srv/venv/bin/python -I -m gpufan run" in rig.show("gpufan.service", "ExecStart")
    assert rig.run("test", "-e", "/opt/gpufan", check=False).returncode == 1


def test_with_no_start_the_service_starts_at_the_next_boot(boot: Boot):
    rig = boot(target="graphical.target")
    rig.install("--no-start", "--skip-check")
    assert policies(rig) == [AUTO, AUTO]
    assert rig.show("lightdm.service", "ActiveState") == "active"
    rig.reboot()
    assert rig.show("lightdm.service", "ActiveState") == "inactive"
    wait_for(lambda: policies(rig) == [MANUAL, MANUAL], 10)


def test_the_service_waits_for_a_late_driver_without_restarts(rig: Rig):
    rig.install()
    rig.without_driver()
    rig.reboot(lambda: setattr(rig.double.map, "init_error", 9))  # which comes up all the same
    wait_for(lambda: "not loaded" in rig.show("gpufan.service", "StatusText"), 10)
    time.sleep(3)
    assert rig.show("gpufan.service", "NRestarts") == "0"
    assert rig.journal().count("not loaded") == 1
    rig.double.map.init_error = 0
    rig.run("mknod", "/dev/nvidiactl", "c", "195", "255")
    wait_for(lambda: policies(rig) == [MANUAL, MANUAL], 15)
