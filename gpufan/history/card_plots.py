"""The plots of one card in a report: its values and events over time, and its points on its curve."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gpufan.core.curve import Curve
from gpufan.core.thermal import sound_db
from gpufan.errors import InputError
from gpufan.history.aggregate import Aggregate, combine
from gpufan.history.day_totals import fan_rpm
from gpufan.history.events import FAN_FAULTS, TROUBLES, Event, EventKind
from gpufan.history.plot import Mark, Panel, Series, curve_with_points, time_panels
from gpufan.history.reader import Card, Period, TimeRange

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_POINTS = 1500
"""A line has at most this many points: more than a screen has pixels for."""

_TROUBLE, _DISTURBANCE = ("fail-safe, fault or lost", "#D81B60"), ("override or error", "#8E6BBF")
_MARKS = {
    **dict.fromkeys((*TROUBLES.values(), *FAN_FAULTS.values()), _TROUBLE),
    EventKind.THROTTLED: ("throttled by heat", "#E69F00"),
    EventKind.GAP: ("no readings", "#777777"),
    EventKind.OVERRIDE: _DISTURBANCE,
    EventKind.ERROR: _DISTURBANCE,
}
"""Name and colour of the events that are drawn. Other events are only in the list."""


def line_of_means(values: Iterable[tuple[float, float, Aggregate | None]], name: str, step_s: float) -> Series:
    """Combine values, each with its time and its duration in seconds, into one point for each `step_s`.

    A point has mean, lowest and highest value. The line has a break where more than three steps are missing.
    """
    steps: dict[float, list[tuple[Aggregate | None, float]]] = {}
    last_s = math.inf
    for time_s, seconds, value in values:
        begin_s = time_s // step_s * step_s
        if begin_s - last_s > 3 * step_s:
            steps[last_s + step_s] = []
        steps.setdefault(begin_s, []).append((value, seconds))
        last_s = begin_s
    points = [combine(step) or (None, None, None) for step in steps.values()]
    means, lowest, highest = ([point[n] for point in points] for n in range(3))
    return Series(name, list(steps), means, (lowest, highest))


def card_over_time(
    card: Card, periods: Sequence[Period], events: Iterable[Event], time_range: TimeRange, min_step_s: float
) -> "Figure | None":
    """Plot `panels_over_time` with matplotlib; None if all is unknown."""
    panels, marks = panels_over_time(periods, events, time_range, min_step_s)
    return time_panels(panels, title=card.label, wall_clock=True, marks=marks) if panels else None


def panels_over_time(
    periods: Sequence[Period], events: Iterable[Event], time_range: TimeRange, min_step_s: float
) -> tuple[list[Panel], list[Mark]]:
    """Temperature, duty, power and sound over time, without those that are unknown, and the events.

    The points of a line are at least `min_step_s` apart, s.
    """
    step_s = max(math.ceil((time_range.end_s - time_range.begin_s) / MAX_POINTS), min_step_s)

    def series(measurement: str, name: str) -> Series:
        return line_of_means(((p.time_s, p.seconds, getattr(p, measurement)) for p in periods), name, step_s)

    panels = [
        Panel("temperature", "°C", [series("temperature_c", "read")]),
        # The same scale in all reports, so that a small change looks small.
        Panel("fans", "%", [series("speed_percent", "read"), series("duty_percent", "set")], limits=(0, 104)),
        Panel("power", "W", [series("power_w", "read")]),
        Panel("sound", "dB(A)", [line_of_means(((p.time_s, p.seconds, _sound(p)) for p in periods), "read", step_s)]),
    ]
    marks = [
        Mark(max(event.begin_s, time_range.begin_s), min(event.end_s, time_range.end_s), *_MARKS[event.kind])
        for event in events
        if event.kind in _MARKS
    ]
    known = [panel for panel in panels if any(value is not None for s in panel.series for value in s.values)]
    return known, marks


def card_on_its_curve(card: Card, periods: Iterable[Period]) -> "Figure | None":
    """Plot the curve or target that `card` follows, and a point for each period; None if no point is known."""
    points = [
        (period.temperature_c.mean, duty.mean)
        for period in periods
        if period.temperature_c is not None and (duty := period.duty_percent or period.speed_percent) is not None
    ]
    curve, target_c = curve_and_target(card.settings)
    title = f"{card.label}: {card.settings}"
    return curve_with_points(curve, points, target_c=target_c, title=title) if points else None


def curve_and_target(settings: str) -> tuple[Curve | None, float | None]:
    """Parse the curve, or the target in °C, from `str(CardSettings)`. Both are None for any other text.

    >>> curve_and_target("target 78 °C")
    (None, 78.0)
    """
    if target := re.fullmatch(r"target ([0-9]+(?:\.[0-9]+)?) °C", settings):
        return None, float(target[1])
    try:
        return Curve.parse(settings.removeprefix("curve ")), None
    except InputError:
        return None, None


def _sound(period: Period) -> Aggregate | None:
    """Estimated sound, dB(A); unknown while the fans stand still."""
    rpm = fan_rpm(period)
    level = 0.0 if rpm is None else sound_db(rpm)
    return Aggregate(level, level, level) if level else None
