"""Draws plots with matplotlib: panels of measurements over time, and a curve with the points of a card.

`pip install 'gpufan[plot]'` installs matplotlib. Only the functions that draw import matplotlib. The values to draw are
plain numbers, so that the plots of simulations, recordings and the history look the same:

    check_plot_path(path)  # before long work
    figure = draw_time_panels([Panel("temperature", "°C", [Series("curve", times_s, temperatures_c)])])
    save_figure(figure, path)
"""

import io
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpufan.core.curve import Curve
from gpufan.errors import InputError, MissingExtra
from gpufan.system.files import write_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that colour-blind people can distinguish too (Okabe and Ito, Color Universal Design, 2008)."""

_GREY = "#777777"

# It warns that it cannot write to the home folder of the user. Pictures need no home folder.
logging.getLogger("matplotlib").setLevel(logging.ERROR)

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
    "text.parse_math": False,  # the name of a card is never a formula
    "svg.fonttype": "none",  # text stays text, to be searched, read aloud and copied
    "svg.hashsalt": "gpufan",  # the same plot gives the same file
}

_WIDTH_IN, _PANEL_IN, _DPI = 9.0, 1.9, 120

_LEGEND_LETTERS = 130
"""Number of letters that fit into one line of a legend."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a panel. Lines with the same name have the same colour in all panels."""

    name: str
    times_s: Sequence[float]
    values: Sequence[float | None]
    """The value at each time in `times_s`. None makes a gap in the line."""
    band: tuple[Sequence[float | None], Sequence[float | None]] | None = None
    """The lowest and the highest values at each time, if `values` are means; else None."""


@dataclass(frozen=True, slots=True)
class Panel:
    """The plot of one measurement over time."""

    quantity: str
    """Label of the axis: `temperature`."""
    unit: str
    series: Sequence[Series]
    levels: Sequence[tuple[float, str]] = ()
    """Horizontal lines, each with a label: `(80, "limit")`."""
    limits: tuple[float, float] | None = None
    """Lower and upper end of the axis. With None, the ends follow from the values."""


@dataclass(frozen=True, slots=True)
class Mark:
    """An event in a plot. An event with a duration is a stripe across all panels. Any other event is a line."""

    begin_s: float
    end_s: float
    name: str
    colour: str


def has_matplotlib() -> bool:
    """Whether matplotlib is installed, in a version that can draw these plots. Debian 12 has 3.6, which cannot."""
    if find_spec("matplotlib") is None:
        return False
    major, minor = metadata.version("matplotlib").split(".")[:2]
    return (int(major), int(minor)) >= (3, 7)


def check_plot_path(path: Path, suffixes: Sequence[str] = (".svg", ".png")) -> None:
    """Raise InputError if no plot can be written to `path`.

    The reason can be a suffix that is not in `suffixes`, a path that is not a file, or a missing folder. Raises
    MissingExtra if matplotlib is not installed, unless the suffix of `path` is `.html`.
    """
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{path}: unknown format: name a file that ends in {' or '.join(suffixes)}")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} cannot be written: it is not a file: name another --output")
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: no such folder: create it, or name another --output")
    if path.suffix.lower() != ".html" and not has_matplotlib():
        raise MissingExtra("pictures need", "matplotlib 3.7 or newer", "plot")


