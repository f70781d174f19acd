"""How the fans of one card are to be kept."""

from dataclasses import dataclass

from gpufan.core.curve import Curve

DEFAULT_CURVE = Curve(((50, 30), (75, 50), (80, 64), (83, 100)))


@dataclass(frozen=True, slots=True)
class CardSettings:
    """How the fans of one card are kept. The defaults are what the control benchmark chose; README.md has the table."""

    curve: Curve = DEFAULT_CURVE
    hysteresis_c: float = 6.0
    """°C by which the temperature must have dropped before the fans may slow down."""
    hold_s: float = 120.0
    """Seconds for which it must have stayed down."""
    slew_percent_per_s: float = 2.0
    """Fastest fall of the duty; rises are not limited."""
    step_percent: int = 3
    """Smallest change that a curve makes, except to either end of the range."""
    min_duty_percent: int | None = None
    """Lowest duty ever set; None lets the card's range and the stall range say."""
    target_c: float | None = None
    """Hold this temperature with the least sound, and use the curve only above it; None follows the curve."""
    neighbours: tuple[str | int, ...] = ()
    """Names of the cards that take in this one's heat, for which its fans help out when a target is held."""

    def __str__(self) -> str:
        """What the fans follow: `curve 50:30,75:50,80:64,83:100`, or `target 78 °C`."""
        return f"curve {self.curve}" if self.target_c is None else f"target {self.target_c:g} °C"
