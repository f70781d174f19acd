"""`gpufan doctor`: what it makes of what it knows, and how it tells."""

import io
import os
from dataclasses import replace
from pathlib import Path

import pynvml
import pytest
from rich.console import Console

from gpufan.config.schema import RunKeys
from gpufan.config.settings import Settings
from gpufan.core.gpu import FanReading, Reading
from gpufan.core.pci import PciAddress
from gpufan.core.snapshot import Errors
from gpufan.daemon.snapshot_file import snapshot_now
from gpufan.doctor import probe
from gpufan.doctor.checks import examine
from gpufan.doctor.facts import Card, Driver, Facts, PciCard, Proof, Published, Rival, Systemd, Unit, XorgFile, XServer
from gpufan.doctor.findings import Finding, Report
from gpufan.doctor.show import print_report
from tests.unit.builders import FakeGpu, gpu_state

ADDRESS = PciAddress.parse("0a:00.0")
INFO = FakeGpu().info
DRIVERS_FAN = FanReading(23, 23, False)
MANUAL_FAN = FanReading(60, 60, True)
CARD = Card(INFO, Reading(40.0, 100.0, (DRIVERS_FAN,)))
OLD_CARD = Card(replace(INFO, uncontrollable_reason="driver 470.256 cannot set fans through NVML"), CARD.reading)
FANLESS = Card(replace(INFO, fan_count=0, uncontrollable_reason="it has no fan"), Reading(40.0, 100.0, ()))
SERVICE = Unit("loaded", "active", "running", "enabled", "success", pid=os.getpid())


def driver(*cards: Card, version: str = "580.95") -> Driver:
    return Driver(version, version, cards=cards)


def published(**changes: object) -> Published:
    """The snapshot of a gpufan that keeps one card."""
    snapshot = snapshot_now((gpu_state(**changes),), interval_s=1.0)
    return Published(Path("/run/gpufan/state.json"), snapshot)


WELL = Facts(
    pci=(PciCard(ADDRESS, 0x1B06, "nvidia"),),
    driver=driver(CARD),
    has_xorg=True,
    has_sys_admin=True,
    distribution="ubuntu",
    systemd=Systemd(service=SERVICE),
    published=published(),
)
IDLE = replace(WELL, published=Published(Path("/run/gpufan/state.json")))
"""No gpufan runs."""
BY_HAND = replace(WELL, systemd=None)
OVER_X = Settings(file=RunKeys(backend="x11", display=":0"))


def found(facts: Facts, check: str) -> list[Finding]:
    return [finding for finding in examine(facts).findings if finding.check == check]


def nvml_error(code: int, **changes: object) -> Driver:
    return replace(Driver(error="words", error_code=code), **changes)


def unit(**changes: object) -> Facts:
    return replace(IDLE, systemd=Systemd(service=replace(SERVICE, **changes)))


