"""Totals of a card for a day: recorded time, temperature, duty, sound, energy, and problems. No output."""

from collections.abc import Iterable, Sequence

from gpufan.core.sentences import clock
from gpufan.core.thermal import SOUND_EXPONENT, mean_sound_db
from gpufan.daemon.summary import HOT_C
from gpufan.gpu.simulated import Plant
from gpufan.history.aggregate import Aggregate, Aggregator
from gpufan.history.events import Event, EventKind
from gpufan.history.local_time import date_text, day_range
from gpufan.history.reader import Period, TimeRange

FULL_SCALE_RPM = Plant().full_scale_rpm
"""Speed at 100 % where a card reports no rpm: that of a GTX 1080 Ti Founders Edition."""

HEADINGS = ("day", "seen h", "load h", "mean °C", "max °C", "mean %", "max %", "sound dB(A)", "energy kWh")
"""Names and units of a date and of `DayTotals.cells`."""

NOTE = "seen: time with readings; %: duty set; sound: estimated, on the scale of a GTX 1080 Ti Founders Edition"
"""Explains `HEADINGS`."""


def load_threshold_w(peak_power_w: float) -> float:
    """Power above which a card with this peak power counts as under load, W.

    A third of the peak, and at least 50 W: an idle GTX 1080 Ti with a CUDA context draws more than one without.
    """
    return max(peak_power_w / 3, 50.0)


def fan_rpm(period: Period) -> float | None:
    """Mean speed of the fans, rpm; estimated from percent where the card reports no rpm; None without either."""
    if period.speed_rpm.mean is not None:
        return max(period.speed_rpm.mean, 0.0)  # a driver may report anything
    return None if period.speed_percent.mean is None else max(period.speed_percent.mean, 0.0) / 100 * FULL_SCALE_RPM


class DayTotals:
    """Totals of one card for a day, or for any other set of periods."""

    def __init__(self, load_threshold_w: float = 50.0) -> None:
        """`load_threshold_w` is the power above which the card counts as under load, W."""
        self._load_threshold_w = load_threshold_w
        self.seen_s = self.load_s = self.hot_s = self.throttled_s = self.fail_safe_s = 0.0
        self.energy_kwh = 0.0
        self.temperature_c, self.duty_percent = Aggregator(), Aggregator()
        self._sound_energy = Aggregator()
        self.overrides = self.errors = self.gaps = 0
        self.gaps_s = 0.0

    def add(self, period: Period) -> None:
        """Add the measurements of a period."""
        seconds, power_w, rpm = period.seconds, period.power_w.mean, fan_rpm(period)
        self.seen_s += seconds
        self.hot_s += period.hot_s
        self.throttled_s += period.throttled_s
        self.fail_safe_s += period.fail_safe_s
        if power_w is not None:
            self.load_s += seconds * (power_w > self._load_threshold_w)
            self.energy_kwh += power_w * seconds / 3.6e6
        self.temperature_c.add(period.temperature_c, seconds)
        self.duty_percent.add(period.duty_percent, seconds)
        self._sound_energy.add(Aggregate.single(None if rpm is None else rpm**SOUND_EXPONENT), seconds)

    def add_event(self, event: Event, time_range: TimeRange) -> None:
        """Add the part of an event that lies in `time_range`."""
        begins_here = time_range.begin_s <= event.begin_s < time_range.end_s
        if event.kind is EventKind.OVERRIDE:
            self.overrides += event.count * begins_here
        elif event.kind is EventKind.ERROR:
            self.errors += event.count * begins_here
        elif event.kind is EventKind.GAP:
            self.gaps += begins_here
            self.gaps_s += max(min(event.end_s, time_range.end_s) - max(event.begin_s, time_range.begin_s), 0.0)

    @property
    def sound_db(self) -> float | None:
        """Energy mean of the sound over time, dB(A), estimated; None where the speed of the fans is not known."""
        return None if self._sound_energy.mean is None else mean_sound_db(self._sound_energy.mean)

    @property
    def problems(self) -> list[str]:
        """Durations and counts of all that went wrong: `fail-safe 0:01:05`, `overrides 3`."""
        durations = {f"over {HOT_C:g} °C": self.hot_s, "throttled": self.throttled_s, "fail-safe": self.fail_safe_s}
        counts = {"overrides": self.overrides, "errors": self.errors}
        return [
            *(f"{name} {clock(seconds)}" for name, seconds in durations.items() if seconds),
            *(f"{name} {count}" for name, count in counts.items() if count),
            # A gap that began on the day before is not in the count.
            *([f"gaps {max(self.gaps, 1)} ({clock(self.gaps_s)})"] if self.gaps_s else []),
        ]

    @property
    def cells(self) -> tuple[str, ...]:
        """The values as text, in the order of `HEADINGS`, without the date."""
        return (
            f"{self.seen_s / 3600:.1f}",
            f"{self.load_s / 3600:.1f}",
            *(
                "-" if value is None else f"{value:.0f}"
                for total in (self.temperature_c, self.duty_percent)
                for value in (total.mean, total.highest)
            ),
            "-" if self.sound_db is None else f"{self.sound_db:.1f}",
            f"{self.energy_kwh:.2f}",
        )


def totals_by_date(periods: Iterable[Period], events: Sequence[Event], load_threshold_w: float) -> dict[str, DayTotals]:
    """Totals of one card for each local date that has readings: `2026-11-22`."""
    totals: dict[str, DayTotals] = {}
    for period in periods:
        totals.setdefault(date_text(period.time_s), DayTotals(load_threshold_w)).add(period)
    for date, day in totals.items():
        time_range = day_range(date)
        for event in events:
            day.add_event(event, time_range)
    return totals
