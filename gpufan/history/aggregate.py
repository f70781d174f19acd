"""The mean, lowest and highest value of a measurement in a period, and the same for several periods together."""

from collections.abc import Iterable
from typing import NamedTuple


class Aggregate(NamedTuple):
    """The mean, lowest and highest value of a measurement in a period."""

    mean: float
    lowest: float
    highest: float


def combine(values: Iterable[tuple[Aggregate | None, float]]) -> Aggregate | None:
    """Combine the aggregates of several periods into one; None if all are unknown.

    Each value is an aggregate, or None if it is unknown, and the duration of its period in seconds. Means are weighted
    with the durations.

    >>> combine([(Aggregate(60, 50, 70), 1.0), (None, 5.0), (Aggregate(80, 75, 88), 3.0)])
    Aggregate(mean=75.0, lowest=50, highest=88)
    """
    known = [(value, seconds) for value, seconds in values if value is not None and seconds > 0]
    if not known:
        return None
    mean = sum(value.mean * seconds for value, seconds in known) / sum(seconds for _, seconds in known)
    return Aggregate(mean, min(value.lowest for value, _ in known), max(value.highest for value, _ in known))