def draw_time_panels(
    panels: Sequence[Panel], *, title: str = "", wall_clock: bool = False, marks: Sequence[Mark] = ()
) -> "Figure":
    """Draw `panels` one below the other, with one time axis for all of them. `marks` are drawn across all panels.

    The axis shows the time since the first value. With `wall_clock`, all times are seconds since the epoch, and the
    axis shows local date and time.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_IN, _PANEL_IN * len(panels) + 0.8), layout="constrained")
        axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
        all_series = [series for panel in panels for series in panel.series]
        names = dict.fromkeys(series.name for series in all_series)
        colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}
        first_s = min((series.times_s[0] for series in all_series if series.times_s), default=0.0)
        last_s = max((series.times_s[-1] for series in all_series if series.times_s), default=0.0)
        unit, unit_s = ("h", 3600) if last_s - first_s > 2 * 3600 else ("min", 60)

        def positions(times_s: Sequence[float]) -> list[Any]:
            if wall_clock:
                return [datetime.fromtimestamp(t, timezone.utc).astimezone() for t in times_s]
            return [(t - first_s) / unit_s for t in times_s]

        handles: dict[str, Any] = {}
        for panel, area in zip(panels, axes, strict=True):
            handles |= _draw_panel(area, panel, positions, colours)
        for mark in marks:
            begin, end = positions([mark.begin_s, mark.end_s])
            # The edge is visible even if the stripe is narrower than a pixel.
            face, edge = f"{mark.colour}40", f"{mark.colour}a0"
            for area in axes:
                handles[mark.name] = area.axvspan(begin, end, facecolor=face, edgecolor=edge, zorder=0.9)
        if wall_clock:
            _set_date_axis(axes[-1])
        else:
            axes[-1].set_xlabel(f"time, {unit}")
        figure.align_ylabels(list(axes))
        axes[0].set_title(title, loc="left")
        if len(handles) > 1:
            columns = max(_LEGEND_LETTERS // (max(map(len, handles)) + 8), 1)
            figure.legend(handles.values(), handles, loc="outside upper center", ncols=min(len(handles), columns))
        return figure


def _draw_panel(
    area: "Axes", panel: Panel, positions: Callable[[Sequence[float]], list[Any]], colours: Mapping[str, str]
) -> dict[str, Any]:
    """Draw `panel` into `area`. Returns the drawn lines for the legend, by the name of their series.

    `positions` converts times (s) to positions on the time axis. `colours` are the colours by the name of the series.
    """
    handles = {}
    for series in panel.series:
        x, colour = positions(series.times_s), colours[series.name]
        (handles[series.name],) = area.plot(x, _matplotlib_values(series.values), color=colour)
        if series.band is not None:
            lowest, highest = map(_matplotlib_values, series.band)
            area.fill_between(x, lowest, highest, color=colour, alpha=0.25, linewidth=0)
    for value, label in panel.levels:
        area.axhline(value, color=_GREY, linewidth=0.9, linestyle=(0, (4, 3)))
        at = area.get_yaxis_transform()  # x is a share of the width, y a value
        area.text(0.998, value, label, transform=at, ha="right", va="bottom", fontsize=8, color=_GREY)
    area.set_ylabel(f"{panel.quantity}, {panel.unit}")
    area.margins(x=0)
    if panel.limits is not None:
        area.set_ylim(panel.limits)
    return handles


def draw_curve_with_points(
    curve: Curve | None, points: Iterable[tuple[float, float]], *, target_c: float | None = None, title: str = ""
) -> "Figure":
    """Draw `curve`, a line at `target_c` (°C), and a dot for each of `points` (°C, percent).

    A curve or target that is None is not drawn. Points that are equal after rounding to whole numbers share one dot.
    The size of the dot grows with the number of these points.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6, 4), layout="constrained")
        area = figure.subplots()
        counts = Counter((round(temperature_c), round(duty)) for temperature_c, duty in points)
        if counts:
            # The area is proportional to the count, but every dot can be seen.
            sizes = [max(300 * count / max(counts.values()), 6) for count in counts.values()]
            x, y = zip(*counts, strict=True)
            area.scatter(x, y, s=sizes, color=_COLOURS[0], alpha=0.5, linewidths=0)
            area.scatter([], [], s=30, color=_COLOURS[0], alpha=0.5, linewidths=0, label="where the card was")
        if curve is not None:
            numbers = [(t, d) for t, d in curve.points if d is not None]
            seen_c = [temperature_c for temperature_c, _ in counts]
            all_c = sorted({min([20.0, *seen_c]), *(t for t, _ in numbers), max([95.0, *seen_c])})
            # Below a first point that says auto there is no duty.
            shape = [(t, duty) for t in all_c if (duty := curve.duty_at(t)) is not None]
            area.plot(*zip(*shape, strict=True), color=_COLOURS[1], label="curve")
            area.plot(*zip(*numbers, strict=True), "o", color=_COLOURS[1], markersize=4)
        if target_c is not None:
            area.axvline(target_c, color=_COLOURS[1], label=f"target {target_c:g} °C")
        area.set(xlabel="temperature, °C", ylabel="duty, %", ylim=(0, 104))
        area.set_title(title, loc="left")
        if counts and (curve is not None or target_c is not None):
            figure.legend(loc="outside upper center", ncols=2)
        return figure


def render_figure(figure: "Figure", format: str) -> bytes:
    """Return `figure` as the content of an image file. `format` is `svg` or `png`."""
    import matplotlib

    data = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        # No date, so that the same plot gives the same file.
        figure.savefig(data, format=format, dpi=_DPI, metadata={"Date": None} if format == "svg" else {})
    return data.getvalue()


def save_figure(figure: "Figure", path: Path) -> None:
    """Write `figure` to the file `path`. The suffix of `path` is the format: `.svg` or `.png`.

    Raises GpufanError if `path` cannot be written.
    """
    write_output(path, render_figure(figure, path.suffix.lower().removeprefix(".")))


def save_figures(figures: Sequence["Figure"], path: Path) -> None:
    """Write all `figures` to `path` as one PNG image, one figure below the other.

    Raises GpufanError if `path` cannot be written.
    """
    from PIL import Image  # a dependency of matplotlib

    images = [Image.open(io.BytesIO(render_figure(figure, "png"))) for figure in figures]
    canvas = Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)), "white")
    top = 0
    for image in images:
        canvas.paste(image, (0, top))
        top += image.height
    data = io.BytesIO()
    canvas.save(data, "PNG")
    write_output(path, data.getvalue())


def _matplotlib_values(values: Sequence[float | None]) -> list[float]:
    """Return `values` with NaN in place of None. matplotlib draws NaN as a gap."""
    return [math.nan if value is None else value for value in values]


def _set_date_axis(area: "Axes") -> None:
    """Label the time axis of `area` in the style of ISO 8601: `11-22` at a tick, `2026-11` at the end of the axis."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    here = datetime.now(timezone.utc).astimezone().tzinfo
    locator = AutoDateLocator(tz=here)
    ticks = ["%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M", "%S.%f"]
    corners = ["", "%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%d", "%Y-%m-%d %H:%M"]
    zeros = ["", "%Y", "%m-%d", "%m-%d", "%H:%M", "%H:%M"]
    area.xaxis.set_major_locator(locator)
    area.xaxis.set_major_formatter(ConciseDateFormatter(locator, here, ticks, corners, zero_formats=zeros))
