"""An upgrade from release 0.1.0, as its own `install-service` has installed it, to the Debian package."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import files
from pathlib import Path

import pytest

from tests.doubles import require
from tests.doubles.nvml import AUTO, MANUAL, wait_for
from tests.integration.packages import SOURCE, deb
from tests.integration.systemd.conftest import boot_layers
from tests.integration.systemd.rig import GPUFAN, VENV, Rig, debian_root, site_packages, source_layer, write_files
from tests.integration.systemd.test_package import SETTINGS, apt, policies, state

pytestmark = pytest.mark.systemd

RELEASE = "e747f9cac5122ed502773eb46a1364b558e7870d"
"""The last commit of 0.1.0."""
HISTORY = "/var/lib/gpufan/history/history.sqlite"
FIRST_TIME = f"import sqlite3; print(sqlite3.connect('{HISTORY}').execute('SELECT min(time_s) FROM second').fetchone())"


@pytest.fixture
def old_rig(tmp_path: Path) -> Iterator[Rig]:
    """A box with a display manager, and with release 0.1.0 in the environment of its user."""
    source = tmp_path / "source"
    source.mkdir()
    git = require("git", "git")
    archive = subprocess.run([git, "-C", SOURCE, "archive", RELEASE], capture_output=True, check=False)
    if archive.returncode != 0:
        reason = archive.stderr.decode().strip()
        pytest.skip(f"git has no release 0.1.0 here ({reason}); for a shallow clone: git fetch --unshallow")
    subprocess.run(["tar", "-x", "-C", source], input=archive.stdout, check=True)
    root = debian_root()
    layer = source_layer(tmp_path / "layer", root, source)
    write_files(layer, {GPUFAN[1:]: f"#!{VENV}/bin/python\nfrom gpufan.cli import main\nmain()\n"})
    # Only 0.1.0 needs these.
    for name in ("python-xlib", "six"):
        for file in files(name) or ():
            target = layer / site_packages(root).relative_to(root) / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target)
    with ExitStack() as ends:
        yield boot_layers([layer, root], tmp_path, ends, target="graphical.target")


def first_time(rig: Rig) -> str:
    """When the history begins."""
    return rig.run("python3", "-c", FIRST_TIME).stdout


def test_release_0_1_0_moves_to_the_package_with_its_settings_and_its_history(old_rig: Rig):
    rig = old_rig
    before = state(rig)
    rig.install("--target", "72", "--exporter")
    assert " 0.1.0 " in rig.run("gpufan", "--version").stdout
    assert rig.show("lightdm.service", "ActiveState") == "inactive"
    wait_for(lambda: rig.run("test", "-s", HISTORY, check=False).returncode == 0, 20)
    wait_for(lambda: "None" not in first_time(rig), 20)
    settings, begin = rig.run("cat", SETTINGS).stdout, first_time(rig)
    rig.run("systemctl", "restart", "gpufan.service")  # at its end it saves what it has learnt
    assert rig.run("ls", "/var/lib/gpufan/learnt").stdout.count("GPU-") == 2
    pid = rig.show("gpufan.service", "MainPID")

    # The package leaves the service of 0.1.0 running, says how to renew it, and does not disturb it.
    rig.put(deb(), "/srv/gpufan.deb")
    said = apt(rig, "install", "/srv/gpufan.deb")
    assert "sudo /usr/bin/gpufan install-service" in said
    doctor = " ".join(rig.run("/usr/bin/gpufan", "doctor", check=False).stdout.split())
    assert "which is older, gpufan 0.1.0" in doctor
    assert "run `install-service` again" in doctor
    assert "gpufan restore" not in doctor
    for command in ("restore", "set 60 --keep", "pause --gpu 0"):
        refused = rig.run("/usr/bin/gpufan", *command.split(), check=False)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert rig.show("gpufan.service", "MainPID") == pid
    assert policies(rig) == [MANUAL, MANUAL]

    # The install moves the service, with all that 0.1.0 has recorded.
    rig.run("/usr/bin/gpufan", "install-service", "--yes")
    assert policies(rig) == [MANUAL, MANUAL]
    assert "/usr/lib/gpufan/bin/python3" in rig.show("gpufan.service", "ExecStart")
    assert rig.run("cat", SETTINGS).stdout == settings
    assert "target 72" in rig.run("gpufan", "status").stdout
    assert first_time(rig) == begin
    ignored = [line for line in rig.journal().splitlines() if "was written by an older gpufan and is ignored" in line]
    assert len(ignored) == 2
    for companion in ("history", "exporter"):
        assert rig.show(f"gpufan-{companion}.service", "ActiveState") == "active"
        assert "/usr/lib/gpufan/bin/python3" in rig.show(f"gpufan-{companion}.service", "ExecStart")
    # Of units, only the links of `systemctl enable` are left below /etc; of the copy and its links, nothing.
    places = ("etc/systemd/system/gpufan", "opt", "usr/local")
    assert {name for name in state(rig) if name.startswith(places)} == set()
    assert rig.run("gpufan", "doctor", check=False).returncode == 0

    rig.reboot()
    wait_for(lambda: policies(rig) == [MANUAL, MANUAL], 20)
    apt(rig, "purge", "gpufan")
    rig.run("rm", "/srv/gpufan.deb")
    assert policies(rig) == [AUTO, AUTO]
    assert rig.show("lightdm.service", "ActiveState") == "active"
    assert state(rig) == before
