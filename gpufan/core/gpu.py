"""The protocol `Gpu`, which every backend implements, and the values of its arguments and results.

The backends are in the room `gpu/`.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, NamedTuple, Protocol

import msgspec

from gpufan.errors import GpuError

ASSUMED_DUTY_RANGE = (30, 100)
"""The range of a card that does not report one, percent. The lowest duty of consumer cards is 23 to 30 %."""

CASE_FAN = "fan:"
"""The `uuid` of a case fan is this, followed by the name of its channel."""

NO_FAN = "the driver reports no fan"
"""The `uncontrollable_reason` of a card without fans."""


@dataclass(frozen=True, slots=True)
class FanChannel:
    """A channel of the kernel's hwmon, and its state before gpufan set it. See `hwmon/README.md`.

    `gpu/release_fans.py` uses the same names for the fields.
    """

    name: str
    """The name of the channel: `nct6798/pwm2`."""
    chip: str
    home: str
    """The folder in /sys that has the folder of the chip, such as `hwmon3`."""
    number: int
    mode_before: int | None
    """The number in `pwmN_enable`; None if there is no such file."""
    pwm_before: int
    """The number in `pwmN`, 0 to 255."""


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """The properties of a card. They do not change while the card is open."""

    uuid: str
    pci: str
    """PCI address as NVML prints it, hexadecimal: `00000000:0A:00.0`."""
    index: int
    """NVML's index of the card. It may change at a reboot, so it is for people only."""
    name: str
    fan_count: int
    duty_range: tuple[int, int]
    """Lowest and highest duty that the card accepts, percent."""
    slowdown_c: int | None
    """Temperature at which the card slows itself down, °C; None if it is unknown."""
    backend: str
    """How the fans are set: `nvml`, `x11`, `hwmon` or `simulated`."""
    backend_reason: str = ""
    """Why the fans are not set through NVML; empty if they are. Text for people."""
    uncontrollable_reason: str | None = None
    """Why the fans cannot be set; None if they can. Text for people."""
    power_limit_w: float | None = None
    """Power limit when the card was first opened, W; None if it is unknown."""
    power_range_w: tuple[float, float] | None = None
    """Lowest and highest power limit that the card accepts, W; None if this limit cannot be set."""
    temperature_limit_range_c: tuple[int, int] | None = None
    """Lowest and highest temperature limit that the card accepts, °C; None if this limit cannot be set."""
    channels: tuple[FanChannel, ...] = ()
    """The channels of the kernel's hwmon that are the fans; empty if the fans are on the card."""

    @property
    def is_case_fan(self) -> bool:
        """Whether this is no card but a case fan, which follows cards."""
        return self.uuid.startswith(CASE_FAN)

    @property
    def label(self) -> str:
        """Short name for people: index and model, `0 GTX 1080 Ti`. For a case fan, the name of its channel."""
        if self.is_case_fan:
            return self.name
        return f"{self.index} {self.name.removeprefix('NVIDIA ').removeprefix('GeForce ')}"


class Throttle(str, Enum):
    """Why a card lowers its clocks, the most serious reason first."""

    HEAT = "heat"
    POWER_BRAKE = "power-brake"
    """An external signal, for example from the power supply."""
    HARDWARE = "hardware"
    """Heat or power: the card does not report which of them."""
    POWER_CAP = "power-cap"
    """The power limit, which a busy card reaches in normal operation."""
    GIVING_WAY = "giving-way"
    """Heat: the card has reached the temperature limit that gpufan set because the fans may not run faster."""
    NONE = "none"


_Integer = Annotated[int, msgspec.Meta(ge=-(2**32), le=2**32)]
"""An integer that a driver reports. The bounds include every number that a driver can report."""


class FanReading(msgspec.Struct, frozen=True, gc=False):
    """The state of one fan, as the driver reports it. A value that the driver does not report is None."""

    speed_percent: _Integer | None
    target_percent: _Integer | None
    manual: bool | None
    """True if gpufan or another program sets the fan, False if the driver does."""
    speed_rpm: _Integer | None = None


