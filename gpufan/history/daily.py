"""A card's days: how long, how hot, how loud, and what went wrong; and the tables that tell it."""

import time
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gpufan.core.sentences import clock
from gpufan.core.thermal import SOUND_EXPONENT, mean_sound_db
from gpufan.daemon.summary import HOT_C
from gpufan.errors import InputError
from gpufan.gpu.simulated import Plant
from gpufan.history.events import Event
from gpufan.history.reader import Card, Minute, Past, Span

FULL_SCALE_RPM = Plant().full_scale_rpm
"""What 100 % is taken for where a card does not tell turns: those of a GTX 1080 Ti Founders Edition."""

SOUND_NOTE = "dB(A): estimated, on the scale of a GTX 1080 Ti Founders Edition"


def minute_rpm(minute: Minute) -> float | None:
    """Speed of the fans in turns per minute; taken from percent where the card does not tell; None if neither."""
    if minute.speed_rpm.mean is not None:
        return max(minute.speed_rpm.mean, 0.0)  # what a driver says may be anything
    return None if minute.speed_percent.mean is None else max(minute.speed_percent.mean, 0.0) / 100 * FULL_SCALE_RPM


def load_from_w(highest_power_w: float) -> float:
    """Power above which a card that drew at most so much counts as under load, W.

    A third of the most, and 50 W: an idle GTX 1080 Ti with a CUDA context draws more than it does asleep.
    """
    return max(highest_power_w / 3, 50.0)


class _Average:
    def __init__(self) -> None:
        self._sum = self._seconds = 0.0

    def add(self, value: float | None, seconds: float) -> None:
        if value is not None:
            self._sum += value * seconds
            self._seconds += seconds

    @property
    def value(self) -> float | None:
        return self._sum / self._seconds if self._seconds else None


class Day:
    """What a day of one card came to; or any other span of minutes."""

    def __init__(self, load_from_w: float = 50.0) -> None:
        """`load_from_w` is the power above which the card counts as under load, W."""
        self._load_from_w = load_from_w
        self.seen_s = self.load_s = self.hot_s = self.throttled_s = self.fail_safe_s = 0.0
        self.energy_kwh = 0.0
        self.highest_c: float | None = None
        self.highest_percent: float | None = None
        """The highest duty set."""
        self.overrides = self.errors = self.gaps = 0
        self.gaps_s = 0.0
        self._temperature, self._duty, self._rpm5 = _Average(), _Average(), _Average()

    def add(self, minute: Minute) -> None:
        """Take a minute."""
        seconds, power_w = minute.seconds, minute.power_w.mean
        self.seen_s += seconds
        self.hot_s += minute.hot_s
        self.throttled_s += minute.throttled_s
        self.fail_safe_s += seconds * (minute.kind == "fail-safe")
        if power_w is not None:
            self.load_s += seconds * (power_w > self._load_from_w)
            self.energy_kwh += power_w * seconds / 3.6e6
        self._temperature.add(minute.temperature_c.mean, seconds)
        self._duty.add(minute.duty_percent.mean, seconds)
        self.highest_c = _highest(self.highest_c, minute.temperature_c.high)
        self.highest_percent = _highest(self.highest_percent, minute.duty_percent.high)
        rpm = minute_rpm(minute)
        self._rpm5.add(None if rpm is None else rpm**SOUND_EXPONENT, seconds)

    def add_event(self, event: Event, span: Span) -> None:
        """Take an event, as far as it lies within `span`."""
        begins_here = span.begin_s <= event.begin_s < span.end_s
        if event.kind == "override":
            self.overrides += event.count * begins_here
        elif event.kind == "error":
            self.errors += event.count * begins_here
        elif event.kind == "gap":
            self.gaps += begins_here
            self.gaps_s += max(min(event.end_s, span.end_s) - max(event.begin_s, span.begin_s), 0.0)

    @property
    def mean_c(self) -> float | None:
        """Mean temperature, °C; None where it was never known."""
        return self._temperature.value

    @property
    def mean_percent(self) -> float | None:
        """Mean duty set, percent; None where the driver decided all the time."""
        return self._duty.value

    @property
    def sound_db(self) -> float | None:
        """Energy mean of the sound over time, dB(A): an estimate. None where the fans never told their speed."""
        rpm5 = self._rpm5.value
        return None if rpm5 is None else mean_sound_db(rpm5)

    @property
    def trouble(self) -> list[str]:
        """What did not go as it should: `fail-safe 0:01:05`, `overrides 3`."""
        durations = {
            f"over {HOT_C:g} °C": self.hot_s,
            "throttled": self.throttled_s,
            "fail-safe": self.fail_safe_s,
        }
        found = [f"{name} {clock(seconds)}" for name, seconds in durations.items() if seconds]
        found += [f"{name} {n}" for name, n in (("overrides", self.overrides), ("errors", self.errors)) if n]
        # A gap that began the day before has no beginning here.
        if self.gaps_s:
            found.append(f"gaps {max(self.gaps, 1)} ({clock(self.gaps_s)})")
        return found


