"""Dates and times of the local time zone: `2026-11-22` and `2026-11-22 03:12:05`."""

import time

from gpufan.errors import InputError
from gpufan.history.reader import TimeRange


def local_time_text(time_s: float, format: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Convert `time_s`, seconds since the epoch, to local date and time: `2026-11-22 03:12:05`.

    `format` is that of `time.strftime`.
    """
    return time.strftime(format, time.localtime(time_s))


def date_text(time_s: float) -> str:
    """Convert `time_s`, seconds since the epoch, to a local date: `2026-11-22`."""
    return local_time_text(time_s, "%Y-%m-%d")


def day_range(date: str) -> TimeRange:
    """Return the time from midnight to midnight on the local day `date`, which is a text such as `2026-11-22`.

    Raises ValueError if `date` is not a date, OverflowError if the system cannot represent it.
    """
    year, month, day = time.strptime(date, "%Y-%m-%d")[:3]
    # Not 24 hours: a day on which the clocks change has 23 or 25. mktime accepts the 32nd of a month.
    return TimeRange(*(time.mktime((year, month, day + n, 0, 0, 0, 0, 0, -1)) for n in (0, 1)))


def parse_day(text: str) -> TimeRange:
    """Return the time range of a day. `text` is the value of the option `--day`: `2026-11-22`, `today` or `yesterday`.

    Raises InputError for any other text.
    """
    today = date_text(time.time())
    # 12 hours before midnight is yesterday, even if the clocks change.
    names = {"today": today, "yesterday": date_text(day_range(today).begin_s - 43200)}
    try:
        return day_range(names.get(text, text))
    except (ValueError, OverflowError):
        raise InputError(f"--day '{text}' is not a date: write it as 2026-11-22, today or yesterday") from None
