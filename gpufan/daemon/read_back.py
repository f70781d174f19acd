"""Compares the fans that are read back with the duty that was set: only this proves that a fan obeys."""

from gpufan.core.gpu import FanReading, Gpu, Reading
from gpufan.core.reasons import Cause, Reason
from gpufan.errors import GpuError, GpuLost

TARGET_TOLERANCE = 2
"""Points by which a target that is read back may differ from the duty set, since drivers round."""

SETTLE_S = 15.0
"""Time that a fan has to reach its target, s."""

SETTLE_TOLERANCE = 10
"""Points by which the speed of a settled fan may differ from its target."""


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


class ReadBack:
    """Remembers the duty set on one card, and finds fans that differ from it."""

    def __init__(self) -> None:
        self._known = False
        self._duty_percent: int | None = None
        self._settled_at_s = 0.0
        self.proven = False
        """Whether the fans have once had the duty set after the time to settle."""

    def forget(self) -> None:
        """Forget the duty that was set: it is not known any more."""
        self._known = False

    def differs(self, duty_percent: int | None) -> bool:
        """Whether `duty_percent` (None: the driver) differs from the duty that was set last."""
        return not self._known or duty_percent != self._duty_percent

    def wrote(self, now_s: float, duty_percent: int | None) -> None:
        """Remember that `duty_percent` was set at `now_s`; None means that the fans were given back."""
        before = self._duty_percent if self._known else None
        # A small change does not restart the time to settle: many small changes would hide a jammed fan.
        if before is None or duty_percent is None or abs(duty_percent - before) > SETTLE_TOLERANCE:
            self._settled_at_s = now_s + SETTLE_S
        self._known = True
        self._duty_percent = duty_percent

    def check(self, now_s: float, reading: Reading) -> Reason | None:
        """The first fault of a fan; None if all fans are as set, or if the duty that was set is not known."""
        if not self._known:
            return None
        for number, fan in enumerate(reading.fans):
            if (fault := self._check_fan(now_s, number, fan)) is not None:
                return fault
        if self._is_settled(now_s):
            self.proven = True
        return None

    def faster(self, now_s: float, reading: Reading) -> Reason | None:
        """The first settled fan that the driver runs faster than the duty set. That is not a fault."""
        if self._duty_percent is None or not self._is_settled(now_s):
            return None
        for number, fan in enumerate(reading.fans):
            if fan.speed_percent is not None and fan.speed_percent > self._duty_percent + SETTLE_TOLERANCE:
                return Reason(Cause.FAN_FAST, fan=number, found_percent=fan.speed_percent)
        return None

    def _is_settled(self, now_s: float) -> bool:
        return self._known and self._duty_percent is not None and now_s >= self._settled_at_s

    def _check_fan(self, now_s: float, number: int, fan: FanReading) -> Reason | None:
        duty = self._duty_percent
        if duty is None:
            return Reason(Cause.FAN_TAKEN, fan=number) if fan.manual else None
        if fan.manual is False:
            return Reason(Cause.FAN_RELEASED, fan=number)
        target, speed = fan.target_percent, fan.speed_percent
        if target is not None and abs(target - duty) > TARGET_TOLERANCE:
            return Reason(Cause.OTHER_TARGET, fan=number, found_percent=target, set_percent=duty)
        if speed is not None and speed < duty - SETTLE_TOLERANCE and self._is_settled(now_s):
            return Reason(Cause.FAN_SLOW, fan=number, found_percent=speed, set_percent=duty, seconds=SETTLE_S)
        return None