def days(past: Past, card: Card, span: Span) -> dict[str, Day]:
    """What each day of `card` within `span` came to, by its date here: `2026-11-22`."""
    load_w = load_from_w(past.highest_power_w(card))
    found: dict[str, Day] = {}
    for minute in past.minutes(card, span):
        found.setdefault(date_of(minute.time_s), Day(load_w)).add(minute)
    for event in past.events([card], span):
        for date, day in found.items():
            day.add_event(event, day_span(date))
    return found


def date_of(time_s: float) -> str:
    """The date here: `2026-11-22`."""
    return time.strftime("%Y-%m-%d", time.localtime(time_s))


def second_of(time_s: float) -> str:
    """Date and time here: `2026-11-22 03:12:05`."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))


def day_span(date: str) -> Span:
    """From midnight to midnight here. Raises ValueError where `date` is none."""
    year, month, day = time.strptime(date, "%Y-%m-%d")[:3]
    # Not 24 hours later: a day on which the clocks change has 23 or 25. mktime knows what the 32nd is.
    return Span(*(time.mktime((year, month, day + n, 0, 0, 0, 0, 0, -1)) for n in (0, 1)))


def read_day(text: str) -> Span:
    """Read `2026-11-22`, `today` or `yesterday`. Raises InputError."""
    now_s = time.time()
    # Noon, so that a change of the clocks does not make it the day before.
    today_noon_s = day_span(date_of(now_s)).begin_s + 43200
    names = {"today": date_of(now_s), "yesterday": date_of(today_noon_s - 86400)}
    try:
        return day_span(names.get(text, text))
    except (ValueError, OverflowError):
        raise InputError(f"--day '{text}' is not a date: write it as 2026-11-22, today or yesterday") from None


def print_days(past: Past, cards: Sequence[Card], span: Span) -> None:
    """Print a table for each card, with a row for each day."""
    console = Console(highlight=False)
    for card in cards:
        of_card = days(past, card, span)
        load_w = load_from_w(past.highest_power_w(card))
        console.print(Text(card.label, style="bold"), Text(f"· under load from {load_w:.0f} W on", style="dim"))
        if not of_card:
            console.print("  nothing was kept of it in this time\n")
            continue
        console.print(Text(_HEADINGS, style="dim"))
        for date, day in of_card.items():
            console.print(_line(date, day))
            if day.trouble:
                console.print(Text(f"{'':10}  {', '.join(day.trouble)}", style="yellow"))
        console.print()
    console.print(Text(f"°C and set %: mean, then highest\n{SOUND_NOTE}", style="dim"))


_COLUMNS = "{:10}  {:>6}  {:>6}  {:>3} {:>4}  {:>5} {:>4}  {:>5}  {:>6}"
_HEADINGS = _COLUMNS.format("day", "seen", "load", "°C", "max", "set %", "max", "dB(A)", "kWh")


def _line(date: str, day: Day) -> str:
    return _COLUMNS.format(
        date,
        f"{day.seen_s / 3600:.1f} h",
        f"{day.load_s / 3600:.1f} h",
        *(whole(value) for value in (day.mean_c, day.highest_c, day.mean_percent, day.highest_percent)),
        "-" if day.sound_db is None else f"{day.sound_db:.1f}",
        f"{day.energy_kwh:.2f}",
    )


def print_events(cards: Sequence[Card], events: Iterable[Event]) -> None:
    """Print each event, in order: a line for a program that reads them, as many as it takes on a terminal."""
    labels = {card.info.uuid: f"{card.label}: " for card in cards} | {"": ""}
    console = Console(highlight=False)
    rows = [(second_of(event.begin_s), labels[event.uuid] + event_text(event)) for event in events]
    if not rows:
        console.print("nothing happened that would be worth a line")
    elif console.is_terminal:
        table = Table.grid(padding=(0, 2, 0, 0))
        for when, what in rows:
            table.add_row(Text(when, style="dim", no_wrap=True), Text(what))
        console.print(table)
    else:
        for when, what in rows:
            console.print(Text(f"{when}  {what}"), soft_wrap=True)


def event_text(event: Event) -> str:
    """`fail-safe for 0:04:10: no temperature`, `override 3x in 0:01:00: ...`."""
    return f"{' '.join(filter(None, (event.kind, event_duration(event))))}: {event.text}"


def event_duration(event: Event) -> str:
    """`for 0:04:10`, `3x in 0:01:00`; empty for what happened once and at once."""
    lasted_s = event.end_s - event.begin_s
    if event.count > 1:
        return f"{event.count}x in {clock(lasted_s)}" if lasted_s >= 1 else f"{event.count}x"
    return f"for {clock(lasted_s)}" if lasted_s >= 1 else ""


def whole(value: float | None) -> str:
    """A number without its fraction; a dash where there is none."""
    return "-" if value is None else f"{value:.0f}"


def _highest(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)
