"""Totals of a card for a day: recorded time, load, temperature, duty, sound, energy and problems. Prints nothing."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from gpufan.core.sentences import h_mm_ss
from gpufan.core.thermal import SOUND_EXPONENT, mean_sound_db
from gpufan.daemon.summary import HOT_C
from gpufan.history.aggregate import Aggregate, combine
from gpufan.history.events import Event, EventKind
from gpufan.history.local_time import date_text, day_range
from gpufan.history.reader import Period, TimeRange

HEADINGS = ("day", "seen h", "load h", "mean °C", "max °C", "mean %", "max %", "sound dB(A)", "energy kWh")
"""The headings of the table, with units: first that of the date, then one for each value in `DayTotals.cells`."""

NOTE = "seen: time with readings; %: duty set; sound: estimated, on the scale of a GTX 1080 Ti Founders Edition"
"""A line that explains `HEADINGS`. It is printed below the table."""


def load_threshold_w(peak_power_w: float) -> float:
    """Return the power (W) above which a card counts as under load. `peak_power_w` is the card's highest known power.

    The result is a third of the highest power, but at least 50 W. A CUDA context alone raises the power of an idle
    GTX 1080 Ti.
    """
    return max(peak_power_w / 3, 50.0)


class DayTotals:
    """Totals of one card for a day, or for any other set of periods."""

    def __init__(
        self, periods: Sequence[Period], load_threshold_w: float, events: Iterable[Event], time_range: TimeRange
    ) -> None:
        """Compute the totals of all `periods`, and of those `events` that overlap `time_range`.

        The card counts as under load if its power is above `load_threshold_w` watts. Only the part of an event in
        `time_range` counts as its duration. The number of events counts only those that begin in `time_range`.
        """
        begin_s, end_s = time_range
        self.seen_s = sum(period.seconds for period in periods)
        self.hot_s = sum(period.hot_s for period in periods)
        self.throttled_s = sum(period.throttled_s for period in periods)
        self.fail_safe_s = sum(period.fail_safe_s for period in periods)
        powers = [(period.power_w.mean, period.seconds) for period in periods if period.power_w is not None]
        self.load_s = sum(seconds for power_w, seconds in powers if power_w > load_threshold_w)
        self.energy_kwh = sum(power_w * seconds for power_w, seconds in powers) / 3.6e6
        self.temperature_c = combine((period.temperature_c, period.seconds) for period in periods)
        self.duty_percent = combine((period.duty_percent, period.seconds) for period in periods)
        speeds = [(rpm, period.seconds) for period in periods if (rpm := period.fan_rpm) is not None]
        speeds_s = sum(seconds for _, seconds in speeds)
        energy = sum(rpm**SOUND_EXPONENT * seconds for rpm, seconds in speeds)
        self.sound_db = mean_sound_db(energy / speeds_s) if speeds_s else None
        """Estimated sound of the fans, dB(A): the energy mean over time. None if the speed of the fans is unknown."""
        counts: Counter[EventKind] = Counter()
        durations_s = dict.fromkeys(EventKind, 0.0)
        for event in events:
            counts[event.kind] += event.count * (begin_s <= event.begin_s < end_s)
            durations_s[event.kind] += max(min(event.end_s, end_s) - max(event.begin_s, begin_s), 0.0)
        self.overrides, self.errors = counts[EventKind.OVERRIDE], counts[EventKind.ERROR]
        self.gaps, self.gaps_s = counts[EventKind.GAP], durations_s[EventKind.GAP]
        self.fan_still_s = durations_s[EventKind.FAN_STILL]

    @property
    def problems(self) -> list[str]:
        """A text for each kind of problem, with the total duration or the count: `fail-safe 0:01:05`, `overrides 3`."""
        durations = {
            f"over {HOT_C:g} °C": self.hot_s,
            "throttled": self.throttled_s,
            "fail-safe": self.fail_safe_s,
            "fan still": self.fan_still_s,
        }
        counts = {"overrides": self.overrides, "errors": self.errors}
        return [
            *(f"{name} {h_mm_ss(seconds)}" for name, seconds in durations.items() if seconds),
            *(f"{name} {count}" for name, count in counts.items() if count),
            # A gap that began on the day before is not in the count.
            *([f"gaps {max(self.gaps, 1)} ({h_mm_ss(self.gaps_s)})"] if self.gaps_s else []),
        ]

    @property
    def cells(self) -> tuple[str, ...]:
        """The totals as texts for a row of a table, in the order of `HEADINGS`, without the date."""
        return (
            f"{self.seen_s / 3600:.1f}",
            f"{self.load_s / 3600:.1f}",
            *_totals_cells(self.temperature_c),
            *_totals_cells(self.duty_percent),
            "-" if self.sound_db is None else f"{self.sound_db:.1f}",
            f"{self.energy_kwh:.2f}",
        )


def _totals_cells(value: Aggregate | None) -> tuple[str, str]:
    """Return the mean and the highest value as texts for a row of a table. Both are `-` if `value` is None."""
    return ("-", "-") if value is None else (f"{value.mean:.0f}", f"{value.highest:.0f}")


def totals_by_date(periods: Iterable[Period], events: Sequence[Event], load_threshold_w: float) -> dict[str, DayTotals]:
    """Return the totals of one card for each day with readings. The key is the local date: `2026-11-22`.

    `periods` are in the order of time. The card counts as under load above `load_threshold_w`, W.
    """
    return {
        date: DayTotals(list(group), load_threshold_w, events, day_range(date))
        for date, group in groupby(periods, lambda period: date_text(period.time_s))
    }
