"""Makes the plots of one card from the periods and events of the card in the history."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gpufan.core.curve import Curve
from gpufan.core.thermal import sound_db
from gpufan.errors import InputError
from gpufan.history.aggregate import Aggregate, combine
from gpufan.history.events import FAN_FAULTS, TROUBLES, Event, EventKind
from gpufan.history.plot import Mark, Panel, Series, draw_curve_with_points, draw_time_panels
from gpufan.history.reader import HistoryCard, Period, TimeRange

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_POINTS = 1500
"""A line has at most this many points. A screen has too few pixels to show more."""

_TROUBLE, _DISTURBANCE = ("fail-safe, fault or lost", "#D81B60"), ("override or error", "#8E6BBF")
_MARKS = {
    **dict.fromkeys((*TROUBLES.values(), *FAN_FAULTS.values()), _TROUBLE),
    EventKind.THROTTLED: ("throttled by heat", "#E69F00"),
    EventKind.GAP: ("no readings", "#777777"),
    EventKind.OVERRIDE: _DISTURBANCE,
    EventKind.ERROR: _DISTURBANCE,
}
"""For each kind of event that a plot shows: the name and the colour of its mark. The list of events has all kinds."""


def card_series(values: Iterable[tuple[float, float, Aggregate | None]], name: str, step_s: float) -> Series:
    """Make the line `name` of a plot. It has one point for each step of `step_s` seconds.

    Each item of `values` is the beginning (s), the duration (s) and the aggregate of a period; an unknown aggregate is
    None. A point shows the mean of the periods that begin in its step. The band around the line shows the lowest and
    the highest value of these periods. The line has a gap where three or more steps in a row contain no period.
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


def plot_card_over_time(
    card: HistoryCard, periods: Sequence[Period], events: Iterable[Event], time_range: TimeRange, min_step_s: float
) -> "Figure | None":
    """Plot the measurements and events of `card` over time with matplotlib. Returns None if no value is known.

    `card_panels` explains the arguments.
    """
    panels, marks = card_panels(periods, events, time_range, min_step_s)
    return draw_time_panels(panels, title=card.label, wall_clock=True, marks=marks) if panels else None


def card_panels(
    periods: Sequence[Period], events: Iterable[Event], time_range: TimeRange, min_step_s: float
) -> tuple[list[Panel], list[Mark]]:
    """Return the panels of a card over time (temperature, fans, power, sound), and a mark for each event that is drawn.

    `periods` and `events` are those of the card in `time_range`. A panel without any known value is left out. The
    points of a line are at least `min_step_s` seconds apart.
    """
    step_s = max(math.ceil((time_range.end_s - time_range.begin_s) / MAX_POINTS), min_step_s)

    def series(measurement: str, name: str) -> Series:
        return card_series(((p.time_s, p.seconds, getattr(p, measurement)) for p in periods), name, step_s)

    sounds = ((p.time_s, p.seconds, _card_sound_to_plot(p)) for p in periods)
    panels = [
        Panel("temperature", "°C", [series("temperature_c", "read")]),
        # The same scale in all reports, so that a small change looks small.
        Panel("fans", "%", [series("speed_percent", "read"), series("duty_percent", "set")], limits=(0, 104)),
        Panel("power", "W", [series("power_w", "read")]),
        Panel("sound", "dB(A)", [card_series(sounds, "read", step_s)]),
    ]
    marks = [
        Mark(max(event.begin_s, time_range.begin_s), min(event.end_s, time_range.end_s), *_MARKS[event.kind])
        for event in events
        if event.kind in _MARKS
    ]
    known = [panel for panel in panels if any(value is not None for s in panel.series for value in s.values)]
    return known, marks


def plot_card_on_curve(card: HistoryCard, periods: Iterable[Period]) -> "Figure | None":
    """Plot the curve or target of `card`, and a point for each period.

    A point is the mean temperature and the mean duty of the period. If the duty is unknown, the fan speed replaces it.
    Returns None if no period has a point.
    """
    points = [
        (period.temperature_c.mean, duty.mean)
        for period in periods
        if period.temperature_c is not None and (duty := period.duty_percent or period.speed_percent) is not None
    ]
    curve, target_c = card_curve_to_plot(card.settings)
    title = f"{card.label}: {card.settings}"
    return draw_curve_with_points(curve, points, target_c=target_c, title=title) if points else None


def card_curve_to_plot(settings: str) -> tuple[Curve | None, float | None]:
    """Return the curve and the target (°C) that the text `settings` names.

    `settings` is `str(CardSettings)`. A card follows either a curve or a target, and the other value is None. Both
    values are None if the text names neither a curve nor a target.

    >>> card_curve_to_plot("target 78 °C")
    (None, 78.0)
    """
    if target := re.fullmatch(r"target ([0-9]+(?:\.[0-9]+)?) °C", settings):
        return None, float(target[1])
    try:
        return Curve.parse(settings.removeprefix("curve ")), None
    except InputError:
        return None, None


def _card_sound_to_plot(period: Period) -> Aggregate | None:
    """Return the estimated sound of the fans in `period`, dB(A).

    Returns None if the speed of the fans is unknown, or too low to be heard.
    """
    level = 0.0 if period.fan_rpm is None else sound_db(period.fan_rpm)
    return Aggregate(level, level, level) if level else None
