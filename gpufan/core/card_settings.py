"""The settings for the fans of one card."""

from dataclasses import dataclass, replace

from gpufan.core.curve import Curve
from gpufan.core.quiet_hours import Quiet, QuietHours

DEFAULT_TARGET_C = 78.0
"""The target where a person chooses neither a target nor a curve, °C."""

DEFAULT_CURVE = Curve(((50, 30), (75, 50), (80, 64), (83, 100)))
"""The curve that is proposed to a person who wants one."""


@dataclass(frozen=True, slots=True)
class CardSettings:
    """Settings for the fans of one card. tests/benchmarks/README.md says where the values come from.

    `CardSettings()` follows a curve. The settings of a person who chooses nothing are in `config/schema.py`.
    """

    curve: Curve = DEFAULT_CURVE
    hysteresis_c: float = 6.0
    """°C by which the temperature must have dropped before the fans may slow down."""
    hold_s: float = 120.0
    """Seconds for which the temperature must have stayed that low before the fans may slow down."""
    slew_percent_per_s: float = 2.0
    """Fastest fall of the duty; rises are not limited."""
    step_percent: int = 3
    """Under a curve, a smaller change of the duty is not made, except to the lowest or the highest duty."""
    min_duty_percent: int | None = None
    """Lowest duty ever set; None derives it from the card's range and the stall range."""
    target_c: float | None = None
    """The temperature to hold with the least sound; the curve has then no effect. None follows the curve."""
    neighbours: tuple[str | int, ...] = ()
    """Names of the cards that this card warms. When a target is held, its fans run faster to help those cards."""
    power_limit_w: float | None = None
    """The power limit of the card, W; None leaves it as it is."""
    give_way: str = "off"
    """`power`: the clocks give way when the fans may not go higher. `off`: they do not."""

    quiet_hours: tuple[QuietHours, ...] = ()
    """When the fans are limited, in the order of the file."""
    quiet: Quiet | None = None
    """The quiet hours of this moment; None outside them. Its limit is exceeded only near the slowdown threshold."""

    def in_quiet_hours(self, quiet: Quiet | None) -> "CardSettings":
        """Return these settings, with the target and `give_way` of `quiet` in place of those of the day."""
        if quiet is None:
            return self
        target_c = self.target_c if quiet.target_c is None else quiet.target_c
        return replace(self, quiet=quiet, target_c=target_c, give_way="power" if quiet.gives_way else self.give_way)

    def __str__(self) -> str:
        """The curve or the target, the limits and the quiet hours: `target 78 °C, power limit 220 W`."""
        text = f"curve {self.curve}" if self.target_c is None else f"target {self.target_c:g} °C"
        if self.power_limit_w is not None:
            text += f", power limit {self.power_limit_w:g} W"
        if self.give_way == "power":
            text += ", clocks may give way"
        if self.quiet is None:
            return text
        limit = "" if self.quiet.max_duty_percent is None else f", at most {self.quiet.max_duty_percent} %"
        return f"{text}{limit}, quiet hours until {self.quiet.until}"
