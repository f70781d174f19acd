"""The fan curve: breakpoints of duty over temperature, and straight lines between them."""

import math
import re
from bisect import bisect_right
from dataclasses import dataclass

from gpufan.core.number import read_number
from gpufan.errors import InputError

MAX_TEMPERATURE_C = 110
"""No NVIDIA card runs at a higher temperature, °C. A breakpoint above this temperature is a typing error."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A fan curve: duty in percent over temperature in °C. It is linear between breakpoints, and flat outside them.

    A duty of None stands for `auto`: below the next breakpoint the driver controls the fan. Only the first breakpoint
    may be `auto`, and the next must have a number.

    >>> curve = Curve.parse("50:30, 70:50, 80:100")
    >>> curve.duty_at(60), curve.duty_at(20), curve.duty_at(95)
    (40.0, 30.0, 100.0)
    >>> str(curve)
    '50:30,70:50,80:100'
    >>> Curve.parse("0:auto,50:30").duty_at(49.9) is None
    True
    """

    points: tuple[tuple[float, float | None], ...]

    def __post_init__(self) -> None:
        _check_curve_points(self.points)

    @classmethod
    def parse(cls, text: str) -> "Curve":
        """Convert `text` to a curve. `text` is `T:D,T:D,...`, with temperatures in °C and duties in percent.

        Units may follow the numbers: `50 °C:30 %`. Raises InputError, which names the wrong point.

        >>> Curve.parse("60:50,55:70")
        Traceback (most recent call last):
        gpufan.errors.InputError: curve point 2 '55:70': temperatures must rise, and 55 does not come after 60
        """
        points: list[tuple[float, float | None]] = []
        for number, item in enumerate(text.split(","), 1):
            temperature, colon, duty = (part.strip() for part in item.partition(":"))
            where = f"curve point {number} '{item.strip()}'"
            if not colon:
                raise InputError(f"{where}: write it as temperature:duty, for example 60:50")
            temperature_c = _parse_curve_number(re.sub(r"\s*(°\s*C?|C)$", "", temperature, flags=re.I), where)
            percent = None if duty == "auto" else _parse_curve_number(duty.removesuffix("%").rstrip(), where)
            points.append((temperature_c, percent))
        return cls(tuple(points))

    @property
    def lowest_duty(self) -> float:
        """The lowest duty of the curve, percent. A breakpoint with `auto` does not count."""
        return next(duty for _, duty in self.points if duty is not None)

    @property
    def highest_duty(self) -> float:
        """The highest duty of the curve, percent."""
        return self.points[-1][1] or 0.0

    def duty_at(self, temperature_c: float) -> float | None:
        """Return the duty at `temperature_c`, percent; None if the curve leaves the fans to the driver there.

        If `temperature_c` is NaN, return the highest duty.
        """
        points = self.points
        if not temperature_c < points[-1][0]:
            return points[-1][1]
        above = bisect_right(points, temperature_c, key=_point_temperature_c)
        upper_c, upper = points[above]
        if above == 0:
            return upper
        lower_c, lower = points[above - 1]
        if lower is None or upper is None:
            return None
        return lower + (upper - lower) * (temperature_c - lower_c) / (upper_c - lower_c)

    def __str__(self) -> str:
        return ",".join(
            f"{_curve_number_text(t)}:{'auto' if d is None else _curve_number_text(d)}" for t, d in self.points
        )


def _point_temperature_c(point: tuple[float, float | None]) -> float:
    """Return the temperature of a breakpoint, °C."""
    return point[0]


def _curve_number_text(value: float) -> str:
    """Return `value` as text: the shortest one that stands for exactly this number. `50.0` becomes `50`."""
    return repr(float(value)).removesuffix(".0")


def _parse_curve_number(text: str, where: str) -> float:
    """Convert `text` to a number. Raises InputError, which begins with `where`, if it is not a finite number."""
    value = read_number(text)
    if math.isnan(value):
        raise InputError(f"{where}: '{text}' is not a number")
    return value


def _check_curve_points(points: tuple[tuple[float, float | None], ...]) -> None:
    """Raise InputError if `points` are not a valid curve.

    Temperatures must rise, and duties must not fall. Both must be within their bounds. Only the first point may be
    `auto` (None), and at least one point must have a duty.
    """
    if not points or points[-1][1] is None:
        raise InputError("the curve needs at least one point with a duty, for example 60:50")
    previous_c, previous = -math.inf, 0.0
    for number, (temperature_c, duty) in enumerate(points, 1):
        where = f"curve point {number} '{temperature_c:g}:{'auto' if duty is None else format(duty, 'g')}'"
        if not 0 <= temperature_c <= MAX_TEMPERATURE_C:
            raise InputError(f"{where}: the temperature must lie within 0..{MAX_TEMPERATURE_C} °C")
        if temperature_c <= previous_c:
            raise InputError(
                f"{where}: temperatures must rise, and {temperature_c:g} does not come after {previous_c:g}"
            )
        if duty is None:
            if number > 1:
                raise InputError(f"{where}: 'auto' may stand only at the first point")
        elif not 0 <= duty <= 100:
            raise InputError(f"{where}: the duty must lie within 0..100 %")
        elif duty < previous:
            raise InputError(f"{where}: duties must never fall, and {duty:g} is below {previous:g}")
        previous_c, previous = temperature_c, previous if duty is None else duty
