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
"""Converts a time of the control loop, s, to the local time."""


class Instructions:
    """The instructions for one card. An order has priority over quiet hours. Both have priority over the settings."""

    def __init__(self, settings_for: SettingsFor, wall_clock: LocalTime | None = None) -> None:
        """`settings_for` returns the settings of the card. `wall_clock` returns the local time for quiet hours.

        If `wall_clock` is None, the clock of this machine is used.
        """
        self._settings_for = settings_for
        self._wall_clock = wall_clock or (lambda _: local_clock_time())
        self._given: tuple[SettingsFor, GpuInfo] | None = None
        """The function that last returned settings, and the card of that call. None after a change of the order."""
        self._base = self.current = CardSettings()
        """The settings of the card without order and quiet hours, and the settings that the card follows now."""
        self._order: Order | None = None
        self.order_left_s: float | None = None
        """How long the order still lasts, s. None if the order has no end, or if there is no order."""

    def follow(self, settings_for: SettingsFor) -> None:
        """From the next `update` on, use the settings that `settings_for` returns. Any thread may call this."""
        self._settings_for = settings_for

    def settings_of(self, info: GpuInfo) -> CardSettings:
        """Return the settings of the card `info`, without order and quiet hours. They may not be followed yet."""
        return self._settings_for(info)

    def obey(self, order: Order | None, left_s: float | None) -> None:
        """Follow `order` in place of the curve or target in the settings. If `order` is None, follow the settings.

        `left_s` says how long the order still lasts, s. It is None for an order without an end.
        """
        self.order_left_s = None if left_s is None else round(left_s, 3)
        if order != self._order:
            self._order, self._given = order, None

    def update(self, info: GpuInfo, now_s: float) -> bool:
        """Update `current` for the card `info` at `now_s`. Returns whether `current` was replaced."""
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
        """The order as text for people; empty without an order."""
        return "" if self._order is None else str(self._order)

    def __str__(self) -> str:
        """Return the settings or the order that the card follows, as text for people."""
        return str(self.current) if self._order is None else f"ordered: {self._order}"
