"""Writes a report of the history: an HTML page in one file, or a PNG image."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpufan import __version__
from gpufan.errors import GpufanError
from gpufan.history.card_plots import card_panels, plot_card_on_curve, plot_card_over_time
from gpufan.history.day_totals import HEADINGS, NOTE, load_threshold_w, totals_by_date
from gpufan.history.local_time import local_time_text
from gpufan.history.plain_svg import panels_svg
from gpufan.history.plot import has_matplotlib, render_figure, save_figures
from gpufan.history.reader import HistoryCard, HistoryReader, TimeRange
from gpufan.system.files import write_output
from gpufan.system.resources import template

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".html", ".png")

MAX_EVENTS = 300
"""The page lists at most this many events of each card. Older events are left out."""

DETAIL_S = 2 * 3600.0
"""A time range of at most this length (s) is plotted from readings. A longer range is plotted from minutes."""


def write_report(reader: HistoryReader, cards: Sequence[HistoryCard], time_range: TimeRange, path: Path) -> None:
    """Write a report of `cards` in `time_range` to `path`. The suffix of `path`, `.html` or `.png`, is the format.

    Raises GpufanError if there are no readings, or if `path` cannot be written.
    """
    stored = reader.time_range()
    time_range = TimeRange(max(time_range.begin_s, stored.begin_s), min(time_range.end_s, stored.end_s))
    begin, end = (local_time_text(time_s, "%Y-%m-%d %H:%M") for time_s in time_range)
    as_png = path.suffix.lower() == ".png"
    sections = [_report_section(reader, card, time_range) for card in cards]
    figures = [figure for s in sections for figure in (s["over_time"], s["on_curve"]) if figure]
    if not any(section["days"] for section in sections) or (as_png and not figures):
        raise GpufanError(f"there are no readings since {begin}: leave out --last to report all that is stored")
    if as_png:
        save_figures(figures, path)
        return
    html = template("templates/report.html.j2").render(
        title=f"gpufan: {begin} to {end}",
        sections=sections,
        headings=HEADINGS,
        note=NOTE,
        events=reader.events([], time_range),
        max_events=MAX_EVENTS,
        version=__version__,
        written=local_time_text(time.time()),
        report_svg=report_svg,
        has_matplotlib=has_matplotlib(),
        local_time_text=local_time_text,
    )
    write_output(path, html.encode(errors="replace"))


def _report_section(reader: HistoryReader, card: HistoryCard, time_range: TimeRange) -> dict[str, Any]:
    """Return the values, by name, with which the template of the page makes the section of `card`."""
    minutes = list(reader.minutes(card, time_range))
    in_detail = time_range.end_s - time_range.begin_s <= DETAIL_S
    min_step_s = 5 if in_detail else 60
    periods = list(reader.seconds(card, time_range)) if in_detail else minutes
    events = reader.events([card], time_range)
    threshold_w = load_threshold_w(reader.peak_power_w(card))
    if has_matplotlib():
        over_time: Figure | str | None = plot_card_over_time(card, periods, events, time_range, min_step_s)
        on_curve = plot_card_on_curve(card, minutes)
    else:
        panels, marks = card_panels(periods, events, time_range, min_step_s)
        over_time = panels_svg(panels, marks, time_range) if panels else None
        on_curve = None
    return {
        "card": card,
        "load_threshold_w": threshold_w,
        "days": totals_by_date(minutes, events, threshold_w),
        "events": [event for event in events if event.uuid],
        "over_time": over_time,
        "on_curve": on_curve,
    }


def report_svg(figure: "Figure | str", prefix: str) -> str:
    """Return `figure` as SVG elements for the page of the report.

    If `figure` is a text, it is SVG already and is returned unchanged. Otherwise the ids of the elements begin with
    `prefix`, and the colours change with the light or dark style of the page.
    """
    if isinstance(figure, str):
        return figure
    text = render_figure(figure, "svg").decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    for colour, replacement in _COLOURS.items():
        text = text.replace(colour, replacement)
    return text


_COLOURS = {
    "#ffffff": "none",
    "#000000": "currentColor",
    "#e4e4e4": "var(--grid)",
    "#777777": "var(--grey)",
    "#0072b2": "var(--blue)",
    "#d55e00": "var(--red)",
}
"""Colours of `gpufan.history.plot`, each with the colour that replaces it on the page."""
