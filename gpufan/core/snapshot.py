"""The snapshot: one file that the daemon replaces atomically every tick and that anyone may read."""

import os
import time
from typing import Annotated

import msgspec
from msgspec import Meta

from gpufan import __version__
from gpufan.core.gpu import FanReading

FORMAT = 1
"""Raised when a field changes its meaning or goes; new fields may come without."""


_STARTED_S = time.time()

_Time = Annotated[float, Meta(ge=0, lt=1e10)]
"""Seconds since the epoch, in this century or some later one: what else a file says is no time."""

_Count = Annotated[int, Meta(ge=0, le=10**12)]
_Measured = Annotated[float, Meta(ge=-1e12, le=1e12)] | None
"""Far more than any card, driver or time could tell: what reads a snapshot can reckon with these."""


class Errors(msgspec.Struct, frozen=True, gc=False):
    """What went wrong with a card since the start, counted by kind."""

    refused: _Count = 0
    """Sets that the driver refused."""
    unreadable: _Count = 0
    """Readings without a temperature."""
    lost: _Count = 0
    """Times that the card did not answer."""
    not_given_back: _Count = 0
    """Tries to give the fans back that failed."""


class GpuState(msgspec.Struct, frozen=True):
    """One card after a tick."""

    uuid: str
    pci: str
    index: _Count
    label: str
    backend: str
    control: str
    """Whose the fans are: `ours`, `driver` (the curve says auto, or a dry run), `released` after trouble, `lost`."""
    temperature_c: _Measured
    power_w: _Measured
    duty_percent: _Count | None
    """The duty set, percent; None while the driver decides."""
    fans: tuple[FanReading, ...]
    kind: str
    reason: str
    overrides: _Count
    """How often something else changed the fans and was set right."""
    errors: _Count
    """How often the card refused or did not answer: the sum of `errors_by_kind`."""
    tick_age_s: float = 0.0
    """Seconds since the card's loop last came round."""
    backend_reason: str = ""
    """Why this backend and not NVML; empty where nothing needs saying."""
    name: str = ""
    """Model of the card, as the driver calls it."""
    slowdown_c: int | None = None
    """Temperature at which the card slows itself down, °C; None where it does not say."""
    settings: str = ""
    """What the fans follow: `curve 50:30,83:100`, or `target 78 °C`."""
    throttle: str | None = None
    """What lowers the card's clocks: a value of `gpu.Throttle`; None if it does not report it."""
    throttled_s: _Time = 0.0
    """Seconds since the start in which heat has lowered the clocks."""
    fail_safe_s: _Time = 0.0
    """Seconds since the start in the fail-safe: the temperature was in doubt."""
    errors_by_kind: Errors = Errors()


class Snapshot(msgspec.Struct, frozen=True):
    """All cards after a tick."""

    format: int
    version: str
    pid: int
    time_s: _Time
    """Seconds since the epoch."""
    interval_s: Annotated[float, Meta(gt=0, le=60)]
    dry_run: bool
    gpus: tuple[GpuState, ...]
    simulated_s: _Time | None = None
    """Simulated seconds since the start; None for real cards."""
    reload_refused: str | None = None
    """What was wrong with the settings at the last reload, so that those before stay; None where nothing was."""
    started_s: _Time | None = None
    """When the run began, seconds since the epoch."""
    clock_steps: _Count = 0
    """How often the clock on the wall was set since the start."""
    clock_step_s: Annotated[float, Meta(ge=-1e10, le=1e10)] = 0.0
    """By how much the last time, s; negative for back."""

    @classmethod
    def of(
        cls,
        gpus: tuple[GpuState, ...],
        *,
        interval_s: float,
        dry_run: bool = False,
        simulated_s: float | None = None,
        reload_refused: str | None = None,
        clock_steps: int = 0,
        clock_step_s: float = 0.0,
    ) -> "Snapshot":
        """Snapshot of this process, now."""
        return cls(
            format=FORMAT,
            version=__version__,
            pid=os.getpid(),
            time_s=time.time(),
            interval_s=interval_s,
            dry_run=dry_run,
            gpus=gpus,
            simulated_s=simulated_s,
            reload_refused=reload_refused,
            started_s=_STARTED_S,
            clock_steps=clock_steps,
            clock_step_s=round(clock_step_s, 3),
        )
