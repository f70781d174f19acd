"""Pictures: quantities over time in stacked panels, and a curve with the points where a card lived.

matplotlib draws them; it comes with `pip install 'gpufan[plot]'`, and is loaded only by who asks for a picture. What
is drawn is told in plain numbers, so that a simulation, a recording and a history are drawn alike:

    check_output(path)  # before the work, not after it
    figure = time_panels([Panel("temperature", "°C", [Series("curve", times_s, temperatures_c)])])
    save(figure, path)
"""

import io
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpufan.core.curve import Curve
from gpufan.errors import InputError, MissingExtra
from gpufan.system.files import write_output as put

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by the colour-blind too (Okabe and Ito, Color Universal Design, 2008)."""

_GREY = "#777777"

_STYLE: dict[str, Any] = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "text.parse_math": False,  # a card's name is no formula, whatever stands in it
    "svg.fonttype": "none",  # text stays text: to be searched, read aloud and copied
    "svg.hashsalt": "gpufan",  # the same picture is the same file
}

_WIDTH_IN, _PANEL_IN, _DPI = 9.0, 1.9, 120

_LEGEND_LETTERS = 130

_SUFFIXES = {".svg": "svg", ".png": "png"}


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a panel. Lines of one name have one colour in all panels."""

    name: str
    times_s: Sequence[float]
    values: Sequence[float | None]
    """None leaves a gap."""
    band: tuple[Sequence[float | None], Sequence[float | None]] | None = None
    """The least and the most that each value stands for, where it is a mean."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One quantity over time."""

    quantity: str
    """What the axis says: `temperature`."""
    unit: str
    """`°C`"""
    series: Sequence[Series]
    levels: Sequence[tuple[float, str]] = ()
    """Values to be marked by a line across, each with what it means: `(80, "limit")`."""
    limits: tuple[float, float] | None = None
    """Ends of the axis; None lets the values choose."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened, shown across all panels: as a line, or as a stripe where it lasted."""

    begin_s: float
    end_s: float
    name: str
    colour: str


def check_output(path: Path, suffixes: Sequence[str] = (".svg", ".png")) -> None:
    """Make sure that a picture can be written to `path`.

    Raises InputError for another suffix than `suffixes`, a folder that is not there, or without matplotlib.
    """
    if path.suffix.lower() not in suffixes:
        kinds = " or ".join(suffix[1:].upper() for suffix in suffixes)
        raise InputError(f"{path}: it is written as {kinds}: name a file that ends in {' or '.join(suffixes)}")
    is_other = path.exists() and not path.is_file()
    if is_other or not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: {'it is not a file' if is_other else 'no such folder'}")
    if find_spec("matplotlib") is None:
        raise MissingExtra("pictures need", "matplotlib", "plot")


