"""What the unit tests are made of: strategies for settings and readings, a card in memory, and ready-made states."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st

from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.gpu import FanReading, GpuInfo, Limits, Reading, Sensed, SingleBackend
from gpufan.core.reasons import Cause, Control, Group, Reason
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.daemon.snapshot_file import snapshot_now
from gpufan.gpu.simulated import Plant
from gpufan.system import systemctl

LIGHT = Plant(heat_capacity=350.0, die_time_constant_s=1.5)
"""A card whose heatsink is less than half as heavy as that of the nominal card, so that jobs of minutes matter."""


@st.composite
def curves(draw: st.DrawFn, *, auto: bool | None = None) -> Curve:
    """Any curve of whole numbers; `auto` says whether the first duty is the driver's, None leaves that open."""
    least = 2 if auto else 1
    temperatures = sorted(draw(st.lists(st.integers(0, 110), min_size=least, max_size=6, unique=True)))
    count = len(temperatures)
    duties: list[float | None] = sorted(draw(st.lists(st.integers(0, 100), min_size=count, max_size=count)))
    if auto or (auto is None and count > 1 and draw(st.booleans())):
        duties[0] = None
    return Curve(tuple(zip(temperatures, duties, strict=True)))


def curve_settings(curve: st.SearchStrategy[Curve] | None = None) -> st.SearchStrategy[CardSettings]:
    """Any settings that a person could choose."""
    return st.builds(
        CardSettings,
        curve=curves() if curve is None else curve,
        hysteresis_c=st.sampled_from((0.0, 1.0, 3.0, 6.0, 30.0)),
        hold_s=st.sampled_from((0.0, 1.0, 10.0, 120.0)),
        slew_percent_per_s=st.sampled_from((0.5, 2.0, 100.0)),
        step_percent=st.integers(1, 6),
        min_duty_percent=st.none() | st.integers(0, 100),
    )


card_ranges = st.sampled_from(((0, 100), (1, 99), (19, 100), (20, 100), (23, 100), (30, 100), (41, 80)))
valid_c = st.integers(1, 130)
anything = st.none() | st.floats() | st.integers(-10, 140)
"""Numbers that a broken driver may hand over: NaN, infinities and failed reads included."""


class FakeGpu(SingleBackend):
    """A card in memory that obeys until told otherwise, and notes what it was asked in `calls`."""

    def __init__(self, **info: Any) -> None:
        self.info = GpuInfo(
            **{
                "uuid": "GPU-11111111-2222-3333-4444-555555555555",
                "pci": "00000000:0A:00.0",
                "index": 0,
                "name": "NVIDIA GeForce GTX 1080 Ti",
                "fan_count": 2,
                "duty_range": (23, 100),
                "slowdown_c": 96,
                "backend": "nvml",
                "power_limit_w": 250.0,
                **info,
            }
        )
        self.temperature_c: float | None = 40.0
        self.power_w: float | None = 100.0
        self.throttle: str | None = None
        self.fans = [FanReading(23, 23, False)] * self.info.fan_count
        self.calls: list[int | str] = []
        """Every duty that was asked for, `release` and `read`, in order."""
        self.read_error: Exception | None = None
        self.set_error: Exception | None = None
        self.error_after_set: Exception | None = None
        """`read_error` from the next set on."""
        self.release_errors: list[Exception] = []
        """Raised one after the other by the next releases."""
        self.floor_percent = 0
        self.deaf_fans: set[int] = set()
        self.rpm: list[int] | None = None
        self.speed_lag = 0
        """For this many reads after a set the fans are where they were before."""
        self._lagging, self._before = 0, 23
        self.deaf_releases = 0
        """So many of the next releases do nothing."""

    @property
    def written(self) -> list[int | str]:
        """Every duty and every release."""
        return [call for call in self.calls if call not in ("read", "sense", "reopen")]

    def read(self) -> Reading:
        self.calls.append("read")
        if self.read_error:
            raise self.read_error
        fans = self.fans
        if self._lagging > 0:
            self._lagging -= 1
            fans = [msgspec.structs.replace(fan, speed_percent=self._before) for fan in fans]
        if self.rpm is not None:
            fans = [msgspec.structs.replace(fan, speed_rpm=rpm) for fan, rpm in zip(fans, self.rpm, strict=True)]
        return Reading(self.temperature_c, self.power_w, tuple(fans), self.throttle)

    def sense(self) -> Sensed:
        self.calls.append("sense")
        if self.read_error:
            raise self.read_error
        return Sensed(self.temperature_c, self.power_w)

    def reopen(self) -> None:
        self.calls.append("reopen")

    def set_duty(self, duty_percent: int) -> None:
        self.calls.append(duty_percent)
        if self.set_error:
            raise self.set_error
        self.read_error = self.error_after_set or self.read_error
        self._lagging, self._before = self.speed_lag, self.fans[0].speed_percent or 0
        duty_percent = max(duty_percent, self.floor_percent)
        obeying = FanReading(duty_percent, duty_percent, True)
        self.fans = [fan if number in self.deaf_fans else obeying for number, fan in enumerate(self.fans)]

    def release(self) -> None:
        self.calls.append("release")
        if self.release_errors:
            raise self.release_errors.pop(0)
        if self.deaf_releases:
            self.deaf_releases -= 1
        else:
            self.fans = [FanReading(23, 23, False)] * self.info.fan_count

    def found_again(self, **info: Any) -> None:
        """The driver opened the card anew."""
        self.info = replace(self.info, **info)


