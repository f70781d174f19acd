"""Judges the fans that are read back: whether they have the duty that was set, and whether they turn.

Only reading back proves success. A measured value (speed, rpm) counts more than one that the driver only repeats.
"""

from dataclasses import dataclass

from gpufan.core.gpu import FanReading, Gpu, Reading
from gpufan.core.reasons import Cause, Reason
from gpufan.errors import GpuError, GpuLost

TARGET_TOLERANCE = 2
"""A target that is read back may differ from the duty set by this number of points, since drivers round."""

SPEED_TOLERANCE = 10
"""The speed of a fan may differ from its target by this number of points."""

REST_S = 10.0
"""A fan is at rest if it comes no nearer to its target for this long, s. The slowest known ramp is 3 points/s."""

STILL_SHARE = 0.1
"""A fan stands still if its rpm is less than this share of the rpm that its speed in percent gave before."""

STILL_DUTY_PERCENT = 20
"""Below this duty some fans stop by design."""


def release_and_read_back(gpu: Gpu) -> None:
    """Give the fans of `gpu` back to the driver, and read them back. If they are not released, try once more.

    Raises GpuError, GpuLost or NoPermission.
    """
    try:
        gpu.release()
        if _first_manual_fan_read_back(gpu.read()) is None:
            return
    except GpuLost:
        raise
    except GpuError:
        pass  # the second try decides
    gpu.release()
    if (fan := _first_manual_fan_read_back(gpu.read())) is not None:
        raise GpuError(f"fan {fan} is still in manual mode after it was given back")


def _first_manual_fan_read_back(reading: Reading) -> int | None:
    """Return the number of the first fan in manual mode; None if there is none."""
    return next((number for number, fan in enumerate(reading.fans) if fan.manual), None)


@dataclass
class _Fan:
    """The known properties and the last state of one fan. Duties and speeds are in percent."""

    confirmed: bool = False
    """Whether a reading after the last write has shown the fan as it was set."""
    unconfirmed_target: int | None = None
    """The target that was read back after the last write, if another target was set."""
    floor: int | None = None
    """The lowest target that the driver accepts for this fan; None while it is unknown."""
    reports_target: bool = False
    """Whether a target was ever read. The oldest drivers report neither target nor mode."""
    driver_speed: int | None = None
    """The last speed of the fan while the driver controlled it; None if it is unknown."""
    top_speed: int = 0
    """The highest speed to which the fan has risen since the driver last controlled it."""
    speed: int | None = None
    changed_s: float = 0.0
    """When the speed last changed, or the fan was last set."""
    settled: bool = False
    """Whether the fan has the duty that was set, or has not moved for `REST_S`."""
    progress_s: float = 0.0
    """When the fan was last near its target, or came nearer to it."""
    obeyed: bool = False
    """Whether the speed of the fan has ever followed a write."""
    rpm_per_percent: float = 0.0
    """The highest ratio of the rpm to the speed in percent that was ever read."""
    turned_s: float = 0.0
    """When the fan was last seen turning, or was set above `STILL_DUTY_PERCENT`."""

    def note_driver_speed(self, read: FanReading) -> None:
        """Record the speed in `read`, a reading of the fan while it is not known to be in manual mode.

        A fan that was given back a moment ago may still be faster than its target. Then its target counts. If target or
        mode cannot be read this time, the speed under control of the driver is unknown.
        """
        self.driver_speed, self.top_speed = read.speed_percent, 0
        if self.reports_target and (read.target_percent is None or read.manual is None):
            self.driver_speed = None
        elif read.speed_percent is not None and read.target_percent is not None:
            self.driver_speed = min(read.speed_percent, read.target_percent)