class Sensed(NamedTuple):
    """The part of a reading that every tick needs. A value that could not be read is None."""

    temperature_c: float | None
    power_w: float | None


class Limits(NamedTuple):
    """The limits at which the driver lowers the clocks of a card.

    In a reading, None stands for a limit that the card does not report. In a request, None changes nothing.
    """

    power_w: float | None = None
    temperature_c: float | None = None
    """The target temperature of the driver, °C. From this temperature on, the driver lowers the clocks."""


class Reading(msgspec.Struct, frozen=True):
    """One reading of a card."""

    temperature_c: float | None
    """None if it could not be read."""
    power_w: float | None
    fans: tuple[FanReading, ...]
    throttle: Throttle | None = None
    """The most serious reason for lower clocks; None if the card does not report it."""


@dataclass(frozen=True, slots=True)
class FallBack:
    """Result of `Gpu.fall_back`."""

    switched: bool
    """Whether the fans are set through another backend from now on."""
    x_error: str = ""
    """Why the fans cannot be set over X; empty if they can, or if that was not tried. Text for people."""


class Gpu(Protocol):
    """A card. If the hardware hangs, a call may block for ever. Only one thread at a time may use a card."""

    @property
    def info(self) -> GpuInfo:
        """The properties of the card. This stays the same object until a property changes."""

    def read(self) -> Reading:
        """Read the card. Return its temperature, its power, the state of its fans, and why its clocks are lowered.

        A value that cannot be read is None. Raises GpuLost if the card does not answer.
        """

    def sense(self) -> Sensed:
        """Read only temperature and power. This is faster than `read`. Raises GpuLost if the card does not answer."""

    def observe(self) -> Reading:
        """Return the same as `read`, but never start an X server. Raises GpuLost if the card does not answer."""

    def reopen(self) -> None:
        """Drop the handle of the card, so that the next call opens the card anew. Never fails."""

    def set_duty(self, duty_percent: int) -> None:
        """Put every fan of the card into manual mode and set it to `duty_percent`.

        A call without an error does not prove that the fans obey. Only a later reading proves that. Raises GpuError,
        GpuLost or NoPermission.
        """

    def release(self) -> None:
        """Give every fan of the card back to the driver; a second call is harmless.

        Tries every fan, then raises GpuError, GpuLost or NoPermission for the first fan that failed.
        """

    def read_limits(self) -> Limits:
        """Return the limits that are set now. Raises GpuLost if the card does not answer."""

    def set_limits(self, limits: Limits) -> None:
        """Set the limits that are not None. Only a later call of `read_limits` proves that the card has accepted them.

        Raises GpuError, GpuLost or NoPermission.
        """

    def fall_back(self, reason: str) -> FallBack:
        """Switch to another backend because the fans do not obey. This call may wait until an X server has started.

        `reason` is a text for people that says why the fans do not obey.
        """


class SingleBackend:
    """Base class of the cards that cannot switch to another backend."""

    def sense(self: Gpu) -> Sensed:
        """Call `read`, and return only temperature and power. Raises GpuLost if the card does not answer."""
        reading = self.read()
        return Sensed(reading.temperature_c, reading.power_w)

    def observe(self: Gpu) -> Reading:
        """Return the result of `read`, which starts no X server here. Raises GpuLost if the card does not answer."""
        return self.read()

    def reopen(self) -> None:
        """Do nothing, since this class keeps no handle of the card."""

    def read_limits(self) -> Limits:
        """Return limits that are all None, since no limit is known."""
        return Limits()

    def set_limits(self, limits: Limits) -> None:
        """Raise GpuError, since no limit can be set."""
        raise GpuError("the card has no limits that can be set")

    def fall_back(self, reason: str) -> FallBack:
        """Change nothing, since there is no other backend. Return a result that says so."""
        return FallBack(switched=False)
