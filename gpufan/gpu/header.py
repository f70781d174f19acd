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
from gpufan.errors import FansOutOfReach, GpuError, GpufanError, GpuLost, InputError, NoPermission
from gpufan.hwmon.channels import find_channels, resolve_channel
from gpufan.hwmon.chip_files import ChipHangs
from gpufan.hwmon.fan import ChannelFan
from gpufan.hwmon.sysfs import SysfsChip
from gpufan.system.background import call_all

NamesFor = Callable[[GpuInfo], Sequence[str]]
"""Returns the names of the channels that cool a card; empty if its own fans do."""

OpenFan = Callable[[str], ChannelFan]
"""Returns the fan on the channel with this name. Raises InputError, GpuError or OSError."""

FULL_PERCENT = 100

_CHIPS_TIMEOUT_S = 5.0
"""Time limit for calls to all chips at the same time, s. Each file of a chip has a shorter limit of its own."""

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
        self._fans: dict[tuple[str, str, int], ChannelFan] = {}
        self._start_again = start_again
        self._named: set[str] = set()
        """The names that were looked for."""
        self._locked_out: set[str] = set()
        """The names of channels that the sandbox has forbidden from the start. A new process does not help them."""
        self._lock = threading.Lock()

    def open_all(self, names: Sequence[str]) -> None:
        """Open the fans on the channels `names` at the same time. Errors are ignored: `open_fan` raises them again.

        If several chips hang, this lasts no longer than with one of them.
        """
        call_all(_CHIPS_TIMEOUT_S, [partial(self.open_fan, name) for name in names])

    def open_fan(self, name: str) -> ChannelFan:
        """Return the fan on the channel `name`. Raises InputError if there is no such channel, GpuError or OSError."""
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
            known = self._fans.get(channel.place)
        if known is not None:
            return known
        fan = ChannelFan(channel, chip, self._before.get(channel.place))  # without the lock, since the chip may hang
        with self._lock:
            return self._fans.setdefault(channel.place, fan)


class ChannelFans:
    """The fans of one owner: a card or a case fan. They are opened when they are first used."""

    def __init__(self, owner: object, open_fan: OpenFan) -> None:
        self._owner = owner
        self._open_fan = open_fan
        self.names: tuple[str, ...] = ()
        """The names of the channels, as the settings have them."""
        self._opened: dict[str, ChannelFan] = {}
        """The fans that were opened, by name. A fan stays here while its chip is gone, since it must be given back."""
        self._last: tuple[FanReading, ...] = ()
        """The last readings of the fans."""
        self._failed_reads = 0
        """How many reads in a row have failed."""
        self._is_gone = False
        """Whether the fans must be looked for again: USB devices get another folder when they are plugged in."""
        self.is_set = False
        """Whether a fan may have a duty that gpufan has set."""

    @property
    def _fans(self) -> list[ChannelFan]:
        """The fans that were opened, in the order of their names."""
        return [self._opened[name] for name in self.names if name in self._opened]

    @property
    def channels(self) -> tuple[FanChannel, ...]:
        """The states of the channels before gpufan. Those that were never opened are missing."""
        return tuple(fan.before for fan in self._fans)

    @property
    def duty_range(self) -> tuple[int, int]:
        """The lowest and the highest duty that turn all fans, percent. The lowest is 0 while none is known to stop."""
        return max((fan.lowest_percent for fan in self._fans), default=0), FULL_PERCENT

    def open(self) -> None:
        """Open the fans that are not open. Tries every fan, then raises FansOutOfReach for the first that failed."""
        if len(self._fans) == len(self.names) and not self._is_gone:
            return
        failed = ""
        for name in self.names:
            try:
                self._opened[name] = self._open_fan(name)
            except (InputError, GpuError) as error:
                failed = failed or str(error)
            except OSError as error:
                failed = failed or f"{name}: {_error_text(error)}"
        if failed:
            raise FansOutOfReach(failed)
        self._is_gone = False

    def read(self) -> tuple[FanReading, ...]:
        """Return the state of each fan. Raises FansOutOfReach if a fan was set.

        While the chip is busy for less than `_FAILED_READS` ticks, the last state is returned.
        """
        failing = ""
        readings = []
        try:
            self.open()
            for fan in self._fans:
                failing = fan.channel.name
                readings.append(fan.read(self._owner))
            self._last, self._failed_reads = tuple(readings), 0
        except FansOutOfReach:
            if self.is_set:
                raise
        except OSError as error:
            self._failed_reads += 1
            self._is_gone = error.errno in _GONE or isinstance(error, FileNotFoundError)
            is_lasting = self._is_gone or isinstance(error, ChipHangs) or self._failed_reads >= _FAILED_READS
            if self.is_set and (is_lasting or not self._last):
                raise FansOutOfReach(f"{failing}: {_error_text(error)}") from error
        else:
            return self._last
        if self.is_set:
            return self._last
        return (FanReading(None, None, manual=False),) * len(self.names)

    def set(self, duty_percent: int, *, start: bool = True) -> None:
        """Set every fan to `duty_percent`. Tries every fan, then raises GpuError for the first that failed.

        With `start`, a fan that stands still gets full speed until it turns. Raises FansOutOfReach if a fan was not
        open, since its state before is not in the record then. The other fans run at full speed in this case.
        """
        recorded = self._fans
        try:
            self.open()
            if recorded != self._fans:
                raise FansOutOfReach("they have appeared just now")
        except FansOutOfReach:
            with suppress(GpuError):
                self._set(recorded, FULL_PERCENT, start)
            raise
        self._set(self._fans, duty_percent, start)

    def _set(self, fans: Sequence[ChannelFan], duty_percent: int, start: bool) -> None:
        """Set each of `fans` to `duty_percent`. Raises the errors of `_each`. `start` is that of `set`."""
        self.is_set = self.is_set or bool(fans)
        _each(fans, lambda fan: fan.set(self._owner, duty_percent, start=start))

    def release(self) -> None:
        """Put every channel back as it was before gpufan, and raise GpuError for the first that failed.

        Nothing happens if no fan was set.
        """
        if self.is_set:
            _each(self._fans, lambda fan: fan.release(self._owner))
            self.is_set = False


def _each(fans: Sequence[ChannelFan], call: Callable[[ChannelFan], None]) -> None:
    """Call `call` with each of `fans`. Then raise GpuError if a call has failed.

    Fans of different chips are called at the same time, since a chip may hang. Raises NoPermission if only root may
    make the call.
    """
    by_chip: dict[Path, list[ChannelFan]] = {}
    for fan in fans:
        by_chip.setdefault(fan.channel.home, []).append(fan)
    calls = [partial(_each_of_chip, of_chip, call) for of_chip in by_chip.values()]
    failed = [calls[0]()] if len(calls) == 1 else call_all(_CHIPS_TIMEOUT_S, calls)
    for result in failed:
        if isinstance(result, Exception):
            raise result
        if result:
            raise GpuError(result)


def _each_of_chip(fans: Sequence[ChannelFan], call: Callable[[ChannelFan], None]) -> str:
    """Call `call` with each of `fans`. Returns the error of the first call that has failed; empty without one.

    Raises NoPermission at once if only root may make the call.
    """
    failed = ""
    for fan in fans:
        try:
            call(fan)
        except OSError as error:
            if error.errno == errno.EACCES and os.geteuid() != 0:
                raise NoPermission("only root can set fans of the motherboard: run this with sudo") from error
            failed = failed or f"{fan.channel.name}: {_error_text(error)}"
        except GpuError as error:
            failed = failed or str(error)
    return failed


def _error_text(error: OSError) -> str:
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
