"""Reads a number that a person wrote."""

import math
import re

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?", re.IGNORECASE)


def read_number(text: str) -> float:
    """Convert `text` to a number; NaN if it is not a finite decimal number in ASCII.

    `float` would also accept `1_0`, which may be a mistyped 1.0, and digits of other scripts.

    >>> read_number(" 75 "), read_number("7.5e1"), read_number("7_5"), read_number("inf")
    (75.0, 75.0, nan, nan)
    """
    number = float(text) if _NUMBER.fullmatch(text.strip()) else math.nan
    return number if math.isfinite(number) else math.nan
