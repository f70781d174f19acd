"""Tries fans on headers of the motherboard: which tachometer follows which channel, and at which duty a fan turns.

Each channel is in the record before it is set, and a guardian puts it back if this process is killed.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gpufan.daemon.guardian import guardian
from gpufan.daemon.taken import Taken
from gpufan.errors import FansOutOfReach, GpuError, GpufanError, NoPermission, NotGivenBack
from gpufan.gpu.case_fan import CaseFan
from gpufan.gpu.header import Headers
from gpufan.hwmon.channels import NO_CHANNELS, NO_TACHOMETER, Channel, find_channels, resolve_channel
from gpufan.hwmon.sysfs import SysfsChip
from gpufan.system import signals
from gpufan.system.lock import controller_lock
from gpufan.system.paths import TAKEN

Say = Callable[[str], None]

FULL_PERCENT, LOWER_PERCENT = 100, 60
"""`identify` runs a fan at full speed, or at the second duty if it is near full speed already, percent."""

NEAR_FULL_PERCENT = 85

FOLLOWED_SHARE = 0.15
"""A tachometer has followed if its rpm have changed by more than this share."""

SETTLE_S, POLL_S = 8.0, 0.5
"""A fan gets this time to reach its speed, s. Its rpm are read at this interval."""

LEAST_READINGS = 5
"""After a change of the duty, the rpm are read at least one time more than this.

