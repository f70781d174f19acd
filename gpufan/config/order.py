"""An order of a person for the fans of a card. It replaces a part of the settings for a while. No file is read here.

An order changes only the curve or the target. So the lowest duty of the card, the margin below its slowdown threshold
and the fail-safe apply as before.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpufan.config.schema import key_bounds, without_unit
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import MAX_TEMPERATURE_C, Curve
from gpufan.core.number import read_number
from gpufan.errors import InputError

SYNTAX = "60, auto, max, `target 75` or `curve 50:30,83:100`"
"""An example of each kind of order."""

_EXAMPLES = {"target": "target 75", "curve": "curve 50:30,83:100"}
"""An example of each kind of order that consists of two words."""

_DRIVERS = Curve(((0, None), (MAX_TEMPERATURE_C, 100)))
"""The curve of the order `auto`. It leaves the fans to the driver."""

_SLEW_PERCENT_PER_S = 20.0
"""The fastest fall of the duty after a person has ordered a duty. It is fast because the person waits for it."""


@dataclass(frozen=True, slots=True)
class Order:
    """A curve or a target that a person has ordered. It replaces the curve and the target of the settings."""

    text: str
    """The order in the spelling of `gpufan set`, which `parse` accepts."""
    curve: Curve | None
    """The ordered curve; None if a target is ordered."""
    target_c: float | None
    is_constant: bool
    """Whether the order is the same for every temperature: a duty, or control by the driver."""

    @classmethod
    def parse(cls, text: str) -> "Order":
        """Convert `text` to an order: `60`, `60 %`, `auto`, `max`, `target 75` or `curve 50:30,83:100`.

        Raises InputError if `text` is not such an order.

        >>> str(Order.parse(" 60%")), str(Order.parse("target 75.0")), str(Order.parse("curve 50:30, 83:100"))
        ('60 %', 'target 75 °C', 'curve 50:30,83:100')
        """
        kind, _, value = text.strip().partition(" ")
        if kind == "target" and value:
            target_c = _ordered_number(without_unit("target_c", value), "target", *key_bounds("target_c"))
            return cls(f"target {target_c:g}", None, target_c, is_constant=False)
        if kind == "curve" and value:
            curve = Curve.parse(value)
            return cls(f"curve {curve}", curve, None, is_constant=False)
        if text.strip() == "auto":
            return cls("auto", _DRIVERS, None, is_constant=True)
        if kind in _EXAMPLES:
            raise InputError(f"nothing is ordered after {kind}: write it as `{_EXAMPLES[kind]}`")
        duty = 100.0 if text.strip() == "max" else _ordered_number(text.strip().removesuffix("%"), "", 0, 100)
        return cls(f"{duty:g}", Curve(((0, duty),)), None, is_constant=True)

    def applied_to(self, settings: CardSettings) -> CardSettings:
        """Return `settings` with the curve or target of this order.

        A case fan that has followed the demands of cards follows the curve then. If the order is a duty or `auto`, the
        result also lets the duty fall faster, and in steps of 1 %.
        """
        if self.curve is None:
            return replace(settings, target_c=self.target_c)
        ordered = replace(settings, curve=self.curve, target_c=None, by_demand=False)
        return replace(ordered, slew_percent_per_s=_SLEW_PERCENT_PER_S, step_percent=1) if self.is_constant else ordered

    def __str__(self) -> str:
        """Return the order as text for people: `60 %`."""
        if self.curve is None:
            return f"{self.text} °C"
        if self.curve is _DRIVERS:
            return "auto (gpufan sets no duty)"
        return f"{self.text} %" if self.is_constant else self.text


def order_of_words(words: Sequence[str]) -> Order:
    """Convert `words` of a command line to an order. Raises InputError if they are not an order."""
    return Order.parse(" ".join(words))


def _ordered_number(text: str, kind: str, low: float, high: float) -> float:
    """Convert `text` to a number. Raises InputError if it is not a number from `low` to `high`.

    `kind` is `target` for a temperature in °C, and empty for a duty in percent.
    """
    number = read_number(text)
    if math.isnan(number):
        raise InputError(f"'{text.strip()}' is not a number: order {SYNTAX}")
    if not low <= number <= high:
        unit = "°C" if kind else "%"
        raise InputError(f"{kind} {text.strip()}: order a number from {low:g} to {high:g} {unit}".lstrip())
    return number
