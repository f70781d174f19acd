"""Faults on an otherwise healthy box: `gpufan doctor` finds each one and names the remedy.

The box is a folder in place of /, a `systemctl` that prints a file, cards of the double, and the real control loop.
"""

import json
import os
import re
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pynvml
import pytest

from gpufan.daemon import card_reader, read_back
from gpufan.daemon import loop as daemon
from gpufan.daemon.snapshot_file import SnapshotFile, snapshot_now
from gpufan.daemon.worker import Worker
from gpufan.doctor import look, root_folder
from gpufan.gpu import cards, nvml_box
from gpufan.gpu.cards import open_cards
from gpufan.gpu.nvml import NvmlGpu
from gpufan.service import conflicts, proof
from gpufan.system import systemctl, unit_state
from gpufan.system.lock import controller_lock
from tests.doubles.nvml import IGNORES, JAMS, Kind, NvmlDouble, wait_for
from tests.integration.harness import Running, fans, running, settings
from tests.unit.builders import gpu_state

Command = Callable[..., tuple[int, str, str]]

SYSTEMCTL = """#!/bin/sh
case "$*" in
*" gpufan.service "*) exec /bin/cat "{folder}/gpufan.service" ;;
*) echo LoadState=not-found ;;
esac
"""
JOURNALCTL = """#!/bin/sh
exec /bin/cat "{folder}/journal"
"""
WELL = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
    "Result": "success",
    "MainPID": str(os.getpid()),
    "NRestarts": "0",
    "CapabilityBoundingSet": "cap_sys_admin",
    "NeedDaemonReload": "no",
}
EVERY_CAPABILITY = "CapEff:\t000001ffffffffff\n"
NO_CAPABILITY = "CapEff:\t00000000a80425fb\n"
XORG_CONF = """Section "Device"
    Identifier "Card"
    Driver "nvidia"
    BusID "PCI:10:0:0"
EndSection
"""


