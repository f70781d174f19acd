"""DECIDE: from numbers to a duty and its reason. No clock, no I/O, no logging, no globals.

`law` follows a curve without chasing it, `target` holds a temperature with what `model` has learnt of the card, `guard`
doubts the sensor, and `controller` puts them together.
"""

from typing import NamedTuple


class Decision(NamedTuple):
    """What the fans of one card should do now, and why."""

    duty_percent: int | None
    """None leaves the fans to the driver."""
    kind: str
    """Class of the reason: `curve`, `target`, `hold`, `brake`, `shared`, `limit`, `auto`, `full` or `fail-safe`."""
    reason: str
    """In words, to be read after the duty: `curve says 58, holding for hysteresis`."""
