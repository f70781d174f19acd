"""SENSE and ACT: the protocol that every way to reach a card fulfils, and the values that pass through it.

`nvml` reaches real cards, `simulated` a model of them. Nothing here decides anything.
"""

from dataclasses import dataclass
from typing import Annotated, Protocol

import msgspec


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """What does not change about a card while the driver runs."""

    uuid: str
    pci: str
    """PCI address as NVML prints it, hexadecimal: `00000000:0A:00.0`."""
    index: int
    """NVML's index; for people only, since it can change with a reboot."""
    name: str
    fan_count: int
    duty_range: tuple[int, int]
    """Lowest and highest duty that the card takes, percent."""
    slowdown_c: int | None
    """Temperature at which the card slows itself down, °C; None where it does not say."""
    backend: str
    """What sets the fans: `nvml`, `x11`, `simulated`."""
    backend_reason: str = ""
    """Why that and not NVML; empty where nothing needs saying."""
    uncontrollable_reason: str | None = None
    """Why the fans cannot be set; None if they can. Text for people."""
    power_limit_w: float | None = None
    """The most that the card might draw when it was opened, W; None where it does not say."""

    @property
    def label(self) -> str:
        """Short name for people: index and model, `0 GTX 1080 Ti`."""
        return f"{self.index} {self.name.removeprefix('NVIDIA ').removeprefix('GeForce ')}"


THROTTLES = ("heat", "power-brake", "hardware", "power-cap")
"""Why a card lowers its clocks, the gravest first. `hardware` does not tell whether for heat or for power, and
`power-cap` is the power limit, which a busy card reaches in good order."""


_Whole = Annotated[int, msgspec.Meta(ge=-(2**32), le=2**32)]
"""What a driver can put into its numbers."""


class FanReading(msgspec.Struct, frozen=True, gc=False):
    """One fan, read back; each value is None where the driver does not tell."""

    speed_percent: _Whole | None
    target_percent: _Whole | None
    manual: bool | None
    """Whether the fan is in our hands rather than the driver's."""
    speed_rpm: _Whole | None = None


class Reading(msgspec.Struct, frozen=True):
    """One card, read once."""

    temperature_c: float | None
    """None where the read failed."""
    power_w: float | None
    fans: tuple[FanReading, ...]
    throttle: str | None = None
    """What lowers the clocks: the gravest of `THROTTLES`, or `none`; None where the card does not tell."""


@dataclass(frozen=True, slots=True)
class FallBack:
    """Result of `Gpu.fall_back`."""

    switched: bool
    """Whether the next call uses the other way."""
    x_error: str = ""
    """Why the fans cannot be set over X either; empty if X was not tried or works. Text for people."""


class Gpu(Protocol):
    """One card. Calls may block for ever when the hardware does; each card is called from one thread at a time."""

    @property
    def info(self) -> GpuInfo:
        """What the card said of itself when it was found."""

    def read(self) -> Reading:
        """Read temperature, power and fans.

        Raises GpuLost; any other failed read shows as None in the result.
        """

    def observe(self) -> Reading:
        """Read the card as `read` does, but never start an X server for it. Raises GpuLost."""

    def set_duty(self, duty_percent: int) -> None:
        """Take every fan of the card and set it to `duty_percent`.

        Raises GpuError, GpuLost or NoPermission. Returning is no proof: read back.
        """

    def release(self) -> None:
        """Give every fan of the card back to the driver; doing so twice is harmless.

        Tries every fan before it raises GpuError, GpuLost or NoPermission for the first that failed.
        """

    def fall_back(self, reason: str) -> FallBack:
        """Switch to another way to the fans, because they do not obey: `reason`. May wait for an X server to start."""


class SingleWay:
    """Base class of the backends with a single way to the fans."""

    def observe(self: Gpu) -> Reading:
        """Read the card; nothing has to be started for it. Raises GpuLost."""
        return self.read()

    def fall_back(self, reason: str) -> FallBack:
        """Do nothing: there is no other way."""
        return FallBack(switched=False)
