"""Judges the fans as they are read back: whether they have what was set, and whether they turn.

Success is what was read back, not what was sent; and what is measured (speed, rpm) counts more than an echo.
"""

from dataclasses import dataclass

from gpufan.core.gpu import FanReading, Gpu, Reading
from gpufan.core.reasons import Cause, Reason
from gpufan.errors import GpuError, GpuLost

TARGET_TOLERANCE = 2
"""Points by which a target read back may differ from the one set, since drivers round."""

SPEED_TOLERANCE = 10
"""Points by which the speed of a fan may differ from its target."""

REST_S = 10.0
"""A fan that has come no nearer to its target for this long is at rest, s. The slowest known ramp is 3 points/s."""

STILL_SHARE = 0.1
"""A fan with less than this share of the rpm that its duty gave before stands still."""

STILL_DUTY_PERCENT = 20
"""Below this duty some fans stop by design."""


def release_verified(gpu: Gpu) -> None:
    """Give the fans of `gpu` back to the driver, and read them back; try twice.

    Raises GpuError, GpuLost or NoPermission.
    """
    try:
        gpu.release()
        if _first_manual(gpu.read()) is None:
            return
    except GpuLost:
        raise
    except GpuError:
        pass  # the second try decides
    gpu.release()
    if (fan := _first_manual(gpu.read())) is not None:
        raise GpuError(f"fan {fan} is still in manual mode after it was given back")


def _first_manual(reading: Reading) -> int | None:
    return next((number for number, fan in enumerate(reading.fans) if fan.manual), None)


@dataclass
class _Fan:
    """What is known of one fan. Duties and speeds in percent."""

    confirmed: bool = False
    """Whether it was read back as set since the last write."""
    unconfirmed_target: int | None = None
    """The other target that was read back after the last write."""
    floor: int | None = None
    """The lowest target that the driver accepts for this fan, learnt; None if none is known."""
    driver_speed: int | None = None
    """Speed when the driver had the fan last."""
    speed: int | None = None
    progress_s: float = 0.0
    """When the fan was last near its target, or came nearer to it."""
    obeyed: bool = False
    """Whether its speed has ever followed a write."""
    rpm_per_percent: float = 0.0
    """The highest ever seen."""
    turned_s: float = 0.0
    """When the fan was last seen turning, or was set above `STILL_DUTY_PERCENT`."""


class ReadBack:
    """Remembers what was set on one card, and judges its fans."""

    def __init__(self) -> None:
        self._known = False
        self._duty_percent: int | None = None
        self._fans: list[_Fan] = []
        self.rival: Reason | None = None
        """How another program changed a fan since it was read back as set."""
        self.disobeyed: Reason | None = None
        """How a fan ignores what was set."""
        self.slow: Reason | None = None
        """A fan at rest below its target: it does its best."""
        self.still: Reason | None = None
        """A fan that stands still although it was set to turn."""
        self.remark: Reason | None = None
        """A limit of the driver that is no fault."""

    def forget(self) -> None:
        """What was set is not known any more."""
        self._known = False
        self.rival = self.disobeyed = self.slow = self.still = self.remark = None

    def differs(self, duty_percent: int | None) -> bool:
        """Whether `duty_percent`, None for the driver, is other than what was set."""
        return not self._known or duty_percent != self._duty_percent

    @property
    def fault(self) -> Reason | None:
        """The most serious fault of a fan."""
        return self.still or self.disobeyed or self.rival or self.slow

    @property
    def proven(self) -> bool:
        """Whether a fan of the card has ever followed a write."""
        return any(fan.obeyed for fan in self._fans)

    @property
    def driver_is_faster(self) -> bool:
        """Whether a fan was clearly faster when the driver had it."""
        return any(
            fan.driver_speed is not None and fan.speed is not None and fan.driver_speed > fan.speed + SPEED_TOLERANCE
            for fan in self._fans
        )

    @property
    def at_rest(self) -> bool:
        """Whether every fan is at its target, and nothing is odd: then it need not be read at every tick."""
        return self._known and self.fault is None and all(fan.confirmed and self._reached(fan) for fan in self._fans)

    def wrote(self, now_s: float, duty_percent: int | None) -> None:
        """`duty_percent` was set at `now_s`; None: the fans were given back."""
        was_set = self._known and self._duty_percent is not None
        was_turning = was_set and (self._duty_percent or 0) >= STILL_DUTY_PERCENT
        self._known = True
        self._duty_percent = duty_percent
        for fan in self._fans:
            fan.confirmed = False
            # A fan that already stays behind its target must not hide behind a duty that changes all the time.
            if not was_set:
                fan.progress_s = now_s
            if not was_turning:
                fan.turned_s = now_s

    def check(self, now_s: float, reading: Reading) -> Reason | None:
        """Judge the fans of a reading at `now_s`; returns the most serious fault."""
        while len(self._fans) < len(reading.fans):
            self._fans.append(_Fan(progress_s=now_s, turned_s=now_s))
        self.rival = self.disobeyed = self.slow = self.still = self.remark = None
        for number, (fan, read) in enumerate(zip(self._fans, reading.fans, strict=False)):
            if self._known:
                self._judge_settings(number, fan, read)
            if self._known and self._duty_percent is not None:
                self._judge_speed(now_s, number, fan, read, self._duty_percent)
            elif not read.manual:
                fan.driver_speed = read.speed_percent
            fan.speed = read.speed_percent
        return self.fault

    def _judge_settings(self, number: int, fan: _Fan, read: FanReading) -> None:
        """Compare policy and target with what was set. A change after a confirmation is somebody else's."""
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
                # Twice the same higher target right after a write: a bound of the driver.
                fan.floor = target
                self.remark = self.remark or Reason(Cause.FAN_FLOOR, fan=number, limit_percent=target)
            else:
                fault = Reason(Cause.OTHER_TARGET, fan=number, found_percent=target, set_percent=duty)
        if target is not None and fan.floor is not None and target < fan.floor:
            fan.floor = None  # the driver was only late
        if fault is None:
            fan.confirmed = True
        elif fan.confirmed:
            self.rival = self.rival or fault
        else:
            fan.unconfirmed_target = target
            self.disobeyed = self.disobeyed or fault

    def _judge_speed(self, now_s: float, number: int, fan: _Fan, read: FanReading, duty: int) -> None:
        """Compare the measured speed with the duty: moving, at rest, or standing still."""
        speed, before = read.speed_percent, fan.speed
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
        """Only rpm shows a standing fan: its percent are those commanded."""
        rpm, speed = read.speed_rpm, read.speed_percent
        if rpm is None or not speed:
            fan.turned_s = now_s
            return
        fan.rpm_per_percent = max(fan.rpm_per_percent, rpm / speed)
        if rpm > STILL_SHARE * fan.rpm_per_percent * speed or min(duty, speed) < STILL_DUTY_PERCENT:
            fan.turned_s = now_s
        elif now_s - fan.turned_s >= REST_S:
            self.still = self.still or Reason(Cause.FAN_STILL, fan=number, found_percent=speed, seconds=REST_S)

    def _reached(self, fan: _Fan) -> bool:
        duty = self._duty_percent
        return duty is None or fan.speed is None or abs(fan.speed - max(duty, fan.floor or 0)) <= SPEED_TOLERANCE
