"""An order of a person for the fans of a card, which counts for a while in place of the settings. No file is read here.

An order changes only the curve or the target of a card. So its lowest duty, the margin below its slowdown threshold and
the fail-safe apply as before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpufan.config.schema import key_bounds
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import MAX_TEMPERATURE_C, Curve
from gpufan.errors import InputError

SYNTAX = "60, auto, max, `target 75` or `curve 50:30,83:100`"
"""Examples of every order."""

_DRIVERS = Curve(((0, None), (MAX_TEMPERATURE_C, 100)))
"""Leaves the fans to the driver, up to the margin below the slowdown threshold."""

_SLEW_PERCENT_PER_S = 20.0
"""Fastest fall of the duty to one that was ordered: the person who orders it waits for it."""


@dataclass(frozen=True, slots=True)
class Order:
    """A curve or a target in place of those in the settings."""

    text: str
    """The order as `gpufan set` spells it and `parse` reads it."""
    curve: Curve | None
    """None if a target is ordered."""
    target_c: float | None
    is_constant: bool
    """Whether the order is the same for every temperature: a duty, or the driver's control."""

    @classmethod
    def parse(cls, text: str) -> "Order":
        """Return the order `60`, `60 %`, `auto`, `max`, `target 75` or `curve 50:30,83:100`. Raises InputError.

        >>> str(Order.parse(" 60%")), str(Order.parse("target 75.0")), str(Order.parse("curve 50:30, 83:100"))
        ('60 %', 'target 75 °C', 'curve 50:30,83:100')
        """
        kind, _, value = text.strip().partition(" ")
        if kind == "target" and value:
            target_c = _ordered_number(value.removesuffix("°C"), "target", *key_bounds("target_c"))
            return cls(f"target {target_c:g}", None, target_c, is_constant=False)
        if kind == "curve" and value:
            curve = Curve.parse(value)
            return cls(f"curve {curve}", curve, None, is_constant=False)
        if text.strip() == "auto":
            return cls("auto", _DRIVERS, None, is_constant=True)
        duty = 100.0 if text.strip() == "max" else _ordered_number(text.strip().removesuffix("%"), "", 0, 100)
        return cls(f"{duty:g}", Curve(((0, duty),)), None, is_constant=True)

    def applied_to(self, settings: CardSettings) -> CardSettings:
        """Return `settings` with the curve or target of this order."""
        if self.curve is None:
            return replace(settings, target_c=self.target_c)
        ordered = replace(settings, curve=self.curve, target_c=None)
        return replace(ordered, slew_percent_per_s=_SLEW_PERCENT_PER_S, step_percent=1) if self.is_constant else ordered

    def __str__(self) -> str:
        """The order for people."""
        if self.curve is None:
            return f"{self.text} °C"
        if self.curve is _DRIVERS:
            return "auto, the driver's control"
        return f"{self.text} %" if self.is_constant else self.text


def order_of_words(words: Sequence[str]) -> Order:
    """Return the order that the words of a command line mean. Raises InputError."""
    return Order.parse(" ".join(words))


def _ordered_number(text: str, kind: str, low: float, high: float) -> float:
    """Return the number in `text`. Raises InputError if it is not from `low` to `high`. `kind` is `target` or empty."""
    try:
        number = float(text)
    except ValueError:
        raise InputError(f"'{text.strip()}' is not a number: order {SYNTAX}") from None
    if not low <= number <= high:
        unit = "°C" if kind else "%"
        raise InputError(f"{kind} {text.strip()}: order a number from {low:g} to {high:g} {unit}".lstrip())
    return number
