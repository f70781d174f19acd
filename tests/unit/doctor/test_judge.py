"""Each finding of the doctor, from facts made by hand."""

import os
import time
from dataclasses import replace

import msgspec
import pynvml
import pytest

from gpufan.config.schema import RunKeys
from gpufan.config.settings import Settings
from gpufan.core.gpu import FanReading, Reading
from gpufan.core.pci import PciAddress
from gpufan.core.reasons import Cause, Reason
from gpufan.core.snapshot import SettingsInUse
from gpufan.daemon.snapshot_file import snapshot_now
from gpufan.doctor.facts import Card, Driver, Facts, PciCard, Proof, Published, Rival, Systemd, XorgFile, XServer
from gpufan.doctor.findings import Finding, Level
from gpufan.doctor.judge import judge
from gpufan.system.unit_state import UnitState
from tests.unit.builders import FakeGpu, gpu_state

ADDRESS = PciAddress.parse("0a:00.0")
INFO = FakeGpu().info
DRIVERS_FAN = FanReading(23, 23, False)
MANUAL_FAN = FanReading(60, 60, True)
CARD = Card(INFO, Reading(40.0, 100.0, (DRIVERS_FAN,)))
OLD_CARD = Card(replace(INFO, uncontrollable_reason="driver 470.256 cannot set fans through NVML"), CARD.reading)
FANLESS = Card(replace(INFO, fan_count=0, uncontrollable_reason="it has no fan"), Reading(40.0, 100.0, ()))
SERVICE = UnitState("gpufan.service", "loaded", "active", "running", "enabled", "success", pid=os.getpid())
HISTORY = replace(SERVICE, name="gpufan-history.service")
JAMMED = Reason(Cause.FAN_SLOW, fan=0, found_percent=0, set_percent=60, seconds=15)
STILL = Reason(Cause.FAN_STILL, fan=1, found_percent=100, seconds=10.0)
FLOOR = Reason(Cause.FAN_FLOOR, fan=1, limit_percent=40)


def driver(*cards: Card, version: str = "580.95") -> Driver:
    return Driver(version, version, cards=cards)


def published(**changes: object) -> Published:
    """The snapshot of a gpufan that controls one card."""
    return Published(snapshot_now((gpu_state(**changes),), interval_s=1.0))


WELL = Facts(
    pci=(PciCard(ADDRESS, 0x1B06, "nvidia"),),
    driver=driver(CARD),
    has_xorg=True,
    has_sys_admin=True,
    distribution="ubuntu",
    systemd=Systemd(service=SERVICE),
    published=published(),
)
IDLE = replace(WELL, published=None)
REFUSED = replace(
    WELL,
    published=replace(
        WELL.published,
        snapshot=msgspec.structs.replace(
            WELL.published.snapshot, settings_in_use=SettingsInUse.BUILT_IN, settings_refused="unknown key"
        ),
    ),
)
"""The file had a mistake at the start, and has none now."""
"""No gpufan runs."""
BY_HAND = replace(WELL, systemd=None)
ANOTHER_CARD = Settings(file=RunKeys(gpus=("GPU-99999999",)))
PAUSED = Reason(Cause.PAUSED, seconds=90)
RESET_REQUIRED = Reason(Cause.RESET_REQUIRED, message="the card is gone: GPU requires reset")
OVER_X = Settings(file=RunKeys(backend="x11", display=":0"))