CASES = {
    # driver and cards
    "no driver": (
        replace(IDLE, driver=nvml_error(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)),
        ("driver", "problem", "sudo apt install nvidia-driver-580"),
    ),
    "no library": (
        replace(IDLE, driver=nvml_error(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, module_version="580.95")),
        ("driver", "problem", "sudo apt install nvidia-driver-580"),
    ),
    "module not loaded": (
        replace(IDLE, driver=nvml_error(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)),
        ("driver", "problem", "sudo modprobe nvidia"),
    ),
    "no permission": (
        replace(IDLE, driver=nvml_error(pynvml.NVML_ERROR_NO_PERMISSION)),
        ("driver", "problem", "sudo gpufan doctor"),
    ),
    "another version": (replace(IDLE, driver=Driver("580.95", "570.1")), ("driver", "problem", "sudo reboot")),
    "hangs": (replace(IDLE, driver=Driver(error="has not answered")), ("driver", "problem", "sudo reboot")),
    "ordinary user": (replace(IDLE, user_id=1000), ("rights", "warning", "sudo gpufan run")),
    "ordinary user, and a gpufan runs": (replace(WELL, user_id=1000), ("rights", "ok", None)),
    "container": (replace(IDLE, has_sys_admin=False), ("rights", "problem", "--cap-add SYS_ADMIN")),
    "nouveau": (
        replace(IDLE, pci=(PciCard(ADDRESS, 0x1B06, "nouveau"),), driver=Driver(error="none")),
        ("card", "problem", "sudo apt install nvidia-driver-580"),
    ),
    "no kernel driver": (
        replace(IDLE, pci=(PciCard(ADDRESS, 0x1B06, None),), driver=Driver(error="none")),
        ("card", "problem", "lspci -nnk -d 10de:"),
    ),
    "a virtual machine's": (replace(IDLE, pci=(PciCard(ADDRESS, 0x1B06, "vfio-pci"),)), ("card", "ok", None)),
    "Pascal on a branch too new": (
        replace(IDLE, driver=driver(version="590.44.01")),
        ("card", "problem", "sudo apt install nvidia-driver-580"),
    ),
    "Pascal on a branch too new, which has not loaded for that": (
        replace(IDLE, driver=nvml_error(pynvml.NVML_ERROR_DRIVER_NOT_LOADED, library_version="590.44.01")),
        ("driver", "problem", "sudo apt install nvidia-driver-580"),
    ),
    "Pascal on a newer branch that knows it": (
        replace(IDLE, driver=driver(CARD, version="590.44.01")),
        ("fans", "ok", None),
    ),
    "Pascal on a branch too new, of Debian": (
        replace(IDLE, driver=driver(version="590.44.01"), distribution="debian"),
        ("card", "problem", "nvidia-driver-pinning-580"),
    ),
    "on the bus, unknown to the driver": (
        replace(IDLE, pci=(PciCard(PciAddress.parse("0b:00.0"), 0x1B06, "nvidia"),)),
        ("card", "problem", "dmesg"),
    ),
    "no card": (replace(IDLE, pci=(), driver=Driver(error="none")), ("card", "problem", "run --simulate")),
    # card by card
    "silent": (replace(IDLE, driver=driver(Card(INFO, None))), ("fans", "problem", "dmesg")),
    "left in manual mode": (
        replace(IDLE, driver=driver(Card(INFO, Reading(40.0, 100.0, (MANUAL_FAN,))))),
        ("fans", "problem", "sudo gpufan restore"),
    ),
    "set by a rival": (
        replace(
            IDLE,
            driver=driver(Card(INFO, Reading(40.0, 100.0, (MANUAL_FAN,)))),
            rivals=(Rival("coolgpus", None, 7, True),),
        ),
        ("fans", "problem", "sudo kill 7"),
    ),
    "no fan": (replace(IDLE, driver=driver(FANLESS)), ("fans", "ok", None)),
    "needs X": (replace(IDLE, driver=driver(OLD_CARD)), ("fans", "ok", None)),
    "needs X, which is not there": (
        replace(IDLE, driver=driver(OLD_CARD), has_xorg=False),
        ("fans", "problem", "sudo apt install xserver-xorg-core"),
    ),
    "obeyed": (replace(IDLE, proofs=(Proof(INFO.uuid, "moved", True),)), ("fans", "ok", None)),
    "did not obey": (replace(IDLE, proofs=(Proof(INFO.uuid, "fan 0 stays", False),)), ("fans", "problem", "dmesg")),
    "released, by hand": (
        replace(BY_HAND, published=published(control="released", message="fan 0 runs at 0 %")),
        ("fans", "problem", "sudo gpufan doctor --try-fans"),
    ),
    "released, by the service": (
        replace(WELL, published=published(control="released", message="fan 0 runs at 0 %")),
        ("fans", "problem", "sudo systemctl stop gpufan; "),
    ),
    "refused": (
        replace(
            WELL,
            published=published(control="released", message="the driver refused", errors_by_kind=Errors(refused=3)),
        ),
        ("fans", "problem", "gpufan list"),
    ),
    "X gone": (
        replace(
            WELL, published=published(control="lost", message="fans out of reach: it has died; asking again after")
        ),
        ("fans", "problem", "sudo systemctl restart gpufan"),
    ),
    "fail-safe": (replace(WELL, published=published(group="fail-safe")), ("fans", "warning", "gpufan list")),
    "overridden": (replace(WELL, published=published(overrides=3)), ("fans", "warning", "gpufan status")),
    "the driver's by the curve": (
        replace(WELL, published=published(control="driver", duty_percent=None)),
        ("fans", "ok", None),
    ),
    "not kept": (
        replace(WELL, published=replace(published(), snapshot=snapshot_now((), interval_s=1.0))),
        ("fans", "ok", None),
    ),
    "not kept, and not the driver's": (
        replace(
            WELL,
            published=replace(published(), snapshot=snapshot_now((), interval_s=1.0)),
            driver=driver(Card(INFO, Reading(40.0, 100.0, (MANUAL_FAN,)))),
        ),
        ("fans", "warning", "sudo gpufan restore"),
    ),
    "no temperature": (replace(WELL, published=published(temperature_c=None)), ("heat", "problem", "gpufan list")),
    "power brake": (replace(WELL, published=published(throttle="power-brake")), ("heat", "warning", "nvidia-smi -q")),
    "slowed by hardware": (replace(WELL, published=published(throttle="hardware")), ("heat", "warning", "nvidia-smi")),
    "at its power limit": (replace(WELL, published=published(throttle="power-cap")), ("heat", "ok", None)),
    "hot and nobody cares": (
        replace(IDLE, driver=driver(Card(INFO, Reading(88.0, 200.0, (DRIVERS_FAN,), "heat")))),
        ("heat", "problem", "sudo gpufan run"),
    ),
    # service
    "no systemd": (replace(IDLE, systemd=None), ("service", "warning", "sudo gpufan run")),
    "no systemd, by hand": (BY_HAND, ("service", "ok", None)),
    "systemd hangs": (replace(WELL, systemd=Systemd(error="hangs")), ("service", "warning", "systemctl status")),
    "not installed": (unit(load="not-found", active="inactive"), ("service", "warning", "gpufan install-service")),
    "masked": (unit(load="masked", active="inactive"), ("service", "problem", "sudo systemctl unmask gpufan")),
    "broken": (unit(load="bad-setting"), ("service", "problem", "install-service")),
    "runs as somebody": (unit(user="alice"), ("service", "problem", "sudo systemctl edit gpufan")),
    "lacks the capability": (unit(capabilities="cap_chown"), ("service", "problem", "sudo systemctl edit gpufan")),
    "stopped": (unit(active="inactive", pid=0), ("service", "problem", "sudo systemctl start gpufan")),
    "not enabled": (
        unit(active="inactive", file_state="disabled", pid=0),
        ("service", "warning", "sudo systemctl enable --now gpufan"),
    ),
    "failed": (unit(active="failed", result="watchdog"), ("service", "problem", "journalctl -u gpufan")),
    "not at boot": (unit(file_state="disabled"), ("service", "warning", "sudo systemctl enable gpufan")),
    "changed": (unit(needs_reload=True), ("service", "warning", "systemctl daemon-reload")),
    "a companion that failed": (
        replace(
            WELL, systemd=Systemd(service=SERVICE, companions=(("gpufan-history.service", Unit("loaded", "failed")),))
        ),
        ("companions", "warning", "sudo journalctl -u gpufan-history.service"),
    ),
    "a companion": (
        replace(WELL, systemd=Systemd(service=SERVICE, companions=(("gpufan-history.service", SERVICE),))),
        ("companions", "ok", None),
    ),
    "started anew": (unit(restarts=3), ("service", "warning", "journalctl")),
    "started anew for a late driver": (unit(restarts=1), ("service", "ok", None)),
    # settings and snapshot
    "wrong file": (replace(WELL, config_error="unknown key"), ("config", "problem", "sudoedit /etc/gpufan")),
    "a dry run": (
        replace(WELL, settings=Settings(file=RunKeys(dry_run=True))),
        ("config", "warning", "sudoedit /etc/gpufan"),
    ),
    "active without snapshot": (IDLE, ("snapshot", "problem", "sudo systemctl restart gpufan")),
    "nothing runs": (replace(IDLE, systemd=None), ("snapshot", "warning", "sudo gpufan run")),
    "unreadable": (
        replace(WELL, published=replace(published(), snapshot=None, error="of another version")),
        ("snapshot", "problem", "sudo systemctl restart gpufan"),
    ),
    "orphan": (
        replace(BY_HAND, published=replace(published(), orphan=True)),
        ("snapshot", "problem", "sudo gpufan restore"),
    ),
    "stale": (
        replace(BY_HAND, published=replace(published(), stale=True, age_s=60)),
        ("snapshot", "problem", f"sudo kill -9 {os.getpid()}"),
    ),
    # box
    "a rival by hand": (
        replace(WELL, rivals=(Rival("coolgpus", None, 7, True),)),
        ("rivals", "problem", "sudo kill 7"),
    ),
    "another": (
        replace(WELL, rivals=(Rival("LACT", "lactd.service", 7, False),)),
        ("rivals", "warning", "systemctl disable --now lactd.service"),
    ),
    "nvidia-settings": (replace(WELL, autostarts=("/a.desktop",)), ("rivals", "warning", "sudo mv /a.desktop")),
    "a display manager in the way": (
        replace(
            IDLE,
            driver=driver(OLD_CARD),
            x_servers=(XServer(9, ":0", False),),
            systemd=Systemd(service=SERVICE, display_manager="gdm.service"),
        ),
        ("display", "warning", "sudo systemctl disable --now gdm.service"),
    ),
    "a display manager": (
        replace(WELL, systemd=Systemd(service=SERVICE, display_manager="gdm.service")),
        ("display", "ok", None),
    ),
    "no Coolbits": (
        replace(WELL, settings=OVER_X, xorg_files=(XorgFile("/etc/X11/xorg.conf", incomplete=True),)),
        ("coolbits", "problem", "sudo gpufan setup-xorg"),
    ),
    "Coolbits": (
        replace(WELL, settings=OVER_X, xorg_files=(XorgFile("/etc/X11/xorg.conf", ((4, "12"),)),)),
        ("coolbits", "ok", None),
    ),
    "Coolbits without the bit for fans": (
        replace(WELL, settings=OVER_X, xorg_files=(XorgFile("/etc/X11/xorg.conf.d/a.conf", ((4, "8"),)),)),
        ("coolbits", "problem", "sudoedit /etc/X11/xorg.conf.d/a.conf"),
    ),
    "a file that X cannot read": (
        replace(WELL, xorg_files=(XorgFile("/etc/X11/xorg.conf", error="line 3"),)),
        ("coolbits", "warning", "sudoedit /etc/X11/xorg.conf"),
    ),
    "slow probes": (replace(WELL, silent=("the PCI bus",)), ("time", "warning", "ps ")),
}


