"""A card whose fans are on headers of the motherboard: `HeaderGpu`. The channels are in the room `hwmon/`."""

import errno
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from gpufan.core.gpu import FallBack, FanChannel, FanReading, Gpu, GpuInfo, Limits, Reading, Sensed
from gpufan.errors import FansOutOfReach, GpuError, GpuLost, InputError, NoPermission
from gpufan.hwmon.channels import SysfsChip, find_channels, resolve_channel
from gpufan.hwmon.fan import ChannelFan

NamesFor = Callable[[GpuInfo], Sequence[str]]
"""Returns the names of the channels that cool a card; empty if its own fans do."""

OpenFan = Callable[[str], ChannelFan]
"""Returns the fan on the channel with this name. Raises InputError, GpuError or OSError."""

FULL_PERCENT = 100


class Headers:
    """The fans on channels that this run uses. Two owners of one channel get the same fan."""

    def __init__(self, left_over: Mapping[str, FanChannel] | None = None) -> None:
        """`left_over` maps the names of channels that an earlier run has not given back to their former states."""
        self._before = dict(left_over or {})
        self._fans: dict[str, ChannelFan] = {}
        self._lock = threading.Lock()

    def open_fan(self, name: str) -> ChannelFan:
        """Return the fan on the channel `name`. Raises InputError if there is no such channel, GpuError or OSError."""
        with self._lock:
            channel = resolve_channel(name, find_channels())
            if channel.name not in self._fans:
                before = self._before.get(channel.name)
                self._fans[channel.name] = fan = ChannelFan(channel, SysfsChip(channel), before)
                self._before[channel.name] = fan.before
            return self._fans[channel.name]


class ChannelFans:
    """The fans of one owner: a card or a case fan. They are opened when they are first used."""

    def __init__(self, owner: object, open_fan: OpenFan) -> None:
        self._owner = owner
        self._open_fan = open_fan
        self.names: tuple[str, ...] = ()
        """The names of the channels, as the settings have them."""
        self._fans: list[ChannelFan] = []
        self.is_set = False
        """Whether a fan may have a duty that gpufan has set."""

    @property
    def channels(self) -> tuple[FanChannel, ...]:
        """The states of the channels before gpufan. Empty until `open` has succeeded."""
        return tuple(fan.before for fan in self._fans)

    @property
    def duty_range(self) -> tuple[int, int]:
        """The lowest and the highest duty that turn all fans, percent. A lowest duty of 0 is not known to stop one."""
        return max((fan.lowest_percent for fan in self._fans), default=0), FULL_PERCENT

    def open(self) -> None:
        """Open the fans, if they are not open. Raises FansOutOfReach."""
        if self._fans:
            return
        try:
            self._fans = [self._open_fan(name) for name in self.names]
        except (InputError, GpuError, OSError) as error:
            raise FansOutOfReach(str(error)) from error

    def read(self) -> tuple[FanReading, ...]:
        """Return the state of each fan. Raises FansOutOfReach if a fan was set."""
        try:
            self.open()
            return tuple(fan.read(self._owner) for fan in self._fans)
        except FansOutOfReach:
            if self.is_set:
                raise
        except OSError as error:
            if self.is_set:
                raise FansOutOfReach(self._error_text(error)) from error
        return (FanReading(None, None, manual=False),) * len(self.names)

    def set(self, duty_percent: int, *, start: bool = True) -> None:
        """Set every fan to `duty_percent`. Tries every fan, then raises GpuError for the first that failed.

        With `start`, a fan that stands still gets full speed until it turns. Raises
        FansOutOfReach if the fans are not open, since their state before is not in the record then.
        """
        if not self._fans:
            self.open()
            raise FansOutOfReach("they have appeared just now")
        self.is_set = True
        self._each(lambda fan: fan.set(self._owner, duty_percent, start=start))

    def release(self) -> None:
        """Put every channel back as it was before gpufan, and raise GpuError for the first that failed.

        Nothing happens if no fan was set.
        """
        if self.is_set:
            self._each(lambda fan: fan.release(self._owner))
            self.is_set = False

    def _each(self, call: Callable[[ChannelFan], None]) -> None:
        """Call `call` with each fan. Then raise GpuError if a call has failed.

        Raises NoPermission at once if only root may make the call.
        """
        failed = ""
        for fan in self._fans:
            try:
                call(fan)
            except OSError as error:
                if error.errno == errno.EACCES and os.geteuid() != 0:
                    raise NoPermission("only root can set fans of the motherboard: run this with sudo") from error
                failed = failed or f"{fan.channel.name}: {self._error_text(error)}"
            except GpuError as error:
                failed = failed or str(error)
        if failed:
            raise GpuError(failed)

    def _error_text(self, error: OSError) -> str:
        """Return `error` as text for people. Files that are read-only are outside the sandbox of the service."""
        text = error.strerror or str(error)
        return f"{text}: run `sudo gpufan install-service` again" if error.errno == errno.EROFS else text


