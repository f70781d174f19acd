"""Prints the history in a terminal: a table of days for each card, a list of events, or readings as CSV."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gpufan.daemon.recording import HEADER, Row, recording_csv
from gpufan.history.day_totals import HEADINGS, NOTE, load_threshold_w, totals_by_date
from gpufan.history.events import Event
from gpufan.history.local_time import local_time_text
from gpufan.history.reader import HistoryCard, HistoryReader, TimeRange

_YOUNG_S = 600.0
"""For a history of at most this length (s), a note says that it is young. Its hours and energy are still near 0."""


def print_days(reader: HistoryReader, cards: Sequence[HistoryCard], time_range: TimeRange) -> None:
    """Print a table of the days in `time_range` for each card. Raises GpufanError if the history is still empty."""
    stored = reader.time_range()
    console = Console(highlight=False)
    for card in cards:
        threshold_w = load_threshold_w(reader.peak_power_w(card))
        events = reader.events([card], time_range)
        totals = totals_by_date(reader.minutes(card, time_range), events, threshold_w)
        console.print(Text(card.label, style="bold"), Text(f"· load: above {threshold_w:.0f} W", style="dim"))
        if not totals:
            console.print("  no readings in this time\n")
            continue
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for heading in HEADINGS:
            table.add_column(heading.replace(" ", "\n"), justify="right" if " " in heading else "left", no_wrap=True)
        table.add_column("problems", style="yellow")
        for date, day in totals.items():
            table.add_row(date, *day.cells, "\n".join(day.problems))
        console.print(table)
        console.print()
    console.print(Text(NOTE, style="dim"))
    if stored.end_s - stored.begin_s <= _YOUNG_S:
        begin_s = next((row.time_s for row in reader.readings(reader.cards(), stored)), stored.begin_s)
        console.print(f"this history is a few minutes old: it begins at {local_time_text(begin_s)}")


def print_events(cards: Sequence[HistoryCard], events: Iterable[Event]) -> None:
    """Print `events`. On a terminal they are a table. Elsewhere each event is one line, so that a program can read it.

    `cards` are the cards of the events.
    """
    labels = {card.uuid: f"{card.label}: " for card in cards} | {"": ""}
    console = Console(highlight=False)
    rows = [(local_time_text(event.begin_s), labels[event.uuid] + event.summary) for event in events]
    if not rows:
        console.print("no events in this time")
    elif console.is_terminal:
        table = Table.grid(padding=(0, 2, 0, 0))
        for when, text in rows:
            table.add_row(Text(when, style="dim", no_wrap=True), Text(text))
        console.print(table)
    else:
        for when, text in rows:
            console.print(Text(f"{when}  {text}"), soft_wrap=True)


def print_csv(rows: Iterator[Row]) -> None:
    """Print `rows` as CSV in the format of a recording."""
    print(HEADER, end="")
    while batch := list(islice(rows, 1000)):  # a week of rows would need much memory
        print(recording_csv(batch), end="")