@pytest.mark.parametrize("name", CASES)
def test_a_finding_has_a_level_and_the_command_that_helps(name: str) -> None:
    facts, (check, level, remedy) = CASES[name]
    first = found(facts, check)[0]
    assert first.level == level, first
    assert any((remedy or "") in command for command in first.remedies) or remedy is None, first


@pytest.mark.parametrize("name", CASES)
def test_whatever_is_not_ok_has_a_remedy(name: str) -> None:
    for finding in examine(CASES[name][0]).findings:
        assert finding.level == "ok" or finding.remedies, finding
        assert finding.text


def test_a_card_that_a_newer_driver_knows_is_not_called_too_old() -> None:
    assert found(replace(IDLE, driver=driver(CARD, version="590.44.01")), "card") == []


def test_on_a_machine_with_nothing_at_all_something_useful_is_said() -> None:
    report = examine(Facts())
    assert report.level == "problem"
    assert "gpufan run --simulate --time-scale 60" in [command for f in report.findings for command in f.remedies]
    assert {finding.check for finding in report.findings} >= {"driver", "card", "service", "config", "snapshot"}


def test_where_all_is_well_that_is_the_last_line() -> None:
    report = examine(WELL)
    assert report.level == "ok"
    assert shown(report).splitlines()[-1] == f"All is well: {len(report.findings)} checks."


