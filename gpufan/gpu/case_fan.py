"""A case fan: a fan on a header of the motherboard that follows cards. It implements `Gpu`, so a worker controls it."""

from collections.abc import Callable
from contextlib import suppress

from gpufan.core.gpu import CASE_FAN, GpuInfo, Reading, Sensed, SingleBackend
from gpufan.errors import FansOutOfReach
from gpufan.gpu.header import ChannelFans, OpenFan

Temperature = Callable[[], float | None]
"""Returns the temperature that a case fan follows, °C; None if none is reliable, so that the fan gets full speed."""


class CaseFan(SingleBackend):
    """The fan on one channel. Its temperature is that of a card that it follows."""

    def __init__(self, name: str, index: int, open_fan: OpenFan, temperature: Temperature) -> None:
        """`name` is the name of the channel. `index` is the number of the fan in the settings; the first has 0."""
        self._fans = ChannelFans(self, open_fan)
        self._fans.names = (name,)
        self.temperature = temperature
        self._index = index
        self._source: tuple[object, ...] = ()
        self._info: GpuInfo
        with suppress(FansOutOfReach):  # the record of set fans needs the channel, if it is there
            self._fans.open()

    @property
    def info(self) -> GpuInfo:
        """The properties of the fan. The object is replaced only when a property changes."""
        source = self._fans.channels, self._fans.duty_range
        if source != self._source:
            self._source = source
            (name,) = self._fans.names
            self._info = GpuInfo(
                uuid=f"{CASE_FAN}{name}",
                pci="",
                index=self._index,
                name=name,
                fan_count=1,
                duty_range=self._fans.duty_range,
                slowdown_c=None,
                backend="hwmon",
                channels=self._fans.channels,
            )
        return self._info

    def open(self) -> None:
        """Open the channel, so that `info` has its state before gpufan. Raises FansOutOfReach."""
        self._fans.open()

    def set_exactly(self, duty_percent: int) -> None:
        """Set the fan to `duty_percent`, without a start at full speed. Raises GpuError or FansOutOfReach."""
        self._fans.set(duty_percent, start=False)

    def sense(self) -> Sensed:
        """Return the temperature that the fan follows. The power is None."""
        return Sensed(self.temperature(), None)

    def read(self) -> Reading:
        """Return the temperature that the fan follows, and the state of the fan. Raises FansOutOfReach."""
        return Reading(self.temperature(), None, self._fans.read())

    def set_duty(self, duty_percent: int) -> None:
        """Set the fan to `duty_percent`. Raises GpuError or FansOutOfReach."""
        self._fans.set(duty_percent)

    def release(self) -> None:
        """Put the channel back as it was before gpufan. Raises GpuError."""
        self._fans.release()
