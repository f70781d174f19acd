"""The .deb on a box that systemd does not run: what dpkg asks, keeps and removes."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.packages import changed_deb, deb

pytestmark = pytest.mark.slow

OF_A_CLONE = "[Service]\nExecStart=/opt/gpufan/bin/python3 -I -m gpufan run\n"
MINE = "target_c = 71  # mine, not 72 °C\n"
LATER = "target_c = 73  # °C\n"


class Box:
    """The root of a Debian box."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = root / "etc/gpufan/config.toml"
        self.site = root / "usr/lib/gpufan/lib/python3/site-packages"
        self.unit = root / "etc/systemd/system/gpufan.service"

    def dpkg(self, *words: str | Path) -> str:
        """What dpkg says. There is nobody whom it could ask."""
        done = subprocess.run(
            ["chroot", self.root, "dpkg", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def put(self, path: Path) -> str:
        """Copy a package into the box, and return its path there."""
        target = self.root / "srv" / path.name
        target.write_bytes(path.read_bytes())
        return f"/srv/{path.name}"

    def program(self, name: str, script: str) -> None:
        """Make a program that the box finds before its own."""
        path = self.root / "usr/local/sbin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def traces(self) -> set[str]:
        found = (path for name in ("etc", "usr", "var") for path in (self.root / name).rglob("*gpufan*"))
        return {str(path.relative_to(self.root)) for path in found}


@pytest.fixture
def box(root: Path) -> Box:
    return Box(root)


def test_a_purge_beside_the_service_of_a_clone_leaves_the_settings_that_it_uses(box: Box) -> None:
    package = box.put(deb())
    box.unit.write_text(OF_A_CLONE)
    box.settings.parent.mkdir()
    box.settings.write_text(MINE)
    box.settings.chmod(0o640)
    box.dpkg("--install", package)
    # In one go, also if the service does not know the settings yet.
    said = box.dpkg("--purge", "gpufan")
    assert "/etc/gpufan/config.toml stays, since /etc/systemd/system/gpufan.service uses it" in said
    assert (box.settings.read_text(), box.settings.stat().st_mode & 0o777) == (MINE, 0o640)

    # Long after a removal, when no script of the package runs before dpkg removes the settings.
    box.dpkg("--install", package)
    box.dpkg("--remove", "gpufan")
    box.settings.write_text(LATER)
    state = box.root / "var/lib/gpufan"
    state.mkdir()
    (state / "last-good-settings.json").write_text(json.dumps({"format": 1, "text": LATER}))
    box.dpkg("--purge", "gpufan")
    assert box.settings.read_text() == LATER

    # Also after an install that did not get to its end.
    box.dpkg("--unpack", package)
    box.dpkg("--purge", "gpufan")
    assert box.settings.read_text() == LATER
    assert [path.name for path in box.settings.parent.iterdir()] == ["config.toml"]

    # A copy from an old removal does not return.
    box.dpkg("--install", package)
    box.dpkg("--remove", "gpufan")
    (state / "last-good-settings.json").unlink()
    box.dpkg("--install", package)
    box.settings.write_text(MINE)
    box.unit.unlink()
    box.dpkg("--remove", "gpufan")
    assert box.settings.read_text() == MINE
    box.dpkg("--purge", "gpufan")
    assert box.traces() == set()


@pytest.mark.parametrize("kind", ["masked", "edited"])
def test_a_purge_removes_all_data_whatever_an_administrator_did_to_the_unit(box: Box, kind: str) -> None:
    before = box.traces()
    box.dpkg("--install", box.put(deb()))
    if kind == "masked":
        box.unit.symlink_to("/dev/null")
    if kind == "edited":
        box.unit.write_text((box.root / "usr/lib/systemd/system/gpufan.service").read_text())
    of_administrator = box.traces() & {"etc/systemd/system/gpufan.service"}
    # A folder elsewhere, for which /etc/gpufan is a link.
    box.settings.parent.rename(box.root / "srv/settings")
    box.settings.parent.symlink_to("../srv/settings")
    (box.settings.parent / "alerts.toml").write_text('urls = ["ntfy://secret"]\n')
    (box.root / "var/lib/gpufan").mkdir()
    box.dpkg("--purge", "gpufan")
    assert box.traces() == before | of_administrator
    assert [*(box.root / "srv/settings").iterdir()] == []


def test_dpkg_asks_nothing_after_changes_of_the_user_upgrade_downgrade_and_removal_by_hand(
    box: Box, tmp_path_factory: pytest.TempPathFactory
) -> None:
    package = box.put(deb())
    newer = box.put(changed_deb(tmp_path_factory.mktemp("newer"), "99"))
    box.settings.parent.mkdir()
    box.settings.write_text(MINE)
    (box.root / "dev/shm").rmdir()  # as in a chroot: the code is compiled all the same
    for path in (package, newer, package):
        said = box.dpkg("--install", path)
        assert "nothing is started yet. To control the fans: sudo gpufan install-service\n" in said
        assert box.settings.read_text() == MINE
        assert [*box.site.glob("gpufan/__pycache__/*.pyc")]
    box.settings.unlink()  # a settings file that the user has removed does not return
    subprocess.run(["rm", "-r", box.root / "usr/lib/gpufan"], check=True)
    box.dpkg("--install", newer)
    assert not box.settings.exists()
    version = subprocess.run(["chroot", box.root, "gpufan", "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("gpufan 99 ")
    os.remove(box.root / "usr/bin/gpufan")
    box.dpkg("--purge", "gpufan")
    assert box.traces() == set()


def test_a_machine_or_python_for_which_the_package_has_no_code_is_named(box: Box) -> None:
    box.dpkg("--unpack", box.put(deb()))
    for path in (box.site / "msgspec").glob("_core*"):
        path.unlink()
    said = box.dpkg("--configure", "gpufan")
    assert f"this package does not work with Python 3.11 on {os.uname().machine} " in said
    assert "install a newer package of gpufan, or gpufan from its source" in said
    assert "install-service" not in said


def test_an_upgrade_says_so_if_a_service_that_is_not_enabled_fails(box: Box) -> None:
    (box.root / "run/systemd/system").mkdir(parents=True)
    box.program(
        "systemctl",
        """case "$*" in
            show*) echo ExecStart=/usr/lib/gpufan/bin/python3 ;;
            *try-restart*) exit 1 ;;
            *is-active* | *is-enabled*) exit 3 ;;
        esac""",
    )
    said = box.dpkg("--install", box.put(deb()))
    assert "gpufan.service does not start; until it does, the driver controls the fans" in said
    assert "gpufan-history.service does not start; the fans do not depend on it" in said
    assert "nothing is started yet" not in said


def test_code_that_cannot_be_compiled_completely_is_not_compiled_at_all(box: Box) -> None:
    # On a full disk, Python leaves parts of compiled files behind, and cannot import them.
    box.dpkg("--unpack", box.put(deb()))
    (box.site / "gpufan/wrong.py").write_text("(")
    box.dpkg("--configure", "gpufan")
    subprocess.run(["chroot", box.root, "gpufan", "doctor"], capture_output=True, check=False)
    assert [*box.site.rglob("*.pyc")] == []