class HeaderGpu:
    """A card with the sensors and limits of `card`. If the settings name channels for the card, these are its fans."""

    def __init__(self, card: Gpu, names_for: NamesFor, open_fan: OpenFan) -> None:
        self._card = card
        self._names_for = names_for
        self._fans = ChannelFans(self, open_fan)
        self._source: tuple[object, ...] = ()
        self._info = card.info
        if self.info.backend == "hwmon":  # the record of set cards needs the channels, if they are there
            with suppress(FansOutOfReach):
                self._fans.open()

    @property
    def info(self) -> GpuInfo:
        """The properties of the card. The object is replaced only when a property changes."""
        card = self._card.info
        if not self._source or self._source[0] is not card:
            names = tuple(self._names_for(card))
            if names != self._fans.names:
                self._fans.names = names
        source = card, self._fans.channels, self._fans.duty_range
        if source != self._source:
            self._source = source
            self._info = self._with_fans(card) if self._fans.names else card
        return self._info

    def _with_fans(self, card: GpuInfo) -> GpuInfo:
        """Return the properties `card` with channels as fans."""
        names = self._fans.names
        return replace(
            card,
            fan_count=len(names),
            duty_range=self._fans.duty_range,
            backend="hwmon",
            backend_reason=f"cooled by {', '.join(names)}",
            uncontrollable_reason=None,
            channels=self._fans.channels,
        )

    @property
    def _has_own_fans(self) -> bool:
        """Whether no channel cools this card."""
        return self.info.backend != "hwmon"

    def read(self) -> Reading:
        """Return the reading of the card with the states of its fans.

        Raises GpuLost if the card does not answer, unless no fan is set; FansOutOfReach if a channel is gone.
        """
        if self._has_own_fans:
            return self._card.read()
        try:
            reading = self._card.observe()
        except GpuLost:
            if self._fans.is_set:
                raise
            reading = Reading(None, None, ())
        return Reading(reading.temperature_c, reading.power_w, self._fans.read(), reading.throttle)

    def sense(self) -> Sensed:
        """Return temperature and power. Raises GpuLost."""
        if self._has_own_fans or self._card.info.backend != "x11":
            return self._card.sense()
        reading = self._card.observe()  # `sense` would need an X server
        return Sensed(reading.temperature_c, reading.power_w)

    def observe(self) -> Reading:
        """Return the same as `read`, without an X server."""
        return self._card.observe() if self._has_own_fans else self.read()

    def reopen(self) -> None:
        """Drop the handle of the card, so that the next call opens the card anew."""
        self._card.reopen()

    def set_duty(self, duty_percent: int) -> None:
        """Set every fan to `duty_percent`. Raises GpuError, GpuLost or NoPermission."""
        if self._has_own_fans:
            self._card.set_duty(duty_percent)
        else:
            self._fans.set(duty_percent)

    def release(self) -> None:
        """Give every fan back. Raises GpuError, GpuLost or NoPermission."""
        if self._has_own_fans:
            self._card.release()
        else:
            self._fans.release()

    def read_limits(self) -> Limits:
        """Return the limits of the card. Raises GpuLost."""
        return self._card.read_limits()

    def set_limits(self, limits: Limits) -> None:
        """Set the limits of the card. Raises GpuError, GpuLost or NoPermission."""
        self._card.set_limits(limits)

    def fall_back(self, reason: str) -> FallBack:
        """Switch to another backend, if the card has its own fans. Channels can be set in one way only."""
        return self._card.fall_back(reason) if self._has_own_fans else FallBack(switched=False)