class ReadBack:
    """Remembers the duty that was set on one card, and judges its fans."""

    def __init__(self) -> None:
        self._known = False
        self._duty_percent: int | None = None
        self._fans: list[_Fan] = []
        self.rival: Reason | None = None
        """How another program has changed a fan that an earlier reading had shown as it was set; else None."""
        self.disobeyed: Reason | None = None
        """How a fan differs from the duty set, if no reading since the write has shown the fan as it was set."""
        self.slow: Reason | None = None
        """The fault that a fan is at rest below its target; None without this fault."""
        self.still: Reason | None = None
        """The fault that a fan stands still although it was set to turn; None without this fault."""
        self.remark: Reason | None = None
        """How a fan follows a limit of the driver instead of the duty set. This is not a fault."""
        self.at_rest = False
        """Whether all fans are at their targets without a fault, so that they need not be read at every tick."""

    def forget(self) -> None:
        """Forget the duty that was set, since it may not be in effect any more."""
        self._known = self.at_rest = False
        self.rival = self.disobeyed = self.slow = self.still = self.remark = None

    def differs(self, duty_percent: int | None) -> bool:
        """Whether `duty_percent` differs from the duty that was set last. None stands for the control of the driver."""
        return not self._known or duty_percent != self._duty_percent

    @property
    def fault(self) -> Reason | None:
        """The most serious fault of a fan; None without a fault."""
        return self.still or self.disobeyed or self.rival or self.slow

    @property
    def proven(self) -> bool:
        """Whether a fan of the card has ever followed a write."""
        return any(fan.obeyed for fan in self._fans)

    @property
    def driver_is_faster(self) -> bool:
        """Whether a fan was clearly faster under control of the driver than it has ever been since.

        A fan that was once as fast under gpufan, and is slower now, has reached a limit. The driver cannot exceed this
        limit either.
        """
        return any(
            fan.driver_speed is not None and fan.driver_speed > max(fan.top_speed, fan.speed or 0) + SPEED_TOLERANCE
            for fan in self._fans
        )

    def wrote(self, now_s: float, duty_percent: int | None) -> None:
        """Remember that `duty_percent` was set at `now_s`. None means that the fans were given back."""
        was_set = self._known and self._duty_percent is not None
        was_turning = was_set and (self._duty_percent or 0) >= STILL_DUTY_PERCENT
        self._known, self.at_rest = True, False
        self._duty_percent = duty_percent
        for fan in self._fans:
            fan.confirmed = fan.settled = False
            fan.changed_s = now_s
            # A write does not restart the wait: a duty that changes all the time would hide a slow fan.
            if not was_set:
                fan.progress_s = now_s
            if not was_turning:
                fan.turned_s = now_s

    def check(self, now_s: float, reading: Reading) -> Reason | None:
        """Judge the fans in a reading made at `now_s`. Returns the most serious fault; None without a fault."""
        while len(self._fans) < len(reading.fans):
            self._fans.append(_Fan(progress_s=now_s, turned_s=now_s))
        self.rival = self.disobeyed = self.slow = self.still = self.remark = None
        for number, (fan, read) in enumerate(zip(self._fans, reading.fans, strict=False)):
            if read.target_percent is not None and not fan.reports_target:
                fan.reports_target, fan.driver_speed = True, None
            if self._known:
                self._judge_settings(number, fan, read)
            if self._known and self._duty_percent is not None:
                self._judge_speed(now_s, number, fan, read, self._duty_percent)
            elif not read.manual:
                fan.note_driver_speed(read)
            if fan.speed != read.speed_percent:
                fan.changed_s = now_s
            fan.speed = read.speed_percent
            fan.settled = now_s - fan.changed_s >= REST_S or self._has_duty(fan)
        fault = self.fault
        self.at_rest = self._known and fault is None and all(fan.confirmed and fan.settled for fan in self._fans)
        return fault

    def _judge_settings(self, number: int, fan: _Fan, read: FanReading) -> None:
        """Compare the manual mode and the target in `read` with the duty that was set. `number` is the fan's number.

        If an earlier reading has shown the fan as it was set, another program has made the difference.
        """
        duty, target = self._duty_percent, read.target_percent
        fault = None
        if duty is None:
            if read.manual:
                fault = Reason(Cause.FAN_TAKEN, fan=number)
        elif read.manual is False:
            fault = Reason(Cause.FAN_RELEASED, fan=number)
        elif target is not None and abs(target - duty) > TARGET_TOLERANCE:
            if target == fan.floor and target > duty:
                self.remark = self.remark or Reason(Cause.FAN_FLOOR, fan=number, limit_percent=target)
            elif not fan.confirmed and target > duty and target == fan.unconfirmed_target:
                # The same higher target twice after a write: it is the lowest that the driver accepts.
                fan.floor = target
                self.remark = self.remark or Reason(Cause.FAN_FLOOR, fan=number, limit_percent=target)
            else:
                fault = Reason(Cause.OTHER_TARGET, fan=number, found_percent=target, set_percent=duty)
        if target is not None and fan.floor is not None and target < fan.floor:
            fan.floor = None  # it was no limit: the driver was only late
        if fault is None:
            fan.confirmed = True
        elif fan.confirmed:
            self.rival = self.rival or fault
        else:
            fan.unconfirmed_target = target
            self.disobeyed = self.disobeyed or fault

    def _judge_speed(self, now_s: float, number: int, fan: _Fan, read: FanReading, duty: int) -> None:
        """Judge by the measured speed in `read` whether the fan moves to its target, is at rest, or stands still.

        `number` is the number of the fan. `duty` is the duty that was set, percent.
        """
        speed, before = read.speed_percent, fan.speed
        if speed is not None and before is not None and speed > before:
            fan.top_speed = max(fan.top_speed, speed)
        if speed is not None and before is not None and abs(speed - duty) < abs(before - duty):
            fan.progress_s = now_s
            fan.obeyed = True
        elif speed is not None and abs(speed - duty) <= SPEED_TOLERANCE:
            fan.progress_s = now_s
        self._judge_rotation(now_s, number, fan, read, duty)
        if speed is None or now_s - fan.progress_s < REST_S:
            return
        if speed < duty - SPEED_TOLERANCE:
            self.slow = self.slow or Reason(Cause.FAN_SLOW, fan=number, found_percent=speed, set_percent=duty)
        elif speed > max(duty, fan.floor or 0) + SPEED_TOLERANCE:
            self.remark = self.remark or Reason(Cause.FAN_FAST, fan=number, found_percent=speed)

    def _judge_rotation(self, now_s: float, number: int, fan: _Fan, read: FanReading, duty: int) -> None:
        """Judge by the rpm in `read` whether the fan stands still. `number` is the number of the fan.

        The speed in percent does not show this, since it follows `duty`, the duty that was set in percent.
        """
        rpm, speed = read.speed_rpm, read.speed_percent
        if rpm is None or not speed:
            fan.turned_s = now_s
            return
        fan.rpm_per_percent = max(fan.rpm_per_percent, rpm / speed)
        if rpm > STILL_SHARE * fan.rpm_per_percent * speed or min(duty, speed) < STILL_DUTY_PERCENT:
            fan.turned_s = now_s
        elif now_s - fan.turned_s >= REST_S:
            self.still = self.still or Reason(Cause.FAN_STILL, fan=number, found_percent=speed, seconds=REST_S)

    def _has_duty(self, fan: _Fan) -> bool:
        """Whether the speed of the fan is the duty that was set, within 1 point, or is unknown."""
        return fan.speed is None or (self._duty_percent is not None and abs(fan.speed - self._duty_percent) <= 1)
