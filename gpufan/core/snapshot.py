"""The snapshot that the daemon publishes after every tick: the state of each card, and of the run."""

from enum import Enum
from typing import Annotated

import msgspec
from msgspec import Meta

from gpufan.core.gpu import CASE_FAN, FanReading
from gpufan.core.reasons import Control, Reason, Remedy

FORMAT = 2
"""The version of the format. It rises if a field changes its meaning or is removed, not for a new optional field."""

_Time = Annotated[float, Meta(ge=0, lt=1e10)]
"""Seconds since the epoch, or a duration in seconds."""

_Count = Annotated[int, Meta(ge=0, le=10**12)]
_Measured = Annotated[float, Meta(ge=-1e12, le=1e12)] | None
"""A measured value; None if it is unknown. No card reports a value outside these bounds.

Calculations with a value inside the bounds cannot overflow.
"""


class Errors(msgspec.Struct, frozen=True, gc=False):
    """Errors of a card since the start."""

    refused: _Count = 0
    """Duties that the driver refused to set."""
    unreadable: _Count = 0
    """Readings without a temperature."""
    lost: _Count = 0
    """How many times the card did not answer."""
    not_given_back: _Count = 0
    """Failed attempts to give the fans back."""


class GpuState(msgspec.Struct, frozen=True):
    """The state of one card after a tick."""

    uuid: str
    pci: str
    index: _Count
    label: str
    backend: str
    control: Control
    temperature_c: _Measured
    power_w: _Measured
    duty_percent: _Count | None
    """The duty that gpufan sets, percent; None while the driver decides."""
    fans: tuple[FanReading, ...]
    reason: Reason
    """Why the card has this duty. If `control` is `released` or `lost`: why gpufan does not control the fans."""
    overrides: _Count
    """How often gpufan had to set the fans again, because they differed from the duty that it had set."""
    errors: _Count
    """The sum of `errors_by_kind`."""
    fault: Reason | None = None
    """How the fans, when read back, differ from the duty that gpufan has set; None if they do not differ."""
    remedy: Remedy | None = None
    """What gpufan does about the fault; None if nothing needs to be done."""
    retry_after_s: _Measured = None
    """Seconds until the next try, if `remedy` is RETRY."""
    x_error: str = ""
    """Why the fans cannot be set over X; empty if they can, or if that was not tried."""
    release_error: str = ""
    """Why the fans could not be given back to the driver; empty if that did not fail."""
    tick_age_s: float = 0.0
    """Seconds since the last tick of this card."""
    uncontrolled_s: _Time = 0.0
    """Seconds since the card was last under control."""
    backend_reason: str = ""
    """Why the fans are not set through NVML; empty if they are."""
    name: str = ""
    """Model of the card, as the driver calls it."""
    slowdown_c: int | None = None
    """Temperature at which the card slows itself down, °C; None if the card does not report it."""
    settings: str = ""
    """The curve or target that the fans follow, for people: `curve 50:30,83:100`, or `target 78 °C`."""
    target_c: _Measured = None
    """The temperature that is held, °C; None if the fans follow a curve."""
    throttle: str | None = None
    """Why the card lowers its clocks: a value of `gpu.Throttle`; None if the card does not report it."""
    throttled_s: _Time = 0.0
    """Seconds since the start in which heat has lowered the clocks."""
    fail_safe_s: _Time = 0.0
    """Seconds since the start in which the temperature was in doubt, so that the fail-safe was active."""
    errors_by_kind: Errors = Errors()
    order: str = ""
    """What a person has ordered for the fans, for people: `60 %`; empty without an order."""
    order_left_s: _Measured = None
    """For how long the order still lasts, s; None for an order without an end, and without an order."""
    contested: bool = False
    """Whether another program has changed the fans a short time ago."""
    power_limit_w: _Measured = None
    """The power limit that gpufan has set, W; None if it has set none."""
    power_limit_before_w: _Measured = None
    """The power limit before gpufan set its own, W; None if gpufan has set none."""
    temperature_limit_c: _Measured = None
    """The temperature limit of the driver that gpufan has set, °C; None if it has set none."""
    gives_way: bool = False
    """Whether limits of gpufan lower the clocks, since the fans may not run faster."""
    held_back_w: _Measured = None
    """The estimated power that the limits hold back now, W; None if gpufan has set no limit."""
    held_back_j: _Measured = 0.0
    """The estimated energy that the limits have held back since the start, J."""
    channels: tuple[str, ...] = ()
    """The channels of the motherboard that are its fans, by name; empty for fans on the card."""
    duty_range: tuple[_Count, _Count] | None = None
    """Lowest and highest duty that the card accepts, percent; None in snapshots of older versions."""
    limits_error: str = ""
    """Why a limit could not be set or given back; empty if that did not fail."""

    @property
    def is_case_fan(self) -> bool:
        """Whether this is the state of a case fan, and not of a card."""
        return self.uuid.startswith(CASE_FAN)

    @property
    def key(self) -> str:
        """The UUID of the card. If the UUID is unknown, the PCI address; if that is unknown too, the label."""
        return self.uuid or self.pci or self.label

    def says_more_than(self, before: "GpuState") -> bool:
        """Whether a value that people watch differs from the state `before`.

        These are the temperature, the duty, the control, the cause, the fault, the order, `contested` and `gives_way`.
        """
        return (
            self.temperature_c != before.temperature_c
            or self.duty_percent != before.duty_percent
            or self.control is not before.control
            or self.reason.cause is not before.reason.cause
            or self.fault != before.fault
            or self.order != before.order
            or self.contested is not before.contested
            or self.gives_way is not before.gives_way
        )


class SettingsInUse(str, Enum):
    """Which settings the run follows."""

    CHOSEN = "chosen"
    """The settings in the file and on the command line."""
    LAST_GOOD = "last-good"
    """The settings of the last run of the service in which the file had no mistake."""
    BUILT_IN = "built-in"


class Snapshot(msgspec.Struct, frozen=True):
    """The state of all cards and of the run after a tick."""

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
    """Why the settings of the last reload were refused; None if they were accepted."""
    settings_in_use: SettingsInUse = SettingsInUse.CHOSEN
    settings_refused: str | None = None
    """Why the settings file was not used at the start; None if it was used then, or is used now."""
    started_s: _Time | None = None
    """When the run began, seconds since the epoch."""
    clock_steps: _Count = 0
    """How often the wall clock was set since the start."""
    clock_step_s: Annotated[float, Meta(ge=-1e10, le=1e10)] = 0.0
    """The last change of the wall clock, s; negative if it was set back."""
    case_fans: tuple[GpuState, ...] = ()
    """The case fans on headers of the motherboard, in the order of the settings; they are no cards.

    `uuid` is `fan:` and the name of the channel, `label` and `name` are the name of the channel, and `index` is the
    number of the fan. `temperature_c` is that of the followed card that is hottest relative to its own target or curve;
    `power_w` is None. `fans` has one fan. All other fields are as for a card.
    """

    @property
    def states(self) -> tuple[GpuState, ...]:
        """The states of all cards, and then those of all case fans."""
        return self.gpus + self.case_fans