def found(facts: Facts, check: str) -> list[Finding]:
    return [finding for finding in judge(facts).findings if finding.check == check]


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
    "the driver hangs": (
        replace(IDLE, driver=Driver(), errors={"driver": "no answer within 10 s"}),
        ("driver", "problem", "sudo reboot"),
    ),
    "another error of the driver": (replace(IDLE, driver=Driver(error="words")), ("driver", "problem", "sudo reboot")),
    "ordinary user": (replace(IDLE, user_id=1000), ("rights", "warning", "sudo gpufan run")),
    "ordinary user, and a gpufan runs": (replace(WELL, user_id=1000), ("rights", "ok", None)),
    "container": (replace(IDLE, has_sys_admin=False), ("rights", "problem", "--cap-add SYS_ADMIN")),
    "nouveau": (
        replace(IDLE, pci=(PciCard(ADDRESS, 0x1B06, "nouveau"),), driver=Driver(error="none")),
        ("card", "problem", "sudo apt install nvidia-driver-580"),
    ),
    "no kernel driver": (
        replace(IDLE, pci=(PciCard(ADDRESS, 0x1B06, None),), driver=driver()),
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
    "no answer": (replace(IDLE, driver=driver(Card(INFO, None))), ("fans", "problem", "dmesg")),
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
        replace(BY_HAND, published=published(control="released", reason=JAMMED)),
        ("fans", "problem", "sudo gpufan doctor --try-fans"),
    ),
    "released, by the service": (
        replace(WELL, published=published(control="released", reason=JAMMED)),
        ("fans", "problem", "sudo systemctl stop gpufan; "),
    ),
    "refused": (
        replace(
            WELL,
            published=published(control="released", message="the driver refused"),
        ),
        ("fans", "problem", "gpufan list"),
    ),
    "X gone": (
        replace(WELL, published=published(control="lost", reason=Reason(Cause.X_LOST, message="it has died"))),
        ("fans", "problem", "sudo systemctl restart gpufan"),
    ),
    "fail-safe": (replace(WELL, published=published(group="fail-safe")), ("fans", "warning", "gpufan list")),
    "overridden": (replace(WELL, published=published(overrides=3)), ("fans", "warning", "gpufan status")),
    "overridden by a rival": (
        replace(WELL, published=published(overrides=3), rivals=(Rival("coolgpus", None, 7, True),)),
        ("fans", "warning", "sudo kill 7"),
    ),
    "a fan that stands still": (replace(WELL, published=published(fault=STILL)), ("fans", "problem", "gpufan status")),
    "a fan that stands still, in the fail-safe": (
        replace(WELL, published=published(fault=STILL, group="fail-safe")),
        ("fans", "problem", "gpufan status"),
    ),
    "a slow fan": (replace(WELL, published=published(fault=JAMMED)), ("fans", "warning", "gpufan status")),
    "a floor of the driver": (replace(WELL, published=published(fault=FLOOR)), ("fans", "ok", None)),
    "controlled by nobody": (
        replace(WELL, published=published(control="released", message="refused", release_error="refused too")),
        ("fans", "problem", "sudo systemctl restart gpufan"),
    ),
    "the driver's by the curve": (
        replace(WELL, published=published(control="driver", duty_percent=None)),
        ("fans", "ok", None),
    ),
    "not selected": (
        replace(WELL, published=Published(snapshot_now((), interval_s=1.0)), settings=ANOTHER_CARD),
        ("fans", "ok", None),
    ),
    "not selected, by a gpufan that somebody has started": (
        replace(BY_HAND, published=Published(snapshot_now((), interval_s=1.0))),
        ("fans", "ok", None),
    ),
    "selected, but nobody controls it": (
        replace(WELL, published=Published(snapshot_now((), interval_s=1.0))),
        ("fans", "warning", "sudo systemctl restart gpufan"),
    ),
    "paused": (
        replace(WELL, published=published(control="driver", reason=PAUSED, temperature_c=None, fans=())),
        ("fans", "ok", None),
    ),
    "needs a reset": (
        replace(WELL, published=published(control="lost", reason=RESET_REQUIRED)),
        ("fans", "problem", f"sudo gpufan pause --gpu {INFO.uuid}"),
    ),
    "needs a reset, and no gpufan runs": (
        replace(IDLE, driver=driver(Card(INFO, None, needs_reset=True))),
        ("fans", "problem", f"sudo nvidia-smi --gpu-reset -i {INFO.uuid}"),
    ),
    "not selected, in manual mode": (
        replace(
            WELL,
            published=Published(snapshot_now((), interval_s=1.0)),
            driver=driver(Card(INFO, Reading(40.0, 100.0, (MANUAL_FAN,)))),
        ),
        ("fans", "warning", "sudo gpufan restore"),
    ),
    "no temperature": (replace(WELL, published=published(temperature_c=None)), ("heat", "problem", "gpufan list")),
    "power brake": (replace(WELL, published=published(throttle="power-brake")), ("heat", "warning", "nvidia-smi -q")),
    "slowed by hardware": (replace(WELL, published=published(throttle="hardware")), ("heat", "warning", "nvidia-smi")),
    "at its power limit": (replace(WELL, published=published(throttle="power-cap")), ("heat", "ok", None)),
    "hot without gpufan": (
        replace(IDLE, driver=driver(Card(INFO, Reading(88.0, 200.0, (DRIVERS_FAN,), "heat")))),
        ("heat", "problem", "sudo gpufan run"),
    ),
    # service
    "no systemd": (replace(IDLE, systemd=None), ("service", "warning", "sudo gpufan run")),
    "no systemd, by hand": (BY_HAND, ("service", "ok", None)),
    "systemd hangs": (
        replace(WELL, systemd=None, errors={"systemd": "hangs"}),
        ("service", "warning", "systemctl status"),
    ),
    "not installed": (unit(load="not-found", active="inactive"), ("service", "warning", "gpufan install-service")),
    "masked": (unit(load="masked", active="inactive"), ("service", "problem", "sudo systemctl unmask gpufan")),
    "broken": (unit(load="bad-setting"), ("service", "problem", "install-service")),
    "runs as somebody": (unit(user="alice"), ("service", "problem", "sudo systemctl edit gpufan")),
    "lacks the capability": (unit(capabilities=("cap_chown",)), ("service", "problem", "sudo systemctl edit gpufan")),
    "stopped": (unit(active="inactive", pid=0), ("service", "problem", "sudo systemctl start gpufan")),
    "not enabled": (
        unit(active="inactive", file_state="disabled", pid=0),
        ("service", "warning", "sudo systemctl enable --now gpufan"),
    ),
    "failed": (unit(active="failed", result="watchdog"), ("service", "problem", "journalctl -u gpufan")),
    "not at boot": (unit(file_state="disabled"), ("service", "warning", "sudo systemctl enable gpufan")),
    "changed": (unit(needs_reload=True), ("service", "warning", "systemctl daemon-reload")),
    "a companion that failed": (
        replace(WELL, systemd=Systemd(SERVICE, companions=(replace(HISTORY, active="failed"),))),
        ("companions", "warning", "sudo journalctl -u gpufan-history.service"),
    ),
    "a companion": (
        replace(WELL, systemd=Systemd(service=SERVICE, companions=(HISTORY,))),
        ("companions", "ok", None),
    ),
    "restarted often": (unit(restarts=3), ("service", "warning", "journalctl")),
    "restarted once": (unit(restarts=1), ("service", "ok", None)),
    # settings and snapshot
    "wrong file": (replace(WELL, errors={"settings": "unknown key"}), ("config", "problem", "sudoedit /etc/gpufan")),
    "wrong file at the start": (REFUSED, ("config", "problem", "sudo systemctl reload gpufan")),
    "a dry run": (
        replace(WELL, settings=Settings(file=RunKeys(dry_run=True))),
        ("config", "warning", "sudoedit /etc/gpufan"),
    ),
    "an index in the settings": (
        replace(WELL, settings=Settings(file=RunKeys(gpus=(0,)))),
        ("config", "warning", "sudoedit /etc/gpufan"),
    ),
    "secrets that everybody can read": (
        replace(WELL, alerts_exposure="everybody can read it"),
        ("messages", "warning", "sudo chmod 640 /etc/gpufan/alerts.toml"),
    ),
    "active without snapshot": (IDLE, ("snapshot", "problem", "sudo systemctl restart gpufan")),
    "unreadable": (
        replace(WELL, published=None, errors={"published": "of another version"}),
        ("snapshot", "problem", "sudo systemctl restart gpufan"),
    ),
    "manual fans of a gpufan whose snapshot is unreadable": (
        replace(
            WELL,
            published=None,
            errors={"published": "of another version"},
            driver=driver(Card(INFO, Reading(40.0, 100.0, (MANUAL_FAN,)))),
        ),
        ("fans", "ok", None),
    ),
    "hot while the snapshot is unreadable": (
        replace(
            WELL,
            published=None,
            errors={"published": "of another version"},
            driver=driver(Card(INFO, Reading(88.0, 200.0, (DRIVERS_FAN,), "heat"))),
        ),
        ("heat", "problem", "nvidia-smi -i 0 -pl"),
    ),
    "orphan": (
        replace(BY_HAND, published=replace(published(), orphan=True)),
        ("snapshot", "problem", "sudo gpufan restore"),
    ),
    "stale": (
        replace(BY_HAND, published=replace(published(), stale=True)),
        ("snapshot", "problem", f"sudo kill -9 {os.getpid()}"),
    ),
    # box
    "a rival by hand": (
        replace(WELL, rivals=(Rival("coolgpus", None, 7, True),)),
        ("rivals", "problem", "sudo kill 7"),
    ),
    "another rival": (
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
    "a slow answer": (replace(WELL, errors={"pci": "no answer within 10 s"}), ("time", "warning", "ps ")),
}


