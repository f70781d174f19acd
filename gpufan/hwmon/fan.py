"""One channel as a fan: read it, set it, start it from standstill, and put it back as it was before gpufan.

Sources: Documentation/hwmon/sysfs-interface.rst and the pages of the drivers beside it. The README of this room has the
facts about single chips.
"""

import errno
import threading
from collections.abc import Hashable
from contextlib import suppress
from typing import Protocol

from gpufan.core.gpu import FanChannel, FanReading
from gpufan.errors import GpuError
from gpufan.hwmon.channels import Channel
from gpufan.hwmon.chip_files import ChipHangs

FULL_RAW = 255
"""The highest value of `pwmN`. It stands for 100 %."""

MANUAL = 1
"""The mode in which `pwmN` is the duty. Higher modes are automatic. In mode 0 the fan runs at full speed."""

_FULL_SPEED_MODE = 0
"""The mode in which the fan runs at full speed, whatever `pwmN` is."""

_CHIPS_THAT_MODE_0_STOPS = ("pwmfan",)
"""Names of chips whose mode 0 switches the output off, so that the fan may stop."""

_HIGHEST_RPM = 30_000
"""A tachometer that shows more than this is wrong, rpm. The fastest fans of servers reach 25,000 rpm."""

_SAME_RAW = 2
"""Two values of `pwmN` that differ by at most this are the same duty."""

_ROUNDED_RAW = 5
"""A duty that is read back may be lower by this much than the duty that was written; that is 2 points."""

_ROUNDED_UP_RAW = 128
"""A chip with few levels may round a duty up by this much."""

_STEP_RAW = 16
"""The step in which higher values are tried if a chip has rounded a duty down."""

_FULL_BY_MODE_RAW = 250
"""From this duty on, mode 0 counts as manual: nct6775 shows a manual duty of 255 as mode 0."""

_STILL_READINGS = 2
"""A fan has stopped if this many readings in a row, each at another tick, are 0 rpm. Tachometers fail now and then."""

_STALL_STEP_PERCENT = 5
"""If a fan stops at a duty, the lowest duty rises to this many points above that duty."""

HIGHEST_FLOOR_PERCENT = 60
"""The lowest duty rises no further than this, percent. A fan that stops at this duty is broken."""


class Chip(Protocol):
    """The files of the chip that a channel belongs to."""

    def has(self, file: str) -> bool:
        """Whether the chip has the file `file`. Raises OSError if the chip is not there."""

    def read(self, file: str) -> int:
        """Return the number in `file`. Raises OSError."""

    def write(self, file: str, number: int) -> None:
        """Write `number` into `file`. Raises OSError."""


