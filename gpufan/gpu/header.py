"""A card whose fans are on headers of the motherboard: `HeaderGpu`. The channels are in the room `hwmon/`."""

import errno
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from gpufan.core.gpu import FallBack, FanChannel, FanReading, Gpu, GpuInfo, Limits, Reading, Sensed
from gpufan.errors import FansOutOfReach, GpuError, GpufanError, GpuLost, InputError, NoAnswer, NoPermission
from gpufan.hwmon.channels import find_channels, resolve_channel
from gpufan.hwmon.fan import ChannelFan
from gpufan.hwmon.sysfs import SysfsChip
from gpufan.system.background import BackgroundCall

NamesFor = Callable[[GpuInfo], Sequence[str]]
"""Returns the names of the channels that cool a card; empty if its own fans do."""

OpenFan = Callable[[str], ChannelFan]
"""Returns the fan on the channel with this name. Raises InputError, GpuError or OSError."""

FULL_PERCENT = 100

_OPEN_TIMEOUT_S = 1.0
"""Time limit for opening the fans of one chip, s."""

_FAILED_READS = 3
"""A chip that cannot be read at this many ticks in a row is out of reach."""

_GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO)
"""Errors of a chip that is not there any more."""

_REMEDIES = {
    errno.EROFS: "the sandbox forbids it; for the service, run `sudo gpufan install-service` again",
    errno.EPERM: "the driver of the chip forbids it; thinkpad_acpi needs the option fan_control=1",
}
"""What to do about errors of a write."""


class Headers:
    """The fans on channels that this run uses. Two owners of one channel get the same fan."""

    def __init__(
        self, left_over: Sequence[FanChannel] = (), start_again: Callable[[GpufanError], None] = lambda _: None
    ) -> None:
        """`left_over` has the former states of the channels that an earlier run has not given back.

        `start_again` is called with the reason if only a new process can set a channel: if its chip has appeared after
        the start of this process, the sandbox of the service forbids to write it.
        """
        self._before = {(each.home, each.chip, each.number): each for each in left_over}
        self._opened: dict[tuple[str, str, int], BackgroundCall[ChannelFan]] = {}
        """The calls that open the fans. A chip may hang, and must not delay other fans."""
        self._hanging: set[Path] = set()
        """The folders of the chips that did not answer in time."""
        self._start_again = start_again
        self._named: set[str] = set()
        """The names that were looked for."""
        self._locked_out: set[str] = set()
        """The names of channels that the sandbox has forbidden from the start. A new process does not help them."""
        self._lock = threading.Lock()

    def open_fan(self, name: str) -> ChannelFan:
        """Return the fan on the channel `name`. Raises InputError if there is no such channel, GpuError or OSError.

        Waits at most `_OPEN_TIMEOUT_S` for a chip that hangs, and only once.
        """
        with self._lock:
            is_first = name not in self._named
            self._named.add(name)
        channel = resolve_channel(name, find_channels())
        chip = SysfsChip(channel)
        with self._lock:
            if chip.is_in_sandbox() and is_first:
                self._locked_out.add(name)
            elif chip.is_in_sandbox() and name not in self._locked_out:
                self._start_again(GpufanError(f"{name} has appeared: only a new process can set it in the sandbox"))
            call = self._opened.get(channel.place)
            if call is None:
                call = BackgroundCall(partial(ChannelFan, channel, chip, self._before.get(channel.place)))
                self._opened[channel.place] = call
            timeout_s = 0.0 if channel.home in self._hanging else _OPEN_TIMEOUT_S
        try:
            fan = call.result(timeout_s)
        except NoAnswer as error:
            self._hanging.add(channel.home)
            raise GpuError(f"{name}: its chip does not answer") from error
        except (GpuError, OSError):
            self._opened.pop(channel.place, None)  # the next call tries again
            raise
        self._hanging.discard(channel.home)
        return fan


class ChannelFans:
    """The fans of one owner: a card or a case fan. They are opened when they are first used."""

    def __init__(self, owner: object, open_fan: OpenFan) -> None:
        self._owner = owner
        self._open_fan = open_fan
        self.names: tuple[str, ...] = ()
        """The names of the channels, as the settings have them."""
        self._fans: list[ChannelFan] = []
        self._last: tuple[FanReading, ...] = ()
        """The last readings of the fans."""
        self._failed_reads = 0
        """How many reads in a row have failed."""
        self._is_gone = False
        """Whether the fans must be looked for again: USB devices get another folder when they are plugged in."""
        self.is_set = False
        """Whether a fan may have a duty that gpufan has set."""

    @property
    def channels(self) -> tuple[FanChannel, ...]:
        """The states of the channels before gpufan. Empty until `open` has succeeded."""
        return tuple(fan.before for fan in self._fans)

    @property
    def duty_range(self) -> tuple[int, int]:
        """The lowest and the highest duty that turn all fans, percent. The lowest is 0 while none is known to stop."""
        return max((fan.lowest_percent for fan in self._fans), default=0), FULL_PERCENT

    def open(self) -> None:
        """Open the fans, if they are not open. Raises FansOutOfReach."""
        if self._fans and not self._is_gone:
            return
        try:
            self._fans = [self._open_fan(name) for name in self.names]
        except (InputError, GpuError, OSError) as error:
            raise FansOutOfReach(str(error)) from error
        self._is_gone = False

    def read(self) -> tuple[FanReading, ...]:
        """Return the state of each fan. Raises FansOutOfReach if a fan was set.

        While the chip is busy for less than `_FAILED_READS` ticks, the last state is returned.
        """
        try:
            self.open()
            self._last = tuple(fan.read(self._owner) for fan in self._fans)
            self._failed_reads = 0
        except FansOutOfReach:
            if self.is_set:
                raise
        except OSError as error:
            self._failed_reads += 1
            self._is_gone = error.errno in _GONE or isinstance(error, FileNotFoundError)
            if self.is_set and (self._is_gone or self._failed_reads >= _FAILED_READS or not self._last):
                raise FansOutOfReach(self._error_text(error)) from error
        else:
            return self._last
        if self.is_set:
            return self._last
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
        """Return `error` as text for people, with a remedy if it is known."""
        text = error.strerror or str(error)
        return f"{text}: {_REMEDIES[error.errno]}" if error.errno in _REMEDIES else text


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