@pytest.mark.parametrize("name", CASES)
def test_a_finding_has_a_level_and_if_it_is_not_ok_the_command_that_helps(name: str) -> None:
    facts, (check, level, remedy) = CASES[name]
    first = found(facts, check)[0]
    assert first.level is Level(level), first
    assert any((remedy or "") in command for command in first.remedies) or remedy is None, first
    for finding in judge(facts).findings:
        assert finding.level is Level.OK or finding.remedies, finding
        assert finding.text


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (
            replace(WELL, published=published(overrides=3), other_setter="probably coolgpus (process 4711)"),
            "set them again 3 times; another program may set them: probably coolgpus (process 4711)",
        ),
        (replace(WELL, published=published(fault=STILL)), "fan 1 has stood still for 10 s"),
        (replace(WELL, published=published(fault=FLOOR)), "read back 61 %; the driver runs fan 1 at 40 % at least"),
        (replace(WELL, published=published(group="lost", control="lost", uncontrolled_s=65.0)), "lost for 0:01:05: "),
        (
            replace(WELL, published=published(control="released", message="refused", release_error="gone")),
            "nobody controls its fans: refused; giving them back to the driver fails: gone",
        ),
    ],
)
def test_a_finding_about_fans_names_the_fault(facts: Facts, words: str) -> None:
    assert words in found(facts, "fans")[0].text


