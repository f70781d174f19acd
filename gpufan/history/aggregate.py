"""The mean, lowest and highest value of a measurement in a period. `combine` joins several periods."""

from collections.abc import Iterable
from typing import NamedTuple


class Aggregate(NamedTuple):
    """The mean, lowest and highest value of a measurement in a period."""

    mean: float
    lowest: float
    highest: float


def combine(values: Iterable[tuple[Aggregate | None, float]]) -> Aggregate | None:
    """Combine the aggregates of several periods into one. Returns None if no aggregate is known.

    Each item of `values` is the aggregate of a period and the duration of the period in seconds. An unknown aggregate
    is None. The means are weighted with the durations.

    >>> combine([(Aggregate(60, 50, 70), 1.0), (None, 5.0), (Aggregate(80, 75, 88), 3.0)])
    Aggregate(mean=75.0, lowest=50, highest=88)
    """
    known = [(value, seconds) for value, seconds in values if value is not None and seconds > 0]
    if not known:
        return None
    mean = sum(value.mean * seconds for value, seconds in known) / sum(seconds for _, seconds in known)
    return Aggregate(mean, min(value.lowest for value, _ in known), max(value.highest for value, _ in known))
