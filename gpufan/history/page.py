"""The report: one HTML file that needs nothing beside it, or a picture."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpufan import __version__
from gpufan.errors import GpufanError
from gpufan.history import chart
from gpufan.history.daily import SOUND_NOTE, Day, days, event_duration, load_from_w, second_of, whole
from gpufan.history.events import Event
from gpufan.history.plot import render
from gpufan.history.reader import Card, Past, Span
from gpufan.system.files import write_output as put
from gpufan.system.resources import template

SUFFIXES = (".html", ".png")

EVENTS = 300
"""So many of a card are listed at most, the newest."""


def write_report(past: Past, cards: Sequence[Card], span: Span, path: Path) -> None:
    """Write what `cards` did within `span` to `path`, as its suffix says.

    Raises GpufanError where it cannot be written, or where there is nothing to write.
    """
    begin_s, end_s = past.span()
    span = Span(max(span.begin_s, begin_s), min(span.end_s, end_s))
    if path.suffix.lower() == ".png":
        figures = [
            figure
            for card in cards
            for figure in (
                chart.card_over_time(past, card, span, past.events([card], span), title=card.label),
                chart.card_on_its_curve(past, card, span, title=f"{card.label}: {card.settings}"),
            )
            if figure is not None
        ]
        if not figures:
            raise _nothing(span)
        chart.save_png(figures, path)
        return
    sections = [_section(past, card, span, number) for number, card in enumerate(cards)]
    if not any(section["days"] for section in sections):
        raise _nothing(span)
    html = template("templates/report.html.j2").render(
        title=f"gpufan: {_minute(span.begin_s)} to {_minute(span.end_s)}",
        cards=sections,
        events=[_event(event) for event in past.events([], span)[-EVENTS:]],
        note=SOUND_NOTE,
        version=__version__,
        written=_minute(time.time()),
    )
    put(path, html.encode(errors="replace"))


def _nothing(span: Span) -> GpufanError:
    return GpufanError(
        f"nothing was kept from {_minute(span.begin_s)} on: leave out --last and --day to see what there is"
    )


def _section(past: Past, card: Card, span: Span, number: int) -> dict[str, Any]:
    """What the template says of a card."""
    of_card = [event for event in past.events([card], span) if event.uuid]
    over_time = chart.card_over_time(past, card, span, past.events([card], span))
    on_curve = chart.card_on_its_curve(past, card, span)
    return {
        "label": card.label,
        "uuid": card.info.uuid,
        "pci": card.info.pci,
        "settings": card.settings,
        "load_w": whole(load_from_w(past.highest_power_w(card))),
        "days": [{"date": date, **_day(day)} for date, day in days(past, card, span).items()],
        "over_time": over_time and inline(render(over_time, "svg"), f"c{number}t"),
        "on_curve": on_curve and inline(render(on_curve, "svg"), f"c{number}c"),
        "events": [_event(event) for event in of_card[-EVENTS:]],
        "events_left_out": max(len(of_card) - EVENTS, 0),
    }


def _day(day: Day) -> dict[str, str]:
    return {
        "seen": f"{day.seen_s / 3600:.1f}",
        "load": f"{day.load_s / 3600:.1f}",
        "mean_c": whole(day.mean_c),
        "highest_c": whole(day.highest_c),
        "mean_percent": whole(day.mean_percent),
        "highest_percent": whole(day.highest_percent),
        "sound": "-" if day.sound_db is None else f"{day.sound_db:.1f}",
        "energy": f"{day.energy_kwh:.2f}",
        "trouble": ", ".join(day.trouble),
    }


def _event(event: Event) -> dict[str, str]:
    return {
        "when": second_of(event.begin_s),
        "kind": event.kind,
        "lasted": event_duration(event),
        "text": event.text,
    }


def inline(svg: bytes, prefix: str) -> str:
    """`svg` as part of a page: in the page's colours, light or dark, and with names that are its own."""
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    for written, variable in _COLOURS.items():
        text = text.replace(written, variable)
    return text


_COLOURS = {
    "#ffffff": "none",
    "#000000": "currentColor",
    "#e4e4e4": "var(--grid)",
    "#777777": "var(--grey)",
    "#0072b2": "var(--blue)",
    "#d55e00": "var(--red)",
}
"""What `gpufan.report.plot` draws in, and what the page calls it."""


def _minute(time_s: float) -> str:
    return second_of(time_s)[:-3]
