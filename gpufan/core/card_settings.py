"""The settings for the fans of one card."""

from dataclasses import dataclass, replace

from gpufan.core.curve import Curve
from gpufan.core.quiet_hours import Quiet, QuietHours

DEFAULT_TARGET_C = 78.0
"""The target if a person chooses neither a target nor a curve, °C."""

ALL_CARDS = ("*",)
"""The names of the cards that a case fan follows if a person names none."""

DEFAULT_CURVE = Curve(((50, 30), (75, 50), (80, 64), (83, 100)))
"""The curve that is proposed to a person who wants one."""


@dataclass(frozen=True, slots=True)
class CardSettings:
    """The settings for the fans of one card. tests/benchmarks/README.md says where the defaults come from.

    `CardSettings()` follows `DEFAULT_CURVE`. If a person chooses nothing, `DEFAULTS` in `config/schema.py` apply.
    """

    curve: Curve = DEFAULT_CURVE
    hysteresis_c: float = 6.0
    """Under a curve, the temperature must fall by this many °C before the fans may slow down."""
    hold_s: float = 120.0
    """Under a curve, the temperature must stay that low for this many seconds before the fans may slow down."""
    slew_percent_per_s: float = 2.0
    """The fastest fall of the duty. A rise of the duty is not limited."""
    step_percent: int = 3
    """Under a curve, smaller changes of the duty are skipped, except a change to the lowest or highest duty."""
    min_duty_percent: int | None = None
    """The lowest duty that gpufan sets. If None, `control.law.duty_range` finds it from the range of the card."""
    target_c: float | None = None
    """The temperature to hold with the least sound, °C. The curve has no effect then. If None, the curve applies."""
    neighbours: tuple[str | int, ...] = ()
    """Names of the cards that this card warms. Under a target, the fans may run faster to help those cards."""
    power_limit_w: float | None = None
    """The power limit of the card, W; None leaves it as it is."""
    give_way: str = "off"
    """`power`: if the fans may not run faster, gpufan sets limits that lower the clocks. `off`: it sets none."""

    fans: tuple[str, ...] = ()
    """Names of the channels of the motherboard that cool the card. If empty, its own fans do."""

    follows: tuple[str, ...] = ()
    """For a case fan: the names of the cards that it follows. Empty for a card."""
    by_demand: bool = False
    """For a case fan: whether its duty is the highest that a followed card needs. If not, the curve applies."""

    quiet_hours: tuple[QuietHours, ...] = ()
    """The periods in which the fans are limited, in the order of the settings file."""
    quiet: Quiet | None = None
    """The demands of quiet hours at this moment; None outside quiet hours."""

    def in_quiet_hours(self, quiet: Quiet | None) -> "CardSettings":
        """Return these settings as they are in quiet hours that demand `quiet`. None returns them unchanged.

        The target of `quiet`, if it has one, replaces the target. `quiet` may also turn `give_way` on.
        """
        if quiet is None:
            return self
        target_c = self.target_c if quiet.target_c is None else quiet.target_c
        return replace(self, quiet=quiet, target_c=target_c, give_way="power" if quiet.gives_way else self.give_way)

    def __str__(self) -> str:
        """Return the curve or the target, the limits and the quiet hours as text: `target 78 °C, power limit 220 W`."""
        text = f"curve {self.curve}" if self.target_c is None else f"target {self.target_c:g} °C"
        if self.follows:
            cards = "all cards" if self.follows == ALL_CARDS else ", ".join(self.follows)
            text = f"follows {cards}" if self.by_demand else f"{text}, follows {cards}"
        if self.power_limit_w is not None:
            text += f", power limit {self.power_limit_w:g} W"
        if self.give_way == "power":
            text += ", clocks may give way"
        if self.quiet is None:
            return text
        limit = "" if self.quiet.max_duty_percent is None else f", at most {self.quiet.max_duty_percent} %"
        return f"{text}{limit}, quiet hours until {self.quiet.until}"