def time_panels(
    panels: Sequence[Panel], *, title: str = "", wall_clock: bool = False, marks: Sequence[Mark] = ()
) -> "Figure":
    """Stacked panels over one time axis: from the first moment on, or with `wall_clock` by local date and time.

    Times are in s; with `wall_clock` since the epoch.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_IN, _PANEL_IN * len(panels) + 0.8), layout="constrained")
        axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
        names = list(dict.fromkeys(series.name for panel in panels for series in panel.series))
        times_s = [series.times_s for panel in panels for series in panel.series if len(series.times_s)]
        first_s = min((times[0] for times in times_s), default=0.0)
        last_s = max((times[-1] for times in times_s), default=0.0)
        in_hours = last_s - first_s > 2 * 3600

        def places(times_s: Sequence[float]) -> list[Any]:
            if wall_clock:
                return [datetime.fromtimestamp(t, timezone.utc).astimezone() for t in times_s]
            return [(t - first_s) / (3600 if in_hours else 60) for t in times_s]

        handles: dict[str, Any] = {}
        for panel, area in zip(panels, axes, strict=True):
            for series in panel.series:
                x = places(series.times_s)
                colour = _COLOURS[names.index(series.name) % len(_COLOURS)]
                (handles[series.name],) = area.plot(x, _numbers(series.values), color=colour)
                if series.band is not None:
                    area.fill_between(x, *map(_numbers, series.band), color=colour, alpha=0.25, linewidth=0)
            _mark_levels(area, panel.levels)
            area.set_ylabel(f"{panel.quantity}, {panel.unit}")
            area.margins(x=0)
            if panel.limits is not None:
                area.set_ylim(panel.limits)
        for mark in marks:
            # Its edge shows it where it lasted for less than a pixel.
            begin, end = places([mark.begin_s, mark.end_s])
            for area in axes:
                face, edge = f"{mark.colour}40", f"{mark.colour}a0"
                handles[mark.name] = area.axvspan(begin, end, facecolor=face, edgecolor=edge, zorder=0.9)
        if wall_clock:
            _date_axis(axes[-1])
        else:
            axes[-1].set_xlabel(f"time, {'h' if in_hours else 'min'}")
        figure.align_ylabels(list(axes))
        axes[0].set_title(title, loc="left")
        if len(handles) > 1:
            # About as many names as fit beside each other.
            columns = max(_LEGEND_LETTERS // (max(map(len, handles)) + 8), 1)
            figure.legend(handles.values(), handles, loc="outside upper center", ncols=min(len(handles), columns))
        return figure


def curve_with_points(
    curve: Curve | None, points: Iterable[tuple[float, float]], *, target_c: float | None = None, title: str = ""
) -> "Figure":
    """`curve`, and `points` of °C and percent where a card was: the larger the dot, the longer it was there.

    `target_c` is the temperature that was to be held, where it was that and no curve.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6, 4), layout="constrained")
        area = figure.subplots()
        counts = Counter((round(temperature_c), round(duty)) for temperature_c, duty in points)
        if counts:
            longest = max(counts.values())
            # A tenth of the time is a tenth of the area, but nothing is too small to be seen.
            sizes = [max(300 * count / longest, 6) for count in counts.values()]
            x, y = zip(*counts, strict=True)
            area.scatter(x, y, s=sizes, color=_COLOURS[0], alpha=0.5, linewidths=0)
            area.scatter([], [], s=30, color=_COLOURS[0], alpha=0.5, linewidths=0, label="where the card was")
        if curve is not None:
            numbers = [(t, d) for t, d in curve.points if d is not None]
            low, high = min((20.0, *(t for t, _ in counts))), max((95.0, *(t for t, _ in counts)))
            # Flat outside its points; below one that says auto the fans are the driver's.
            start = [] if numbers[0] != curve.points[0] else [(min(low, numbers[0][0]), numbers[0][1])]
            shape = [*start, *numbers, (max(high, numbers[-1][0]), numbers[-1][1])]
            area.plot(*zip(*shape, strict=True), color=_COLOURS[1], label="curve")
            area.plot(*zip(*numbers, strict=True), "o", color=_COLOURS[1], markersize=4)
        if target_c is not None:
            area.axvline(target_c, color=_COLOURS[1], label=f"target {target_c:g} °C")
        area.set_xlabel("temperature, °C")
        area.set_ylabel("duty, %")
        area.set_ylim(0, 104)
        area.set_title(title, loc="left")
        if counts and (curve is not None or target_c is not None):
            figure.legend(loc="outside upper center", ncols=2)
        return figure


def render(figure: "Figure", kind: str) -> bytes:
    """`figure` as a file of `kind` `svg` or `png`."""
    import matplotlib

    data = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        # No date, so that the same picture is the same file.
        figure.savefig(data, format=kind, dpi=_DPI, metadata={"Date": None} if kind == "svg" else {})
    return data.getvalue()


def save(figure: "Figure", path: Path) -> None:
    """Write `figure` to `path`, as its suffix says. Raises InputError as `check_output`, or GpufanError."""
    check_output(path)
    put(path, render(figure, _SUFFIXES[path.suffix.lower()]))


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _mark_levels(area: "Axes", levels: Sequence[tuple[float, str]]) -> None:
    for value, meaning in levels:
        area.axhline(value, color=_GREY, linewidth=0.9, linestyle=(0, (4, 3)))
        area.annotate(
            meaning,
            (1, value),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 2),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=_GREY,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5},
        )


def _date_axis(area: "Axes") -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    here = datetime.now(timezone.utc).astimezone().tzinfo
    locator = AutoDateLocator(tz=here)
    area.xaxis.set_major_locator(locator)
    area.xaxis.set_major_formatter(
        ConciseDateFormatter(
            locator,
            here,
            ["%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M", "%S.%f"],
            offset_formats=["", "%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%d", "%Y-%m-%d %H:%M"],
            zero_formats=["", "%Y", "%m-%d", "%m-%d", "%H:%M", "%H:%M"],
        )
    )
