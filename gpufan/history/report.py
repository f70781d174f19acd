"""Writes a report of the history: an HTML page in one file, or a PNG."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpufan import __version__
from gpufan.errors import GpufanError
from gpufan.history.card_plots import card_on_its_curve, card_over_time, panels_over_time
from gpufan.history.day_totals import HEADINGS, NOTE, load_threshold_w, totals_by_date
from gpufan.history.local_time import local_text
from gpufan.history.plain_svg import panels_svg
from gpufan.history.plot import has_matplotlib, render, save_as_column
from gpufan.history.reader import Card, HistoryReader, TimeRange
from gpufan.system.files import write_output
from gpufan.system.resources import template

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".html", ".png")

MAX_EVENTS = 300
"""The page lists at most this many events of a card, the latest ones."""

DETAIL_S = 2 * 3600.0
"""A time range up to this length, s, is plotted from readings, a longer one from minutes."""


def write_report(reader: HistoryReader, cards: Sequence[Card], time_range: TimeRange, path: Path) -> None:
    """Write a report of `cards` in `time_range` to `path`, in the format of its suffix.

    Raises GpufanError if there are no readings, or if `path` cannot be written.
    """
    stored = reader.time_range()
    time_range = TimeRange(max(time_range.begin_s, stored.begin_s), min(time_range.end_s, stored.end_s))
    begin, end = (local_text(time_s, "%Y-%m-%d %H:%M") for time_s in time_range)
    as_png = path.suffix.lower() == ".png"
    sections = [_section(reader, card, time_range) for card in cards]
    figures = [figure for s in sections for figure in (s["over_time"], s["on_curve"]) if figure]
    if not any(section["days"] for section in sections) or (as_png and not figures):
        raise GpufanError(f"there are no readings since {begin}: leave out --last to report all that is stored")
    if as_png:
        save_as_column(figures, path)
        return
    html = template("templates/report.html.j2").render(
        title=f"gpufan: {begin} to {end}",
        sections=sections,
        headings=HEADINGS,
        note=NOTE,
        events=reader.events([], time_range),
        max_events=MAX_EVENTS,
        version=__version__,
        written=local_text(time.time()),
        inline_svg=inline_svg,
        has_matplotlib=has_matplotlib(),
        local_text=local_text,
    )
    write_output(path, html.encode(errors="replace"))


def _section(reader: HistoryReader, card: Card, time_range: TimeRange) -> dict[str, Any]:
    """The section of one card: the values for the template of the page."""
    minutes = list(reader.minutes(card, time_range))
    in_detail = time_range.end_s - time_range.begin_s <= DETAIL_S
    min_step_s = 5 if in_detail else 60
    periods = list(reader.seconds(card, time_range)) if in_detail else minutes
    events = reader.events([card], time_range)
    threshold_w = load_threshold_w(reader.peak_power_w(card))
    if has_matplotlib():
        over_time: Figure | str | None = card_over_time(card, periods, events, time_range, min_step_s)
        on_curve = card_on_its_curve(card, minutes)
    else:
        panels, marks = panels_over_time(periods, events, time_range, min_step_s)
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


def inline_svg(figure: "Figure | str", prefix: str) -> str:
    """Convert `figure` to SVG for a page, unless it is SVG already.

    Its ids begin with `prefix`; its colours follow the light or dark page.
    """
    if isinstance(figure, str):
        return figure
    text = render(figure, "svg").decode()
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
"""Colours of `gpufan.history.plot`, and the colours that replace them on the page."""