class Box:
    """A box with a gpufan service, as everything outside this process sees it."""

    def __init__(self, folder: Path, double: NvmlDouble, gpufan: Command, runtime: Path) -> None:
        self.root, self.double, self.runtime = folder / "root", double, runtime
        self._bin, self._gpufan = folder / "bin", gpufan
        self.write("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95  Tue\n")
        self.write("proc/self/status", EVERY_CAPABILITY)
        self.write("etc/os-release", "ID=debian\n")
        (self.root / "run/systemd/system").mkdir(parents=True)
        for card in double.cards[: double.map.card_count]:
            self.plug_in(card.pci.decode()[4:].lower())
        self._bin.mkdir()
        self.script("systemctl", SYSTEMCTL.format(folder=self._bin))
        self.script("journalctl", JOURNALCTL.format(folder=self._bin))
        (self._bin / "journal").write_text("")
        self.unit()
        runtime.mkdir()

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def plug_in(self, address: str, driver: str | None = "nvidia", device: str = "0x1b06") -> None:
        folder = f"sys/bus/pci/devices/{address}"
        for name, value in (("vendor", "0x10de"), ("class", "0x030000"), ("device", device)):
            self.write(f"{folder}/{name}", value + "\n")
        if driver:
            (self.root / folder / "driver").symlink_to(f"../../drivers/{driver}")

    def start(self, pid: int, *words: str, unit: str | None = None) -> None:
        """Let a process appear."""
        self.write(f"proc/{pid}/cmdline", "\0".join(words) + "\0")
        self.write(f"proc/{pid}/cgroup", f"0::/system.slice/{unit}\n" if unit else "0::/user.slice/session-1.scope\n")

    def unit(self, **changes: str) -> None:
        text = "\n".join(f"{key}={value}" for key, value in {**WELL, **changes}.items())
        (self._bin / "gpufan.service").write_text(text + "\n")

    def script(self, name: str, text: str) -> None:
        (self._bin / name).write_text(text)
        (self._bin / name).chmod(0o755)

    def config(self) -> str:
        """A file of settings that needs no X."""
        self.write("etc/gpufan/config.toml", 'backend = "nvml"\n')
        return str(self.root / "etc/gpufan/config.toml")

    def shown(self, *arguments: str) -> str:
        """What a person sees, each finding on one line."""
        return " ".join(self._gpufan("doctor", *arguments)[1].split())

    def doctor(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Exit status, and what is not ok by check."""
        status, out, err = self._gpufan("doctor", "--json", *arguments)
        assert err == ""
        return status, {found["check"]: found for found in json.loads(out)["findings"] if found["level"] != "ok"}

    def finds(self, check: str, level: str, text: str, remedy: str) -> None:
        """Assert that this is the only finding that is not ok, and that a person is shown its remedy."""
        status, found = self.doctor()
        assert set(found) == {check}
        assert found[check]["level"] == level
        assert text in found[check]["text"]
        assert any(remedy in command for command in found[check]["remedies"]), found[check]["remedies"]
        assert status == (1 if level == "problem" else 0)
        shown_status, shown, _ = self._gpufan("doctor")
        assert shown_status == status
        assert remedy in shown


@pytest.fixture
def box(
    tmp_path: Path, double: NvmlDouble, gpufan: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Box]:
    monkeypatch.setattr(root_folder, "ROOT", tmp_path / "root")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with double.live(100):
        yield Box(tmp_path, double, gpufan, folder)


@pytest.fixture
def run(box: Box) -> Iterator[Callable[..., Running]]:
    """Runs the loop over `workers`, and returns when there is a snapshot of every card as `controls` wants them."""
    with ExitStack() as stack:

        def start(*controls: str, workers: Sequence[Worker] | None = None) -> Running:
            file = SnapshotFile(box.runtime / "state.json")
            workers = workers or [Worker(NvmlGpu(card), settings()) for card in (0, 1)]
            daemon_run = stack.enter_context(running(*workers, publish=[file.write]))
            wait_for(lambda: daemon_run.snapshots and [g.control for g in daemon_run.snapshots[-1].gpus] == [*controls])
            wait_for((box.runtime / "state.json").exists)
            seen = len(daemon_run.snapshots)
            wait_for(lambda: len(daemon_run.snapshots) > seen + 1)
            return daemon_run

        yield start


Run = Callable[..., Running]


def test_a_healthy_box_has_no_findings(box: Box, run: Run) -> None:
    run("ours", "ours")
    assert box.doctor() == (0, {})


def test_a_running_rival(box: Box, run: Run) -> None:
    run("ours", "ours")
    box.start(321, "/usr/bin/python3", "/usr/local/bin/coolgpus", "--temp", "20", unit="fans.service")
    box.finds("rivals", "problem", "coolgpus (fans.service)", "sudo systemctl disable --now fans.service")


def test_missing_coolbits(box: Box, run: Run) -> None:
    run("ours", "ours")
    box.write("etc/gpufan/config.toml", 'backend = "x11"\ndisplay = ":0"\n')
    box.write("etc/X11/xorg.conf", XORG_CONF)
    box.finds("coolbits", "problem", "Coolbits is missing in /etc/X11/xorg.conf", "setup-xorg")


def test_a_library_of_another_version_than_the_kernel_module(box: Box) -> None:
    box.double.map.init_error = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    pynvml.nvmlShutdown()
    box.unit(ActiveState="activating", SubState="start", StatusText="of different versions: reboot")
    status, found = box.doctor()
    assert status == 1
    assert found["driver"]["remedies"] == ["sudo reboot"]
    assert "580.95" in found["driver"]["text"]
    assert found["service"]["text"].endswith("of different versions: reboot")


def test_no_rights_as_an_ordinary_user(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    _, found = box.doctor()
    assert (found["rights"]["level"], found["rights"]["remedies"][-1][:5]) == ("warning", "sudo ")
    assert "not root" in found["rights"]["text"]


def test_no_rights_for_root_in_a_container(box: Box, run: Run) -> None:
    run("ours", "ours")
    box.write("proc/self/status", NO_CAPABILITY)
    box.finds("rights", "problem", "lacks CAP_SYS_ADMIN", "--cap-add SYS_ADMIN")


def test_no_rights_for_the_service(box: Box, run: Run) -> None:
    run("ours", "ours")
    box.unit(User="alice", DropInPaths="/etc/systemd/system/gpufan.service.d/override.conf")
    box.finds("service", "problem", "runs as alice", "sudo systemctl edit gpufan")


def test_a_masked_unit(box: Box) -> None:
    box.unit(LoadState="masked", UnitFileState="masked", ActiveState="inactive", SubState="dead", MainPID="0")
    status, found = box.doctor()
    assert (status, found["service"]["level"]) == (1, "problem")
    assert "sudo systemctl unmask gpufan" in found["service"]["remedies"]


def test_a_stale_snapshot(box: Box) -> None:
    stale = msgspec.structs.replace(snapshot_now((gpu_state(),), interval_s=1), time_s=time.time() - 90)
    SnapshotFile(box.runtime / "state.json").write(stale)
    box.finds("snapshot", "problem", "90 s old, so process", f"sudo kill -9 {os.getpid()}")
    box.finds("snapshot", "problem", "hangs", "sudo systemctl restart gpufan")


def test_a_fan_that_ignores_what_is_set(box: Box, run: Run) -> None:
    box.double.cards[1].fans[0].stuck = IGNORES
    run("ours", "released")
    box.finds("fans", "problem", "do not follow: another program gave fan 0 back", "doctor --try-fans")


def test_a_fan_that_is_jammed(box: Box, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_back, "REST_S", 0.3)
    box.double.cards[1].fans[0].stuck = JAMS
    loop = run("ours", "ours")
    wait_for(lambda: loop.snapshots[-1].gpus[1].fault is not None)
    box.finds("fans", "warning", "fan 0 stays at 23 % although it is set to 60 %", "gpufan status")


def test_a_fan_that_stands_still(box: Box, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_back, "REST_S", 0.3)
    monkeypatch.setattr(card_reader, "FANS_EVERY_S", 0.1)
    loop = run("ours", "ours")
    box.double.cards[1].fans[1].rpm_percent = 0
    wait_for(lambda: loop.snapshots[-1].gpus[1].duty_percent == 100)
    wait_for(lambda: loop.snapshots[-1].gpus[1].fault is not None)
    box.finds("fans", "problem", "fan 1 has stood still for 0.3 s", "gpufan status")


def test_a_lost_card(box: Box, run: Run) -> None:
    loop = run("ours", "ours")
    box.double.cards[1].lost = 1
    loop.wait_for_control(1, "lost")
    box.finds("fans", "problem", "GTX 1080 Ti: lost", "dmesg")


def test_a_lost_card_while_no_gpufan_runs(box: Box) -> None:
    box.double.cards[1].lost = 1
    assert box.doctor()[1]["fans"]["remedies"][-1] == "sudo reboot"


def test_a_card_that_needs_a_reset_while_no_gpufan_runs(box: Box) -> None:
    box.double.cards[1].error[Kind.TEMPERATURE] = pynvml.NVML_ERROR_RESET_REQUIRED
    found = box.doctor()[1]["fans"]
    assert found["remedies"][0] == f"sudo nvidia-smi --gpu-reset -i {box.double.cards[1].uuid.decode()}"
    assert not any("pause" in remedy for remedy in found["remedies"])


def test_a_wrong_key_in_the_config_file(box: Box, run: Run) -> None:
    run("ours", "ours")
    box.write("etc/gpufan/config.toml", "hysteresys_c = 4\n")
    box.finds("config", "problem", "did you mean hysteresis_c?", "config.toml")


def test_an_x_server_that_does_not_start(box: Box, run: Run) -> None:
    opened = open_cards("auto", None, box.runtime / "own-xserver")
    for fan in box.double.cards[0].fans:
        fan.stuck = IGNORES
    try:
        run("released", "ours", workers=[Worker(gpu, settings()) for gpu in opened.gpus])
        box.finds("fans", "problem", "over X, and that fails: no Xorg here", "sudo apt install xserver-xorg-core")
    finally:
        opened.close()


@pytest.mark.parametrize(
    ("temperature_c", "advice", "remedy"),
    [
        (80, "with the fans at 80 %: let the curve rise earlier", "sudoedit"),
        (88, "with the fans at 100 %: clean it", "sudo nvidia-smi -i 0 -pl 120"),
    ],
)
def test_a_throttled_card(box: Box, run: Run, temperature_c: int, advice: str, remedy: str) -> None:
    card = box.double.cards[0]
    card.temperature, card.throttle_reasons = temperature_c, pynvml.nvmlClocksEventReasonSwThermalSlowdown
    run("ours", "ours")
    box.finds("heat", "problem", advice, remedy)


def test_a_clock_that_jumped(box: Box, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = daemon._loop_clocks
    loop = run("ours", "ours")
    monkeypatch.setattr(daemon, "_loop_clocks", lambda: (clocks()[0], clocks()[1] - 3600))
    wait_for(lambda: loop.snapshots[-1].clock_steps)
    seen = len(loop.snapshots)
    wait_for(lambda: len(loop.snapshots) > seen + 1)
    box.finds("clock", "warning", "once since gpufan started, last back by 3600 s", "sudo timedatectl set-ntp true")


# ---- hangs, proofs and bundles ----


@pytest.mark.parametrize("call", [Kind.HANDLE, Kind.TEMPERATURE])
def test_a_hanging_card_delays_no_other_finding(box: Box, monkeypatch: pytest.MonkeyPatch, call: Kind) -> None:
    monkeypatch.setattr(nvml_box, "OPEN_TIMEOUT_S", 0.2)
    monkeypatch.setattr(cards, "READ_TIMEOUT_S", 0.2)
    box.double.cards[1].hang[call] = 1
    begin_s = time.monotonic()
    _, found = box.doctor()
    assert time.monotonic() - begin_s < look.LIMIT_S
    assert found["fans"]["card"] == 1
    assert found["fans"]["text"].endswith("the card does not answer the driver; a reboot may bring it back")


def test_a_hanging_systemd_is_reported(box: Box, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("ours", "ours")
    for module in (unit_state, conflicts, systemctl):
        monkeypatch.setattr(module, "QUERY_TIMEOUT_S", 0.1)
    box.script("systemctl", "#!/bin/sh\nexec /bin/sleep 60\n")
    box.finds("service", "warning", "has not answered for 0.1 s", "systemctl status gpufan")


def test_on_request_the_fans_are_moved_and_given_back(box: Box) -> None:
    assert "proven: its 2 fans went from" in box.shown("--try-fans", "--config", box.config())
    moved = {call.card for call in box.double.log() if call.operation == Kind.SET_FAN}
    assert moved == {0, 1}
    assert [fans(box.double, card) for card in (0, 1)] == [[None, None]] * 2


def test_without_a_running_gpufan_a_stuck_fan_is_found(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "PATIENCE_S", 0.3)
    box.double.cards[1].fans[0].stuck = IGNORES
    _, found = box.doctor("--try-fans", "--config", box.config())
    assert found["fans"]["card"] == 1
    assert "its fans do not obey: fan 0 stays with the driver" in found["fans"]["text"]


@pytest.mark.parametrize("rpm_percent", [0, 8])
def test_a_dead_fan_is_not_proven_although_its_percent_follow(
    box: Box, monkeypatch: pytest.MonkeyPatch, rpm_percent: int
) -> None:
    monkeypatch.setattr(proof, "PATIENCE_S", 0.3)
    box.double.cards[1].fans[1].rpm_percent = rpm_percent
    status, found = box.doctor("--try-fans", "--config", box.config())
    assert (status, found["fans"]["level"], found["fans"]["card"]) == (1, "problem", 1)
    assert re.search(r"fan 1 stands still at \d+ rpm, .* after it was set to 38 %", found["fans"]["text"])
    assert fans(box.double, 1) == [None, None]


def test_fans_that_another_gpufan_controls_are_not_moved(box: Box, gpufan: Command) -> None:
    with controller_lock(box.runtime, print):
        status, out, err = gpufan("doctor", "--try-fans", "--config", box.config())
    assert (status, out) == (1, "")
    assert "controls the fans: stop it first" in err
    assert not box.double.log()


def test_only_root_may_move_the_fans(box: Box, gpufan: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert gpufan("doctor", "--try-fans") == (1, "", "gpufan: only root can move fans: run this with sudo\n")


def test_a_bundle_is_written_once(box: Box, run: Run, gpufan: Command, tmp_path: Path) -> None:
    run("ours", "ours")
    status, out, _ = gpufan("doctor", "--bundle", str(tmp_path / "b.tar.gz"))
    assert status == 0
    assert "All is well" in out and f"wrote {tmp_path}/b.tar.gz" in out
    with tarfile.open(tmp_path / "b.tar.gz") as archive:
        assert "gpufan-bundle/state.json" in archive.getnames()
    status, out, err = gpufan("doctor", "--bundle", str(tmp_path / "b.tar.gz"))
    assert (status, out) == (2, "")
    assert "exists already" in err