def test_a_snapshot_from_the_future_tells_that_the_clock_was_set_back() -> None:
    future = replace(BY_HAND, published=replace(published(), stale=True, age_s=-3600))
    assert found(future, "snapshot")[0].text.startswith("3600 s from the future: the clock was set back")


def test_a_hot_card_whose_fans_have_something_left_wants_another_curve() -> None:
    hot = replace(WELL, published=published(throttle="heat", duty_percent=62, power_w=229.7))
    assert found(hot, "heat")[0].remedies[0].startswith("sudoedit")


def test_a_hot_card_that_holds_a_target_wants_a_lower_one() -> None:
    hot = replace(WELL, published=published(throttle="heat", duty_percent=62, target_c=82.0))
    assert found(hot, "heat")[0].text.endswith("with the fans at 62 %: choose a lower target")


def test_a_hot_card_at_full_fans_wants_less_power() -> None:
    hot = replace(WELL, published=published(throttle="heat", duty_percent=100, power_w=229.7))
    assert found(hot, "heat")[0].remedies == ("sudo nvidia-smi -i 0 -pl 190",)


def test_a_card_is_not_taken_for_the_one_that_had_its_index_before() -> None:
    other = replace(WELL, published=published(uuid="GPU-99999999-2222-3333-4444-555555555555", control="released"))
    assert found(other, "fans")[0].level == "ok"


