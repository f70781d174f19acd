"""The instructions that one card follows: settings, quiet hours, or an order of a person. The time is an argument."""

from collections.abc import Callable
from time import struct_time

from gpufan.config.order import Order
from gpufan.core.card_settings import CardSettings
from gpufan.core.gpu import GpuInfo
from gpufan.core.quiet_hours import quiet_at
from gpufan.system.clock import local_clock_time

SettingsFor = Callable[[GpuInfo], CardSettings]
"""Returns the settings of a card. The same card always gets the same settings."""

LocalTime = Callable[[float], struct_time]
"""Returns the local time at a time of the control loop, which is in seconds."""


class Instructions:
    """The instructions for one card. An order counts more than quiet hours, and these count more than the settings."""

    def __init__(self, settings_for: SettingsFor, wall_clock: LocalTime | None = None) -> None:
        """`wall_clock` replaces the clock of this machine."""
        self._settings_for = settings_for
        self._wall_clock = wall_clock or (lambda _: local_clock_time())
        self._given: tuple[SettingsFor, GpuInfo] | None = None
        """For what `settings` was called last; None if an order has begun or ended since then."""
        self._base = self.current = CardSettings()
        """The settings of the card, and these as they are followed now."""
        self._order: Order | None = None
        self.order_left_s: float | None = None
        """For how long the order still lasts, s; None for an order without an end, and without an order."""

    def follow(self, settings_for: SettingsFor) -> None:
        """Use other settings from the next `update` on. Any thread may call this."""
        self._settings_for = settings_for

    def obey(self, order: Order | None, left_s: float | None) -> None:
        """Use `order` in place of the curve or target of the settings for another `left_s`. None ends the order."""
        self.order_left_s = None if left_s is None else round(left_s, 3)
        if order != self._order:
            self._order, self._given = order, None

    def update(self, info: GpuInfo, now_s: float) -> bool:
        """Bring `current` up to date for the card `info`. Returns whether `current` was renewed."""
        settings_for = self._settings_for
        is_new = self._given is None or self._given[0] is not settings_for or self._given[1] is not info
        if is_new:
            self._base, self._given = settings_for(info), (settings_for, info)
        elif not self._base.quiet_hours or self._order is not None:
            return False
        if self._order is not None:
            self.current = self._order.applied_to(self._base)
            return True
        quiet = quiet_at(self._base.quiet_hours, self._wall_clock(now_s)) if self._base.quiet_hours else None
        if not is_new and quiet == self.current.quiet:
            return False
        self.current = self._base.in_quiet_hours(quiet)
        return True

    @property
    def order_text(self) -> str:
        """The order for people; empty without an order."""
        return "" if self._order is None else str(self._order)

    def __str__(self) -> str:
        """The settings or the order that the card follows, for people."""
        return str(self.current) if self._order is None else f"ordered: {self._order}"