class LimitedGpu(FakeGpu):
    """A card in memory with a power limit."""

    def __init__(self) -> None:
        super().__init__(power_range_w=(125.0, 300.0))
        self.limits = Limits(250.0)
        self.limit_error: Exception | None = None

    def read_limits(self) -> Limits:
        return self.limits

    def set_limits(self, limits: Limits) -> None:
        if self.limit_error:
            raise self.limit_error
        self.calls.append(f"limit {limits.power_w:g}")
        self.limits = limits


REASONS = {
    Group.START: Reason(Cause.START),
    Group.CURVE: Reason(Cause.CURVE, curve_percent=62),
    Group.HOLD: Reason(Cause.HYSTERESIS, curve_percent=58, difference_c=2.0),
    Group.AUTO: Reason(Cause.AUTO, limit_c=50.0),
    Group.FULL: Reason(Cause.NEAR_SLOWDOWN, temperature_c=90.0),
    Group.FAIL_SAFE: Reason(Cause.NO_TEMPERATURE),
    Group.FAULT: Reason(Cause.REFUSED, message="the driver refused"),
    Group.LOST: Reason(Cause.LOST, message="the card is gone"),
    Group.HANG: Reason(Cause.HANG, seconds=5.0),
}
"""An example of each group of causes."""


def gpu_state(*, group: str | None = None, message: str | None = None, **changes: Any) -> GpuState:
    """A card under control, but for `changes`. With a `message`, the group is one whose reasons have a message."""
    if "reason" in changes:
        reason = changes.pop("reason")
    elif message is None:
        reason = REASONS[Group(group or "hold")]
    else:
        reason = Reason(Cause.LOST if group == "lost" else Cause.REFUSED, message=message)
    control = Control(changes.pop("control", "ours"))
    return GpuState(
        **{
            "uuid": "GPU-11111111-2222-3333-4444-555555555555",
            "pci": "00000000:0A:00.0",
            "index": 0,
            "label": "0 GTX 1080 Ti",
            "backend": "nvml",
            "control": control,
            "temperature_c": 74.0,
            "power_w": 229.7,
            "duty_percent": 62,
            "fans": (FanReading(61, 62, True, 2950),),
            "reason": reason,
            "overrides": 0,
            "errors": 0,
            **changes,
        }
    )


def snapshot_at(time_s: float, *, cards: int = 1, simulated_s: float | None = None, **changes: object) -> Snapshot:
    """A snapshot of that time with several cards under control, but for `changes`."""
    states = tuple(gpu_state(**{"index": i, "uuid": f"GPU-{i}", **changes}) for i in range(cards))
    return msgspec.structs.replace(snapshot_now(states, interval_s=1, simulated_s=simulated_s), time_s=time_s)


def put_systemctl(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Put a systemctl in the way that runs `script`."""
    (folder / "systemctl").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(systemctl, "BOOTED", folder)
