"""A box to install on: a folder in place of /, a systemctl of ours, and the NVML double."""

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

from gpufan.cli import main as cli
from gpufan.cli import service as service_commands
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
from gpufan.service import config_file, disabled_unit, exposure, install, manifest, plan, proof, root_copy, units
from gpufan.system import paths, signals, systemctl
from tests.doubles.nvml import AUTO, NvmlDouble

man_page, completion_script = cache(service_commands.man_page), cache(service_commands.completion_script)


class Systemctl:
    """`systemctl`, without a process of its own. The state is in files, so that it outlives a killed install.

    There is a file active/UNIT for each active unit, and a file runs-UNIT that grows with each start. A file fails-UNIT
    has the exit status of a start. While there is a file `broken`, gpufan.service does not start; the file says why.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.units = root / "units"
        self.properties: dict[str, str] = {"Result": "success"}
        """Properties of every unit."""
        self.refused: tuple[str, ...] = ()
        """Commands that fail."""
        self.ignored: tuple[str, ...] = ()
        """Commands that do nothing."""

    def run(self, command: Sequence[str], **_: object) -> "subprocess.CompletedProcess[str]":
        """Run a command as `subprocess.run` does. No other program is installed."""
        if command[0] != "systemctl":
            raise FileNotFoundError(2, "No such file or directory", command[0])
        verb, *words = (word for word in command[1:] if word not in ("--no-pager", "--no-ask-password"))
        unit = next((word for word in words if not word.startswith("--")), "")
        if verb == "show":
            text = (self.root / "services").read_text() if unit == "*" else self.show(unit)
            return subprocess.CompletedProcess(command, 0, text, "")
        sys.audit("systemctl", verb, unit)
        with (self.root / "calls").open("a") as calls:
            print(verb, *words, file=calls)
        status, error = (1, "no") if f"{verb} {unit}" in self.refused else (0, "")
        if not status and f"{verb} {unit}" not in self.ignored:
            status, error = self.change(verb, unit)
        return subprocess.CompletedProcess(command, status, "", error)

    def show(self, unit: str) -> str:
        runs = self.root / f"runs-{unit}"
        found_here = os.path.lexists(self.units / unit) or (self.root / "packaged-units" / unit).exists()
        exists = found_here or not unit.startswith(("gpufan", "display-manager"))
        found = self.properties | {
            "Id": "lightdm.service" if unit == "display-manager.service" else unit,
            "InvocationID": runs.read_text() if runs.exists() else "",
            "ActiveState": "active" if (self.root / "active" / unit).exists() else "inactive",
            "LoadState": "loaded" if exists and not (self.root / f"gone-{unit}").exists() else "not-found",
            "UnitFileState": self.unit_file_state(unit),
        }
        if (self.root / "broken").exists():
            found |= {"StatusErrno": "125", "StatusText": (self.root / "broken").read_text()}
        return "".join(f"{key}={value}\n" for key, value in found.items())

    def unit_file_state(self, unit: str) -> str:
        if (self.units / unit).is_symlink() and (self.units / unit).readlink() == Path("/dev/null"):
            return "masked"
        return "enabled" if self.link(unit).is_symlink() else "disabled"

    def change(self, verb: str, unit: str) -> tuple[int, str]:
        """Exit status and standard error of a command that changes something."""
        active, fails = self.root / "active" / unit, self.root / f"fails-{unit}"
        if verb in ("start", "restart"):
            if fails.exists():
                return int(fails.read_text()), ""
            with (self.root / f"runs-{unit}").open("a") as runs:
                runs.write("I")
            if unit != "gpufan.service" or not (self.root / "broken").exists():
                active.touch()
        elif verb == "stop":
            active.unlink(missing_ok=True)
        elif verb == "enable":
            self.link(unit).symlink_to(f"../{unit}")
        elif verb == "disable":
            self.link(unit).unlink(missing_ok=True)
        elif verb == "reset-failed":
            return 1, f"Unit {unit} not loaded."
        return 0, ""

    def link(self, unit: str) -> Path:
        return self.units / "multi-user.target.wants" / unit


class Box:
    def __init__(self, root: Path, double: NvmlDouble) -> None:
        self.root, self.double, self.systemctl = root, double, Systemctl(root)

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
    (tmp_path / "systemctl").touch(0o755)  # which is found, and not run
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(os, "fsync", lambda _: None)  # which is slow
    monkeypatch.setattr(service_commands, "man_page", man_page)
    monkeypatch.setattr(service_commands, "completion_script", completion_script)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(systemctl, "BOOTED", tmp_path)
    monkeypatch.setattr(manifest, "PATH", tmp_path / "var-install/install.json")
    monkeypatch.setattr(manifest, "OLD_PATH", tmp_path / "var/install.json")
    monkeypatch.setattr(config_file, "CONFIG", tmp_path / "etc/config.toml")
    monkeypatch.setattr(config_file, "ALERTS", tmp_path / "etc/alerts.toml")
    for module in (systemctl, units, disabled_unit):
        monkeypatch.setattr(module, "UNIT_FOLDER", tmp_path / "units")
    for module in (plan, proof):
        monkeypatch.setattr(module, "RUNTIME_FOLDER", tmp_path / "run")
    monkeypatch.setattr(paths, "PREFIX", tmp_path / "usr")
    monkeypatch.setattr(install, "START_S", 0.3)
    monkeypatch.setattr(install, "COMPANION_S", 0.0)
    monkeypatch.setattr(proof, "_POLL_S", 0.02)
    monkeypatch.setattr(signals, "exit_at_signals", lambda: None)
    monkeypatch.setattr(exposure, "installation_exposure", lambda: None)
    monkeypatch.setattr(root_copy, "copied_files_digest", lambda: "same")  # which would read every file of Python
    monkeypatch.setattr(root_copy, "COPY", tmp_path / "opt/gpufan")
    monkeypatch.setattr(config_file, "check_config_owner", lambda _: None)
    double = NvmlDouble(tmp_path, SimulatedBox(PROFILES["dual-1080ti"], WORKLOADS["idle"]))
    with double.install(), double.live(20):
        box = Box(tmp_path, double)
        programs = SimpleNamespace(**{**vars(subprocess), "run": box.systemctl.run})
        monkeypatch.setattr(systemctl, "subprocess", programs)
        yield box
