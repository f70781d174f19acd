"""The pictures of a report: what a card did over time with what happened to it, and where on its curve it lived."""

import io
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpufan.core.curve import Curve
from gpufan.core.thermal import sound_db
from gpufan.errors import InputError
from gpufan.history.daily import minute_rpm
from gpufan.history.events import TROUBLES, Event
from gpufan.history.plot import Mark, Panel, Series, curve_with_points, render, time_panels
from gpufan.history.reader import Card, Mean, Minute, Past, Span
from gpufan.system.files import write_output as put

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 1500
"""So many points at most make a line: more than a screen has pixels to tell apart."""

BY_THE_SECOND_S = 2 * 3600.0
"""A span that is no longer than this, s, is drawn by the second, as long as the seconds are kept."""

_MARKS = {
    **dict.fromkeys(TROUBLES, ("fail-safe, fault or lost", "#D81B60")),
    "throttled": ("throttled by heat", "#E69F00"),
    "gap": ("nothing kept", "#777777"),
    "override": ("override or error", "#8E6BBF"),
    "error": ("override or error", "#8E6BBF"),
}
"""What is shown of an event, and in which colour; `restart` and the like are only in the list."""


class _Merged:
    """Minutes that share a point of the picture."""

    def __init__(self) -> None:
        self._seconds = self._sum = 0.0
        self.low = math.inf
        self.high = -math.inf

    def add(self, value: Mean, seconds: float) -> None:
        if value.mean is None or value.low is None or value.high is None:
            return
        self._sum += value.mean * seconds
        self._seconds += seconds
        self.low = min(self.low, value.low)
        self.high = max(self.high, value.high)

    @property
    def value(self) -> Mean:
        if not self._seconds:
            return Mean(None, None, None)
        return Mean(self._sum / self._seconds, self.low, self.high)


def line(values: Iterable[tuple[float, float, Mean]], name: str, step_s: float) -> Series:
    """One line of time, seconds and value: a point for every `step_s`, with least and most; a break at each gap."""
    times_s: list[float] = []
    points: list[_Merged] = []
    for time_s, seconds, value in values:
        begin_s = time_s // step_s * step_s
        if not times_s or begin_s != times_s[-1]:
            if times_s and begin_s - times_s[-1] > 3 * step_s:
                times_s.append(times_s[-1] + step_s)
                points.append(_Merged())
            times_s.append(begin_s)
            points.append(_Merged())
        points[-1].add(value, seconds)
    means = [point.value for point in points]
    return Series(name, times_s, [m.mean for m in means], ([m.low for m in means], [m.high for m in means]))


def card_over_time(past: Past, card: Card, span: Span, events: Sequence[Event], *, title: str = "") -> "Figure | None":
    """Temperature, duty, power and sound of `card`, as far as they are known; None where none is."""
    by_the_second = span.end_s - span.begin_s <= BY_THE_SECOND_S
    minutes = list(past.seconds(card, span) if by_the_second else past.minutes(card, span))
    step_s = max(math.ceil((span.end_s - span.begin_s) / POINTS), 5 if by_the_second else 60)

    def of(key: str, name: str) -> Series:
        return line(((m.time_s, m.seconds, getattr(m, key)) for m in minutes), name, step_s)

    panels = [
        Panel("temperature", "°C", [of("temperature_c", "read")]),
        # Of one height in all reports: a change of some points must not look like a storm.
        Panel("fans", "%", [of("speed_percent", "read"), of("duty_percent", "set")], limits=(0, 104)),
        Panel("power", "W", [of("power_w", "read")]),
        Panel("sound", "dB(A)", [line(((m.time_s, m.seconds, _sound(m)) for m in minutes), "read", step_s)]),
    ]
    marks = [
        Mark(max(e.begin_s, span.begin_s), min(e.end_s, span.end_s), *_MARKS[e.kind])
        for e in events
        if e.kind in _MARKS
    ]
    told = [panel for panel in panels if any(value is not None for s in panel.series for value in s.values)]
    return time_panels(told, title=title, wall_clock=True, marks=marks) if told else None


def card_on_its_curve(past: Past, card: Card, span: Span, *, title: str = "") -> "Figure | None":
    """The curve or target that `card` follows, and where it was, minute by minute; None where that is not known."""
    points = [
        (m.temperature_c.mean, duty)
        for m in past.minutes(card, span)
        for duty in (m.duty_percent.mean if m.duty_percent.mean is not None else m.speed_percent.mean,)
        if m.temperature_c.mean is not None and duty is not None
    ]
    return curve_with_points(curve_of(card), points, target_c=target_of(card), title=title) if points else None


def curve_of(card: Card) -> Curve | None:
    """The curve that the card followed last; None where it was something else, or was not told."""
    kind, _, text = card.settings.partition(" ")
    try:
        return Curve.parse(text) if kind == "curve" else None
    except InputError:
        return None


def target_of(card: Card) -> float | None:
    """The temperature in °C that the card was held at last; None where it was something else, or was not told."""
    found = re.fullmatch(r"target ([0-9]+(?:\.[0-9]+)?) °C", card.settings)
    return float(found[1]) if found else None


def save_png(figures: Sequence["Figure"], path: Path) -> None:
    """Write the figures below one another to `path`. Raises GpufanError."""
    from PIL import Image  # comes with matplotlib

    images = [Image.open(io.BytesIO(render(figure, "png"))) for figure in figures]
    whole = Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)), "white")
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    data = io.BytesIO()
    whole.save(data, "PNG")
    put(path, data.getvalue())


def _sound(minute: Minute) -> Mean:
    """Estimated, dB(A); that of fans that stand still is left out."""
    rpm = minute_rpm(minute)
    value = None if rpm is None else sound_db(rpm) or None
    return Mean(value, value, value)