@pytest.mark.parametrize(
    ("facts", "check"),
    [
        (replace(IDLE, systemd=None), "service"),
        (unit(active="inactive", pid=0), "service"),
        (unit(load="not-found", active="inactive"), "service"),
        (
            replace(
                WELL,
                pci=(PciCard(ADDRESS, 0x1B06, None),),
                driver=nvml_error(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND),
            ),
            "driver",
        ),
        (replace(Facts(), driver=nvml_error(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)), "card"),
    ],
)
def test_a_cause_is_found_once(facts: Facts, check: str) -> None:
    assert [finding.check for finding in judge(facts).findings if finding.level is not Level.OK] == [check]


def test_an_x_server_is_named_with_its_display_if_that_is_known() -> None:
    servers = (XServer(9, ":0", False), XServer(10, None, False))
    text = found(replace(WELL, x_servers=servers), "display")[0].text
    assert text == "X server :0 (process 9), X server (process 10): does not disturb gpufan"


def test_a_card_that_a_newer_driver_supports_is_not_too_old() -> None:
    assert found(replace(IDLE, driver=driver(CARD, version="590.44.01")), "card") == []


def test_a_machine_without_card_and_driver_is_advised_to_simulate() -> None:
    report = judge(Facts())
    assert report.level is Level.PROBLEM
    assert "gpufan run --simulate --time-scale 60" in [command for f in report.findings for command in f.remedies]
    assert {finding.check for finding in report.findings} >= {"driver", "card", "service", "config", "snapshot"}


