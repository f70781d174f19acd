"""The findings about fans on headers of the motherboard."""

import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from gpufan.config.schema import FanTable, RunKeys
from gpufan.config.settings import Settings
from gpufan.core.reasons import Cause, Control, Reason
from gpufan.core.snapshot import GpuState
from gpufan.daemon.snapshot_file import snapshot_now
from gpufan.doctor.facts import Facts, Published, Rival, Systemd
from gpufan.doctor.findings import Level
from gpufan.doctor.judge import judge
from gpufan.hwmon.channels import Channel
from gpufan.system.unit_state import UnitState
from tests.unit.builders import gpu_state

HOME = Path("/sys/devices/platform/nct6775.656/hwmon")
FAN = gpu_state(
    uuid="fan:nct6798/pwm2",
    pci="",
    label="nct6798/pwm2",
    backend="hwmon",
    reason=Reason(Cause.FOLLOWS, needed_percent=60.0),
)
SERVICE = UnitState("gpufan.service", "loaded", "active", "running", "enabled", "success", pid=os.getpid())
WELL = Facts(
    settings=Settings(file=RunKeys(fan=(FanTable(name="nct6798/pwm2"),))),
    channels=(Channel("nct6798", HOME, 2, 2),),
    writable_paths=f"-{HOME}",
    systemd=Systemd(service=SERVICE),
    published=Published(snapshot_now((gpu_state(),), case_fans=(FAN,), interval_s=1.0)),
)


def findings(facts: Facts, check: str = "headers") -> list[tuple[Level, str]]:
    return [(finding.level, finding.text) for finding in judge(facts).findings if finding.check == check]


def with_fan(**changes: object) -> Facts:
    fan: GpuState = msgspec.structs.replace(FAN, **changes)
    return replace(WELL, published=Published(snapshot_now((gpu_state(),), case_fans=(fan,), interval_s=1.0)))


def test_a_case_fan_that_obeys_is_fine() -> None:
    assert findings(WELL) == [
        (Level.OK, "nct6798/pwm2 is there"),
        (Level.OK, "nct6798/pwm2: set to 62 %, 2950 rpm"),
    ]


def test_a_box_whose_settings_name_no_such_fan_has_no_such_finding() -> None:
    assert findings(Facts(channels=WELL.channels)) == []


def test_a_channel_that_is_missing_is_a_problem() -> None:
    level, text = findings(replace(WELL, channels=()))[0]
    assert level is Level.PROBLEM
    assert "nct6798/pwm2: no such fan" in text


@pytest.mark.parametrize("paths", ["", "/var/lib/gpufan", f"-{HOME.parent.parent}/other/hwmon"])
def test_a_sandbox_that_does_not_open_the_chip_is_a_problem(paths: str) -> None:
    level, text = findings(replace(WELL, writable_paths=paths))[0]
    assert (level, "sandbox" in text) == (Level.PROBLEM, True)


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        (
            {"control": Control.LOST, "reason": Reason(Cause.X_LOST, message="nct6798/pwm2: its chip does not answer")},
            Level.PROBLEM,
            "nct6798/pwm2: out of reach: its chip does not answer",
        ),
        ({"fault": Reason(Cause.FAN_STILL, fan=0, found_percent=60, seconds=10.0)}, Level.PROBLEM, "free it"),
        (
            {"control": Control.RELEASED, "reason": Reason(Cause.REFUSED, message="no")},
            Level.PROBLEM,
            "does not follow",
        ),
        ({"reason": Reason(Cause.NO_TEMPERATURE)}, Level.WARNING, "full speed"),
        ({"overrides": 3}, Level.WARNING, "set it again 3 times"),
    ],
)
def test_trouble_of_a_case_fan_is_named(changes: dict[str, object], level: Level, words: str) -> None:
    found = findings(with_fan(**changes))[1]
    assert found[0] is level
    assert words in found[1]


def test_fancontrol_is_a_rival_only_if_gpufan_sets_fans_of_the_motherboard() -> None:
    rival = Rival("fancontrol", "fancontrol.service", 7, exclusive=False, of_board=True)
    ((level, text),) = findings(replace(WELL, rivals=(rival,)), "rivals")
    assert level is Level.WARNING
    assert "the same fans (nct6798/pwm2)" in text
    ((level, _),) = findings(replace(WELL, settings=Settings(), rivals=(rival,)), "rivals")
    assert level is Level.OK


def test_coolercontrol_is_a_rival_in_any_case() -> None:
    rival = Rival("CoolerControl", None, 7, exclusive=False, of_board=True)
    assert findings(replace(WELL, settings=Settings(), rivals=(rival,)), "rivals")[0][0] is Level.WARNING


def test_a_sandbox_that_is_unknown_is_no_problem() -> None:
    unknown = replace(WELL, writable_paths="", errors={"writable_paths": "no answer within 10 s"})
    assert [level for level, _ in findings(unknown)] == [Level.OK, Level.OK]
    assert findings(unknown, "time") == []