def test_cards_of_a_simulation_are_judged_by_themselves() -> None:
    snapshot = snapshot_now((gpu_state(label="0 simulated", uuid="GPU-sim"),), interval_s=1.0, simulated_s=5.0)
    report = examine(replace(WELL, published=Published(Path("state.json"), snapshot)))
    assert [finding.uuid for finding in report.findings if finding.check == "fans"] == ["GPU-sim"]


# ---- how it looks ----


def shown(report: Report, width: int = 80, encoding: str = "utf-8", **options: object) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    print_report(report, Console(file=file, width=width, highlight=False, **options))
    file.flush()
    return file.buffer.getvalue().decode(encoding)


LONG = "sudo systemctl stop gpufan; sudo /opt/somewhere/gpufan doctor --try-fans; sudo systemctl start gpufan; ls"
PATH = f"/a{'/folder' * 20}"
FINDINGS = (
    Finding("driver", "driver", "ok", f"{'word ' * 30}{PATH}"),
    Finding("driver", "persistence", "warning", "off", (LONG,)),
    Finding("cards", "fans", "problem", "stuck", ("a", "b"), card=11),
)


def test_text_is_wrapped_and_a_command_never_is() -> None:
    lines = shown(Report.of("1", 0.0, FINDINGS)).splitlines()
    assert all(len(line) <= 80 for line in lines if LONG not in line and PATH not in line)
    assert sum(PATH in line for line in lines) == 1
    assert sum(LONG in line for line in lines) == 1
    assert lines[-1] == "1 problem and 1 warning, 1 ok."


def test_commands_that_do_not_fit_under_the_text_begin_further_to_the_left() -> None:
    report = Report.of("1", 0.0, (Finding("box", "display", "warning", "x", ("sudo true", "sudo " + "a" * 60)),))
    assert [line.index("sudo") for line in shown(report).splitlines() if "sudo" in line] == [6, 6]
    assert [line.index("sudo") for line in shown(report, 120).splitlines() if "sudo" in line] == [28, 28]


def test_each_level_has_a_symbol_and_a_word() -> None:
    text = shown(Report.of("1", 0.0, FINDINGS))
    assert "✓ ok " in text and "! warning " in text and "✗ problem " in text