def test_limits_and_what_they_cost_are_shown_and_a_refused_one_is_a_warning() -> None:
    assert found(WELL, "power") == []
    limited = replace(WELL, published=published(power_limit_w=180.0, power_limit_before_w=250.0, held_back_w=50.0))
    (finding,) = found(limited, "power")
    assert finding.level is Level.OK
    assert finding.text.endswith("power limit 180 W instead of 250 W, about 50 W held back")
    (finding,) = found(replace(WELL, published=published(limits_error="power limit: refused")), "power")
    assert (finding.level, finding.remedies[0]) == (Level.WARNING, "nvidia-smi -q -d POWER,TEMPERATURE -i 0")


def test_a_healthy_box_is_ok() -> None:
    assert judge(WELL).level is Level.OK


def test_a_snapshot_from_the_future_means_that_the_clock_was_set_back() -> None:
    future = replace(BY_HAND, time_s=time.time() - 3600, published=replace(published(), stale=True))
    assert found(future, "snapshot")[0].text.startswith(
        "the clock was set back: the snapshot is 3600 s from the future"
    )


def test_a_hot_card_with_slow_fans_needs_another_curve() -> None:
    hot = replace(WELL, published=published(throttle="heat", duty_percent=62, power_w=229.7))
    assert found(hot, "heat")[0].remedies[0].startswith("sudoedit")


def test_a_hot_card_with_a_target_needs_a_lower_target() -> None:
    hot = replace(WELL, published=published(throttle="heat", duty_percent=62, target_c=82.0))
    assert found(hot, "heat")[0].text.endswith("with the fans at 62 %: choose a lower target")


def test_a_hot_card_with_full_fans_needs_less_power() -> None:
    hot = replace(WELL, published=published(throttle="heat", duty_percent=100, power_w=229.7))
    assert found(hot, "heat")[0].remedies == ("sudo nvidia-smi -i 0 -pl 190",)


def test_the_state_of_another_card_with_the_same_index_is_ignored() -> None:
    other = replace(WELL, published=published(uuid="GPU-99999999-2222-3333-4444-555555555555", control="released"))
    card, lost = found(other, "fans")
    assert (card.uuid, "does not control this card" in card.text) == (INFO.uuid, True)
    assert lost.uuid == "GPU-99999999-2222-3333-4444-555555555555"


def test_a_card_is_recognised_although_the_driver_has_numbered_it_anew() -> None:
    renumbered = replace(WELL, driver=driver(Card(replace(INFO, index=3), CARD.reading)))
    (finding,) = found(renumbered, "fans")
    assert (finding.level, finding.card, finding.text[:24]) == (Level.OK, 3, "GTX 1080 Ti: through NVM")


def test_in_a_simulation_only_the_simulated_cards_are_judged() -> None:
    snapshot = snapshot_now((gpu_state(label="0 simulated", uuid="GPU-sim"),), interval_s=1.0, simulated_s=5.0)
    report = judge(replace(WELL, published=Published(snapshot)))
    assert [finding.uuid for finding in report.findings if finding.check == "fans"] == ["GPU-sim"]


def test_a_remedy_runs_no_command_hidden_in_a_name() -> None:
    facts = Facts(autostarts=("/home/eve/a; reboot.desktop",), rivals=(Rival("fans", "a;reboot.service", 7, True),))
    remedies = [remedy for found in judge(facts).findings if found.check == "rivals" for remedy in found.remedies]
    assert remedies == [
        "sudo systemctl disable --now 'a;reboot.service'",
        "sudo mv '/home/eve/a; reboot.desktop' '/home/eve/a; reboot.desktop.off'",
    ]