class ChannelFan:
    """The fan on one channel. It may have several owners: cards and a case fan. The highest duty of them counts.

    Every method may raise OSError, which means that the chip cannot be read or written. Any thread may call them: the
    owners of a fan may give it back at the same time.
    """

    def __init__(self, channel: Channel, chip: Chip, before: FanChannel | None = None) -> None:
        """`before` is the state of the channel before gpufan, from the record of a killed run. If None, it is read.

        Raises GpuError if the state cannot be read, so that it could not be restored.
        """
        self._lock = threading.Lock()
        self.channel = channel
        self._chip = chip
        self._pwm, self._mode = f"pwm{channel.number}", f"pwm{channel.number}_enable"
        self._has_mode = chip.has(self._mode)
        self.before = before or self._read_state()
        self.lowest_percent = 0
        """The lowest duty that turns the fan, as far as this run has found out, percent."""
        self._is_changed = before is not None
        """Whether the channel may be in another state than before gpufan."""
        self._duties: dict[Hashable, int] = {}
        """The duty that each owner has set, percent. Empty if gpufan does not set the fan."""
        self._accepted_raw = 0
        """The value of `pwmN` that stands for the duty. The chip may have rounded it."""
        self._is_starting = False
        """Whether the fan has full speed until it turns."""
        self._turns = False
        """Whether the fan was seen turning since it was last started."""
        self._still_readings = 0
        """How many readings in a row were 0 rpm while the fan should turn."""
        self._is_just_set = False
        """Whether the fan was not read since it was last set."""
        self._mode_is_proven = False
        """Whether the chip was seen to accept the mode that it had before gpufan."""

    def set(self, owner: Hashable, duty_percent: int, *, start: bool = True) -> None:
        """Set the fan to `duty_percent`, or to the duty of another owner if that is higher.

        With `start`, a fan that stands still gets full speed until it turns. A call without an error does not prove
        that the chip obeys. Only `read` proves it.
        """
        with self._lock:
            self._set(owner, duty_percent, start)

    def _set(self, owner: Hashable, duty_percent: int, start: bool) -> None:
        """Do the work of `set`."""
        before_percent = self._duty_percent
        self._prove_mode()
        self._duties[owner] = duty_percent
        self._is_just_set = True
        again = before_percent == self._duty_percent
        raw = raw_of_percent(max(self._duties.values()))
        if not start or not raw or self.read_rpm() != 0:
            self._is_starting = False
        elif not self._turns:
            self._is_starting = True
        if self._is_starting:
            raw, again = FULL_RAW, False
        try:
            self._write(raw, again)
        except OSError:
            if raw == FULL_RAW:
                self._run_at_full_speed_if_possible()
            raise

    def read(self, owner: Hashable) -> FanReading:
        """Return the state of the fan. `manual` is False while `owner` does not set it.

        The target is the duty of the owner if the chip has the duty that was set, else the duty of the chip.
        """
        with self._lock:
            return self._read(owner)

    def _read(self, owner: Hashable) -> FanReading:
        """Do the work of `read`."""
        found_raw, rpm = self._read_duty(), self.read_rpm()
        is_just_set, self._is_just_set = self._is_just_set, False
        if not self._duties:
            return FanReading(percent_of_raw(found_raw), None, manual=False, speed_rpm=rpm)
        is_manual = self._is_manual(found_raw)
        if is_manual and rpm is not None and abs(found_raw - self._accepted_raw) <= _SAME_RAW:
            self._still_readings = 0 if rpm else self._still_readings + (not is_just_set)
            found_raw = self._watch_rotation(rpm, found_raw)
        target: int | None = percent_of_raw(found_raw)
        if abs(found_raw - self._accepted_raw) <= _SAME_RAW:
            target = self._duties.get(owner)
        is_owned = owner in self._duties
        return FanReading(percent_of_raw(found_raw), target, manual=is_owned and is_manual, speed_rpm=rpm)

    def read_rpm(self) -> int | None:
        """Return the rpm; None if it is unknown: without a tachometer, or if its value cannot be read or is absurd."""
        if self.channel.tachometer is None:
            return None
        try:
            rpm = self._chip.read(f"fan{self.channel.tachometer}_input")
        except OSError:
            return None
        return rpm if 0 <= rpm <= _HIGHEST_RPM else None

    def release(self, owner: Hashable) -> None:
        """End the duty of `owner`. After the last owner, put the channel back as it was before gpufan, and verify that.

        Raises GpuError if the chip does not accept that. Nothing happens if the channel was never changed.
        """
        with self._lock:
            self._release(owner)

    def _release(self, owner: Hashable) -> None:
        """Do the work of `release`."""
        self._duties.pop(owner, None)
        if self._duties:
            self._write(raw_of_percent(max(self._duties.values())), again=False)
            return
        if not self._is_changed:
            return
        self._is_starting = self._turns = False
        before = self.before
        if before.mode_before is None or before.mode_before == MANUAL:
            self._write(before.pwm_before, again=True)
        else:
            # Some chips do not resume their automatic mode, and keep the last duty. In that mode it cannot be written.
            with suppress(OSError):
                self._chip.write(self._pwm, before.pwm_before)
            self._chip.write(self._mode, before.mode_before)
        now = self._read_state()
        is_same_duty = abs(now.pwm_before - before.pwm_before) <= _SAME_RAW
        is_both_manual = {now.mode_before, before.mode_before} <= {0, MANUAL}
        if now.mode_before != before.mode_before and not (is_both_manual and is_same_duty):
            raise GpuError(f"{self.channel.name} is in mode {now.mode_before} instead of {before.mode_before}")
        if before.mode_before in (None, MANUAL) and not is_same_duty:
            raise GpuError(f"{self.channel.name} has the duty {now.pwm_before} instead of {before.pwm_before} of 255")
        self._is_changed = False

    @property
    def _duty_percent(self) -> int | None:
        """The highest duty of all owners, percent; None if gpufan does not set the fan."""
        return max(self._duties.values(), default=None)

    def _watch_rotation(self, rpm: int, found_raw: int) -> int:
        """Slow a fan down that has started, and start a fan that has stopped. Return the value of `pwmN` after that."""
        raw = raw_of_percent(max(self._duties.values()))
        if rpm:
            self._turns = True
            if self._is_starting:
                self._is_starting = False
                self._write(raw, again=False)
                return self._read_duty()
        elif self._turns and raw:
            if self._still_readings < _STILL_READINGS:
                return found_raw
            self._turns, self._is_starting = False, True
            floor = max(percent_of_raw(found_raw), self.lowest_percent) + _STALL_STEP_PERCENT
            self.lowest_percent = min(floor, HIGHEST_FLOOR_PERCENT)
            self._write(FULL_RAW, again=False)
            return self._read_duty()
        elif not raw:
            self._turns = False
        return found_raw

    def _write(self, raw: int, again: bool) -> None:
        """Write `raw` as the duty. `again` says that the same duty was written before, and was not found when read."""
        self._is_changed = True
        self._set_manual()
        self._chip.write(self._pwm, raw)
        found = self._chip.read(self._pwm)
        if again and found < raw - _ROUNDED_RAW:
            for higher in range(raw + _STEP_RAW, FULL_RAW + _STEP_RAW, _STEP_RAW):
                self._chip.write(self._pwm, min(higher, FULL_RAW))
                found = self._chip.read(self._pwm)
                if found >= raw - _ROUNDED_RAW:
                    break
            else:
                self._chip.write(self._pwm, raw)
                found = self._chip.read(self._pwm)
        is_rounded = raw - _ROUNDED_RAW <= found <= raw + _ROUNDED_UP_RAW
        self._accepted_raw = found if is_rounded else raw

    def _run_at_full_speed_if_possible(self) -> None:
        """Write the duty of full speed, although the mode may be unknown, and switch to the mode of full speed.

        If the chip refuses both, switch to the mode before gpufan. Otherwise the fan would keep the duty that it has,
        which may be too low.
        """
        modes = [] if self.channel.chip in _CHIPS_THAT_MODE_0_STOPS else [_FULL_SPEED_MODE]
        try:
            self._chip.write(self._pwm, FULL_RAW)
        except OSError:
            if self.before.mode_before is not None:
                modes.append(self.before.mode_before)
        for mode in modes if self._has_mode else ():
            with suppress(OSError):
                self._chip.write(self._mode, mode)
                break

    def _prove_mode(self) -> None:
        """Before the mode is changed for the first time, write the mode that the chip has.

        nct6775 and it87 refuse to return to their automatic mode if the BIOS has made a mistake in its curve. Raises
        GpuError in this case, so that the channel is never set.
        """
        if self._mode_is_proven or not self._has_mode:
            return
        mode = self._chip.read(self._mode)
        if mode not in (MANUAL, self.before.mode_before):  # an earlier run was killed, or another program has set it
            return
        if mode != MANUAL:
            try:
                self._chip.write(self._mode, mode)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                text = f"{self.channel.name}: the chip refuses its own mode {mode}, so it could not be given back"
                raise GpuError(text) from error
        self._mode_is_proven = True

    def _set_manual(self) -> None:
        """Switch the channel to manual mode, unless it is in manual mode already."""
        if self._has_mode and self._chip.read(self._mode) != MANUAL:
            self._chip.write(self._mode, MANUAL)

    def _is_manual(self, found_raw: int) -> bool:
        """Whether the channel is in manual mode. `found_raw` is its duty."""
        if not self._has_mode:
            return True
        mode = self._chip.read(self._mode)
        return mode == MANUAL or (mode == 0 and found_raw >= _FULL_BY_MODE_RAW)

    def _read_duty(self) -> int:
        """Return the number in `pwmN`. Raises OSError, also if it is no duty."""
        raw = self._chip.read(self._pwm)
        if not 0 <= raw <= FULL_RAW:
            raise OSError(f"{self._pwm} has the value {raw}, which is no duty")
        return raw

    def _read_state(self) -> FanChannel:
        """Return the mode and the duty that the channel has now. Raises GpuError if they cannot be read."""
        channel, what = self.channel, "duty"
        try:
            pwm = self._read_duty()
            what = "mode"
            mode = self._chip.read(self._mode) if self._has_mode else None
        except (FileNotFoundError, ChipHangs):
            raise
        except OSError as error:
            text = f"{channel.name}: its {what} cannot be read, so it could not be given back: {error}"
            raise GpuError(text) from error
        return FanChannel(channel.name, channel.chip, str(channel.home), channel.number, mode, pwm)


def raw_of_percent(percent: int) -> int:
    """Convert a duty to a value of `pwmN`, rounded up.

    >>> raw_of_percent(0), raw_of_percent(50), raw_of_percent(100)
    (0, 128, 255)
    """
    return -(-percent * FULL_RAW // 100)


def percent_of_raw(raw: int) -> int:
    """Convert a value of `pwmN` to a duty in percent.

    >>> percent_of_raw(0), percent_of_raw(128), percent_of_raw(255), percent_of_raw(raw_of_percent(33))
    (0, 50, 100, 33)
    """
    return round(raw * 100 / FULL_RAW)