def test_a_terminal_without_the_symbols_gets_others() -> None:
    text = shown(Report.of("1", 0.0, FINDINGS), encoding="ascii")
    assert "+ ok " in text and "x problem " in text and "?" not in text


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report.of("1", 0.0, FINDINGS)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" not in shown(report)
    assert "\x1b[1;31m" in shown(report, force_terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;31m" not in shown(report, force_terminal=True)


# ---- looking ----


def process(root: Path, pid: int, *words: str, cgroup: str = "0::/user.slice/x.scope\n") -> None:
    (root / f"proc/{pid}").mkdir(parents=True)
    (root / f"proc/{pid}/cmdline").write_text("\0".join(words) + "\0")
    (root / f"proc/{pid}/cgroup").write_text(cgroup)


def test_rivals_are_recognised_among_processes_and_their_units_with_them(tmp_path: Path) -> None:
    process(tmp_path, 5, "python3", "/usr/bin/coolgpus", cgroup="0::/system.slice/fans.service\n")
    process(tmp_path, 40, "/usr/bin/lactd", "daemon", cgroup="1:name=systemd:/\n0::/system.slice/lactd.service\n")
    process(tmp_path, 300, "/usr/bin/python3", "/usr/bin/gwe")
    process(tmp_path, 301, "bash", "/home/a/nfancurve/temp.sh")
    rivals, servers = probe._processes(tmp_path, tmp_path / "run")
    assert rivals == (
        Rival("coolgpus", "fans.service", 5, True),
        Rival("LACT", "lactd.service", 40, False),
        Rival("GreenWithEnvy", None, 300, False),
        Rival("nfancurve", None, 301, True),
    )
    assert servers == ()


def test_whoever_only_reads_about_a_rival_is_none(tmp_path: Path) -> None:
    process(tmp_path, 5, "vim", "coolgpus")
    process(tmp_path, 6, "grep", "-r", "lactd")
    (tmp_path / "proc/7").mkdir()  # a thread of the kernel, or gone
    assert probe._processes(tmp_path, tmp_path / "run") == ((), ())


def test_x_servers_of_gpufan_are_told_from_others(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process(tmp_path, 5, "/usr/lib/xorg/Xorg", ":0", "-seat", "seat0")
    process(tmp_path, 6, "/usr/bin/Xorg", ":90", "-config", f"{run}/own-xserver/xorg.conf")
    assert probe._processes(tmp_path, run)[1] == (XServer(5, ":0", False), XServer(6, ":90", True))


@pytest.mark.parametrize(
    ("entry", "rc", "counts"),
    [
        ("Exec=nvidia-settings -l", "0/GPUFanControlState=1\n", True),
        ("Exec=nvidia-settings -l", "0/XVideoSyncToDisplay=1\n", False),
        ("Exec=nvidia-settings -a [fan:0]/GPUTargetFanSpeed=60", "", True),
        ("Exec=nvidia-settings -l\nHidden=true", "0/GPUFanControlState=1\n", False),
        ("Exec=firefox", "0/GPUFanControlState=1\n", False),
    ],
)
def test_an_autostart_of_nvidia_settings_counts_where_it_sets_fans(
    tmp_path: Path, entry: str, rc: str, counts: bool
) -> None:
    folder = tmp_path / "home/alice/.config/autostart"
    folder.mkdir(parents=True)
    (folder / "x.desktop").write_text(f"[Desktop Entry]\n{entry}\n")
    (tmp_path / "home/alice/.nvidia-settings-rc").write_text(rc)
    assert bool(probe._autostarts(tmp_path)) is counts


def test_a_remedy_runs_nothing_that_somebody_has_hidden_in_a_name() -> None:
    facts = Facts(autostarts=("/home/eve/a; reboot.desktop",), rivals=(Rival("fans", "a;reboot.service", 7, True),))
    remedies = [remedy for found in examine(facts).findings if found.check == "rivals" for remedy in found.remedies]
    assert remedies == [
        "sudo systemctl disable --now 'a;reboot.service'",
        "sudo mv '/home/eve/a; reboot.desktop' '/home/eve/a; reboot.desktop.off'",
    ]


def test_every_file_of_x_is_searched_for_coolbits(tmp_path: Path) -> None:
    for path, text in (
        (
            "etc/X11/xorg.conf",
            'Section "Device"\nIdentifier "a"\nDriver "nvidia"\nOption "Cool Bits" "8"\nEndSection\n',
        ),
        ("etc/X11/xorg.conf.d/20.conf", 'Section "OutputClass"\nIdentifier "b"\nOption "Coolbits" "28"\nEndSection\n'),
        ("usr/share/X11/xorg.conf.d/10.conf", 'Section "Device'),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    files = {file.path: file for file in probe._xorg(tmp_path)}
    assert files["/etc/X11/xorg.conf"].coolbits == ((4, "8"),)
    assert files["/etc/X11/xorg.conf.d/20.conf"].coolbits == ((3, "28"),)
    assert "quote is not closed" in (files["/usr/share/X11/xorg.conf.d/10.conf"].error or "")


@pytest.mark.parametrize("program", ["gpufan", "elsewhere/gpufan", "pytest"])
def test_the_command_named_in_remedies_works_after_sudo(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    for name in ("gpufan", "elsewhere/gpufan"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(probe, "_SUDO_PATH", str(tmp_path))
    monkeypatch.setattr(probe.sys, "argv", [str(tmp_path / program)])
    expected = {"gpufan": "gpufan", "elsewhere/gpufan": f"{tmp_path}/elsewhere/gpufan"}
    assert probe.command() == expected.get(program, f"{probe.sys.executable} -m gpufan")
