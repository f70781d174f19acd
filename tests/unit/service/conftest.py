"""A box to install on: a folder in place of /, a systemctl of ours, and the NVML double."""

import os
from pathlib import Path

import pytest

from gpufan.cli import main as cli
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
from gpufan.service import config_file, exposure, install, manifest, plan, proof, root_copy, units
from gpufan.system import paths, systemctl
from tests.doubles.nvml import AUTO, NvmlDouble

SYSTEMCTL = """#!/bin/sh
# State: a file ACTIVE/unit for each active unit. What is said of units is what install asks for, hundreds of times: so
# it calls no program where the shell will do.
cd "${0%/*}"
while case "$1" in --*) ;; *) false ;; esac; do shift; done
verb=$1 unit=$2
[ "$unit" != --quiet ] || unit=$3
[ "$unit" != --no-block ] || unit=$3
echo "$*" >>calls
case $verb in
show)
    case $* in *--type=service*) cat services; exit ;; esac
    [ ! -e "active/$unit" ] && echo ActiveState=inactive || echo ActiveState=active
    state=loaded
    case $unit in
    gpufan* | display-manager*) [ -e "units/$unit" ] || [ -L "units/$unit" ] || state=not-found ;;
    *) [ ! -e "gone-$unit" ] || state=not-found ;;
    esac
    echo LoadState=$state
    [ ! -L "units/multi-user.target.wants/$unit" ] && echo UnitFileState=disabled || echo UnitFileState=enabled
    [ "$unit" != display-manager.service ] || echo Id=lightdm.service
    echo Result=success
    [ ! -e broken ] || printf "StatusErrno=125\\nStatusText=%s\\n" "$(cat broken)" ;;
start | restart)
    [ ! -e "fails-$unit" ] || exit "$(cat "fails-$unit")"
    [ ! -e broken ] || [ "$unit" != gpufan.service ] || exit 0
    : >"active/$unit" ;;
stop) rm -f "active/$unit" ;;
enable) ln -s "units/$unit" "units/multi-user.target.wants/$unit" ;;
disable) rm -f "units/multi-user.target.wants/$unit" ;;
reset-failed) echo "Unit $unit not loaded." >&2; exit 1 ;;
esac
"""


class Box:
    def __init__(self, root: Path, double: NvmlDouble) -> None:
        self.root, self.double = root, double

    def call(self, *arguments: str) -> None:
        cli.cli.main(arguments, standalone_mode=False)

    def refused(self, *arguments: str) -> str:
        before = self.state()
        with pytest.raises(Exception) as error:
            self.call(*arguments)
        assert self.state() == before
        assert [card.fans[0].policy for card in self.double.cards[:2]] == [AUTO, AUTO]
        return str(error.value)

    def state(self) -> set[str]:
        files = {str(path.relative_to(self.root)) for path in self.root.rglob("*")}
        return {name for name in files if not name.startswith(("calls", "nvml", "run"))}


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder in place of the root of a box with two cards and lightdm."""
    (tmp_path / "active").mkdir()
    (tmp_path / "units/multi-user.target.wants").mkdir(parents=True)
    (tmp_path / "active/lightdm.service").touch()
    (tmp_path / "units/display-manager.service").symlink_to("/lib/systemd/system/lightdm.service")
    (tmp_path / "services").write_text("")
    (tmp_path / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(systemctl, "BOOTED", tmp_path)
    monkeypatch.setattr(manifest, "PATH", tmp_path / "var-install/install.json")
    monkeypatch.setattr(manifest, "OLD_PATH", tmp_path / "var/install.json")
    monkeypatch.setattr(config_file, "CONFIG", tmp_path / "etc/config.toml")
    monkeypatch.setattr(config_file, "ALERTS", tmp_path / "etc/alerts.toml")
    for module in (systemctl, units):
        monkeypatch.setattr(module, "UNIT_FOLDER", tmp_path / "units")
    monkeypatch.setattr(systemctl.links_to, "__defaults__", (tmp_path / "units",))
    for module in (plan, install):
        monkeypatch.setattr(module, "RUNTIME_FOLDER", tmp_path / "run")
    monkeypatch.setattr(paths, "PREFIX", tmp_path / "usr")
    monkeypatch.setattr(install, "START_S", 0.3)
    monkeypatch.setattr(install, "COMPANION_S", 0.0)
    monkeypatch.setattr(proof, "_POLL_S", 0.02)
    monkeypatch.setattr(install, "_exit_at_signals", lambda: None)
    monkeypatch.setattr(exposure, "installation_exposure", lambda: None)
    monkeypatch.setattr(root_copy, "sources_digest", lambda: "same")  # which would read every file of Python
    monkeypatch.setattr(root_copy, "COPY", tmp_path / "opt/gpufan")
    monkeypatch.setattr(config_file, "check_owner", lambda _: None)
    double = NvmlDouble(tmp_path, SimulatedBox(PROFILES["dual-1080ti"], WORKLOADS["idle"]))
    with double.install(), double.live(20):
        yield Box(tmp_path, double)