A chip measures for up to two seconds.
"""

STEP_PERCENT = 5
"""`calibrate` changes the duty in steps of this size."""

SAFETY_PERCENT = 10
"""The lowest duty should be this much above the duty at which a fan stops, percent."""

BEGIN_PERCENT = 60
"""`calibrate` begins at this duty, percent."""


def identify_channels(runtime_folder: Path, say: Say, sleep: Callable[[float], None] = time.sleep) -> None:
    """Move the fan on each channel for some seconds, one after the other, and give it back. `say` gets a line for each.

    Tries every channel. Then raises NotGivenBack if a fan could not be given back, GpufanError if a channel could not
    be tried. Raises NoPermission if the user is not root, GpufanError if another gpufan runs or there is no channel.
    """
    channels = find_channels()
    if not channels:
        raise GpufanError(NO_CHANNELS)
    not_tried, not_given_back = 0, []
    with _guarded_trial(runtime_folder) as taken:
        for channel in channels:
            try:
                line = _identify_channel(channel, taken, sleep)
            except NotGivenBack as error:  # the other fans are moved all the same
                line = str(error)
                not_given_back.append(line)
            except GpufanError as error:
                line = _error_without_name(error, channel.name)
                not_tried += 1
            say(f"{channel}: {line}")
        if not_given_back:
            raise NotGivenBack("; ".join(not_given_back))
    if not_tried:
        raise GpufanError(f"{not_tried} of {len(channels)} fans could not be tried: the lines above say why")


def calibrate_channel(
    name: str, runtime_folder: Path, say: Say, sleep: Callable[[float], None] = time.sleep
) -> tuple[int, int]:
    """Find the duty at which the fan `name` stops, and the one at which it starts, percent. Then give the fan back.

    Returns 0, 0 if the fan never stops. `say` gets a line for each step. Raises NoPermission, InputError, GpuError if
    the fan cannot be calibrated, or NotGivenBack.
    """
    channel = resolve_channel(name, find_channels())
    if channel.tachometer is None:
        raise GpuError(f"{channel.name} has no tachometer, so it is unknown whether its fan turns")
    with _guarded_trial(runtime_folder) as taken, _set_fan(channel.name, taken) as fan:
        trial = _Trial(fan, channel, [channel.tachometer], sleep)
        if not trial.rpm_at(BEGIN_PERCENT)[0]:
            raise GpuError(f"{channel.name} does not turn at {BEGIN_PERCENT} %: is a fan connected?")
        stop_percent = 0
        for percent in range(BEGIN_PERCENT - STEP_PERCENT, -1, -STEP_PERCENT):
            rpm = trial.rpm_at(percent)[0]
            say(f"{percent} %: {rpm} rpm")
            if not rpm:
                stop_percent = percent
                break
        else:
            return 0, 0
        for percent in range(stop_percent, FULL_PERCENT + 1, STEP_PERCENT):
            rpm = trial.rpm_at(percent)[0]
            say(f"{percent} %: {rpm} rpm")
            if rpm:
                return stop_percent, percent
        raise GpuError(f"{channel.name} does not start again, even at full speed: free it, or replace it")


def _identify_channel(channel: Channel, taken: Taken, sleep: Callable[[float], None]) -> str:
    """Move the fan on `channel`. Return a sentence that says which tachometers of its chip have followed.

    Raises GpufanError if the fan cannot be set or read, NotGivenBack if it cannot be given back.
    """
    with _set_fan(channel.name, taken) as fan:
        reading = fan.read().fans[0]
        percent = FULL_PERCENT if (reading.speed_percent or 0) < NEAR_FULL_PERCENT else LOWER_PERCENT
        trial = _Trial(fan, channel, channel.tachometers, sleep)
        before = trial.settled_rpm()  # the fan that was moved before this one may still slow down
        after = trial.rpm_at(percent)
    changes = {
        number: new - old
        for number, old, new in zip(channel.tachometers, before, after, strict=True)
        if old is not None and new is not None and abs(new - old) > FOLLOWED_SHARE * max(old, new)
    }
    followed = {
        number: f"fan{number} went from {before[place]} to {after[place]} rpm"
        for place, number in enumerate(channel.tachometers)
        if number in changes
    }
    is_raised = percent == FULL_PERCENT
    if changes and all((change > 0) != is_raised for change in changes.values()):
        remedy = "correct that in the BIOS or with an option of its driver, and do not use this fan before"
        return f"at {percent} % {' and '.join(followed.values())}: a higher duty makes it slower: {remedy}"
    if not followed:
        without = f"; a fan without a tachometer is {channel.name}/{NO_TACHOMETER}"
        return f"at {percent} % no tachometer followed: perhaps no fan is connected{without}"
    name = "" if channel.tachometer in followed else f": name it {channel.name}/fan{next(iter(followed))}"
    return f"at {percent} % {' and '.join(followed.values())}{name}"


def _error_without_name(error: GpufanError, name: str) -> str:
    """Return the message of `error` for a line that begins with `name`, the name of the channel."""
    text = error.x_error if isinstance(error, FansOutOfReach) else str(error)
    return text.removeprefix(f"{name}: ")


class _Trial:
    """A fan that is being moved, and the tachometers that are watched."""

    def __init__(
        self, fan: CaseFan, channel: Channel, tachometers: Sequence[int], sleep: Callable[[float], None]
    ) -> None:
        """`tachometers` are the numbers of the tachometers to watch, on the chip of `channel`."""
        self._fan = fan
        self._chip = SysfsChip(channel)
        self._watched = [f"fan{number}_input" for number in tachometers]
        self._sleep = sleep

    def rpm(self) -> list[int | None]:
        """Return the rpm of each watched tachometer; None if it cannot be read."""
        found: list[int | None] = []
        for file in self._watched:
            try:
                found.append(self._chip.read(file))
            except OSError:
                found.append(None)
        return found

    def rpm_at(self, percent: int) -> list[int | None]:
        """Set the fan to `percent`, wait until the rpm settle, and return them. Raises GpufanError."""
        self._fan.set_exactly(percent)
        return self.settled_rpm()

    def settled_rpm(self) -> list[int | None]:
        """Wait until the rpm settle, and return them."""
        readings = [self.rpm()]
        for _ in range(round(SETTLE_S / POLL_S)):
            self._sleep(POLL_S)
            readings.append(self.rpm())
            if len(readings) > LEAST_READINGS and all(map(_is_settled, *readings[-2:])):
                break
        return readings[-1]


def _is_settled(old: int | None, new: int | None) -> bool:
    """Whether two readings of a tachometer differ by less than 3 %."""
    return old is None or new is None or abs(new - old) <= 0.03 * max(old, new)


@contextmanager
def _guarded_trial(runtime_folder: Path) -> Iterator[Taken]:
    """Hold the lock of the controller and run a guardian during the block. Raises NoPermission or GpufanError."""
    if os.geteuid() != 0:
        raise NoPermission("only root can move fans: run this with sudo")
    signals.exit_at_signals()  # so that the fan is put back
    record = (runtime_folder / TAKEN).absolute()
    with controller_lock(runtime_folder), guardian(record), Taken(record, None) as taken:
        yield taken


@contextmanager
def _set_fan(name: str, taken: Taken) -> Iterator[CaseFan]:
    """Let the block set the fan `name`. After it, the fan is put back.

    Raises GpufanError. If the fan cannot be put back, raises NotGivenBack, and the fan stays in the record.
    """
    fan = CaseFan(name, 0, Headers(taken.channels_left_over()).open_fan, lambda: None)
    fan.open()
    taken.add(fan.info)
    try:
        yield fan
    finally:
        with signals.deferred():
            try:
                fan.release()
            except GpuError as error:
                raise NotGivenBack(f"not given back: {error}: run `sudo gpufan restore`") from error
            taken.remove(fan.info.uuid)
