"""Draws measurements over time as SVG without matplotlib. The style sheet of the page defines the colours.

If matplotlib is installed, `plot.py` draws the same plots with more detail instead.
"""

import math
from collections.abc import Iterator, Sequence
from html import escape

from gpufan.history.local_time import local_time_text
from gpufan.history.plot import Mark, Panel, Series
from gpufan.history.reader import TimeRange

_WIDTH, _LEFT, _RIGHT = 900, 60, 12
_PANEL, _GAP, _BOTTOM = 120, 30, 24
"""Lengths in pixels. `_PANEL` is the height of a panel. `_GAP` is the space above each panel."""

_COLOURS = {"read": "var(--blue)", "set": "var(--red)"}
"""The colours of lines, by the name of the series. Any other series is grey."""


def panels_svg(panels: Sequence[Panel], marks: Sequence[Mark], time_range: TimeRange) -> str:
    """Return an SVG image of `panels`, one below the other.

    `marks` are drawn across all panels. One axis below the panels shows local time for all of them.
    """
    height = len(panels) * (_PANEL + _GAP) + _BOTTOM
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-size="12">']
    for place, panel in enumerate(panels):
        top = _GAP + place * (_PANEL + _GAP)
        for mark in marks:
            begin, end = (_svg_x(time_s, time_range) for time_s in (mark.begin_s, mark.end_s))
            parts.append(
                f'<rect x="{begin:.1f}" y="{top}" width="{max(end - begin, 1):.1f}" height="{_PANEL}"'
                f' fill="{mark.colour}" fill-opacity="0.35"><title>{escape(mark.name)}</title></rect>'
            )
        parts += _svg_panel(panel, top, time_range)
    parts += _svg_time_axis(height - 6, time_range)
    return "\n".join([*parts, "</svg>"])


def _svg_panel(panel: Panel, top: int, time_range: TimeRange) -> Iterator[str]:
    """Yield the SVG elements of one panel: axis, lines and names. `top` is the position of its upper edge, pixels."""
    lines = [line for series in panel.series for line in (series.values, *(series.band or ()))]
    values = [value for line in lines for value in line if value is not None]
    ticks = svg_ticks(*(panel.limits or (min(values), max(values))))
    low, high = panel.limits or (ticks[0], ticks[-1])

    def y(value: float) -> float:
        return top + _PANEL * (1 - (min(max(value, low), high) - low) / (high - low))

    for tick in (tick for tick in ticks if low <= tick <= high):
        yield f'<path d="M{_LEFT} {y(tick):.1f}H{_WIDTH - _RIGHT}" stroke="var(--grid)"/>'
        yield _svg_text(_LEFT - 6, y(tick) + 4, f"{tick}", anchor="end")
    yield _svg_text(_LEFT, top - 8, f"{panel.quantity}, {panel.unit}")
    for place, series in enumerate(panel.series):
        colour = _COLOURS.get(series.name, "var(--grey)")
        if len(panel.series) > 1:
            yield _svg_text(_WIDTH - _RIGHT - 40 * place, top - 8, series.name, anchor="end", fill=colour)
        for points in _svg_lines(series, time_range):
            line = " ".join(f"{x:.1f},{y(mean):.1f}" for x, mean, _, _ in points)
            edge = [f"{x:.1f},{y(lowest):.1f}" for x, _, lowest, _ in points]
            edge += [f"{x:.1f},{y(highest):.1f}" for x, _, _, highest in reversed(points)]
            yield f'<polygon points="{" ".join(edge)}" fill="{colour}" fill-opacity="0.25"/>'
            yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.4"/>'


def _svg_lines(series: Series, time_range: TimeRange) -> Iterator[list[tuple[float, float, float, float]]]:
    """Divide the line of `series` at its gaps, and yield the points of each part.

    A point is its position on the time axis (pixels), the mean, the lowest and the highest value.
    """
    points: list[tuple[float, float, float, float]] = []
    lowest, highest = series.band or (series.values, series.values)
    for time_s, mean, low, high in zip(series.times_s, series.values, lowest, highest, strict=True):
        if mean is not None and low is not None and high is not None:
            points.append((_svg_x(time_s, time_range), mean, low, high))
        elif points:
            yield points
            points = []
    if points:
        yield points


def svg_ticks(low: float, high: float) -> list[int]:
    """Return two to six round numbers for the ticks of an axis with values from `low` to `high`.

    >>> svg_ticks(41, 78), svg_ticks(5, 5)
    ([40, 50, 60, 70, 80], [5, 6])
    """
    step = next(n * 10**power for power in range(13) for n in (1, 2, 5) if high - low <= 4 * n * 10**power)
    first = math.floor(low / step)
    last = max(math.ceil(high / step), first + 1)
    return [number * step for number in range(first, last + 1)]


def _svg_time_axis(y: float, time_range: TimeRange) -> Iterator[str]:
    """Yield the labels of the time axis: five local times as SVG texts. `y` is their vertical position, pixels."""
    span_s = time_range.end_s - time_range.begin_s
    form = "%m-%d %H:%M" if span_s > 86400 else "%H:%M" if span_s > 600 else "%H:%M:%S"
    for place, anchor in enumerate(("start", "middle", "middle", "middle", "end")):
        time_s = time_range.begin_s + span_s * place / 4
        yield _svg_text(_svg_x(time_s, time_range), y, local_time_text(time_s, form), anchor=anchor)


def _svg_x(time_s: float, time_range: TimeRange) -> float:
    """Return the position of `time_s` on the time axis, pixels.

    A time outside `time_range` has the position of the nearer end of the axis.
    """
    share = (time_s - time_range.begin_s) / max(time_range.end_s - time_range.begin_s, 1.0)
    return _LEFT + min(max(share, 0.0), 1.0) * (_WIDTH - _LEFT - _RIGHT)


def _svg_text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = "currentColor") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="fill: {fill}">{escape(text)}</text>'
