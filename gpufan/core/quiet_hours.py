"""Quiet hours: the local times at which the fans of a card are limited, and the limits. Callers pass the time."""

from collections.abc import Sequence
from time import struct_time
from typing import NamedTuple

DAY_MINUTES = 24 * 60


class Quiet(NamedTuple):
    """The demands of quiet hours on a card at one moment. There is at least one demand."""

    max_duty_percent: int | None
    """The highest duty; None for no limit."""
    target_c: float | None
    """The target in place of the curve or target of the settings, °C; None changes neither."""
    until: str
    """The local time at which these demands end or change: `07:00`."""
    gives_way: bool = False
    """Whether gpufan sets limits that lower the clocks, if the fans may not run faster."""


class QuietHours(NamedTuple):
    """A period of the day in local time, and the limits of the fans in it."""

    from_minute: int
    """The first minute of the period, counted from midnight."""
    to_minute: int
    """The first minute after the period. If this is not above `from_minute`, the period ends on the next day."""
    days: frozenset[int]
    """The days on which the period begins; Monday is 0."""
    max_duty_percent: int | None = None
    """The highest duty; None for no limit."""
    target_c: float | None = None
    """The target in place of the curve or target of the settings, °C; None changes neither."""
    gives_way: bool = False
    """Whether gpufan sets limits that lower the clocks, if the fans may not run faster."""

    @property
    def to(self) -> str:
        """The local time at which the period ends: `07:00`."""
        return f"{self.to_minute // 60:02}:{self.to_minute % 60:02}"

    def covers(self, local: struct_time) -> bool:
        """Whether the local time `local` is in the period.

        Only the time on the clock counts. So a change to or from summer time shortens or lengthens the period.

        >>> import time
        >>> monday_at_six = time.gmtime(4 * 86400 + 6 * 3600)
        >>> QuietHours(22 * 60, 7 * 60, frozenset({6})).covers(monday_at_six)
        True
        """
        minute = local.tm_hour * 60 + local.tm_min
        if self.from_minute < self.to_minute:
            return local.tm_wday in self.days and self.from_minute <= minute < self.to_minute
        begun_today = local.tm_wday in self.days and minute >= self.from_minute
        return begun_today or ((local.tm_wday - 1) % 7 in self.days and minute < self.to_minute)


def quiet_at(periods: Sequence[QuietHours], local: struct_time) -> Quiet | None:
    """Return the demands of `periods` at the local time `local`; None if no period covers it.

    If several periods cover this time, the lowest limit and the lowest target apply. `until` of the result is then the
    end of the period that ends first.
    """
    present = [period for period in periods if period.covers(local)]
    if not present:
        return None
    minute = local.tm_hour * 60 + local.tm_min
    first = min(present, key=lambda period: (period.to_minute - minute - 1) % DAY_MINUTES)
    limits = [period.max_duty_percent for period in present if period.max_duty_percent is not None]
    targets_c = [period.target_c for period in present if period.target_c is not None]
    gives_way = any(period.gives_way for period in present)
    return Quiet(min(limits, default=None), min(targets_c, default=None), first.to, gives_way)
