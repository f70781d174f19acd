"""Mean, lowest and highest value of a measurement, and how those of several periods are combined."""

from typing import NamedTuple


class Aggregate(NamedTuple):
    """A measurement during a period. All three are None where it is not known."""

    mean: float | None
    lowest: float | None
    highest: float | None

    @classmethod
    def single(cls, value: float | None) -> "Aggregate":
        """Aggregate of one value."""
        return cls(value, value, value)


class Aggregator:
    """Combines the aggregates of several periods. The mean is weighted with their durations."""

    def __init__(self) -> None:
        self.mean: float | None = None
        self.lowest: float | None = None
        self.highest: float | None = None
        self._seconds = 0.0

    def add(self, value: Aggregate, seconds: float) -> None:
        """Add `value`, which lasted for `seconds`. An unknown value changes nothing."""
        if value.mean is None or value.lowest is None or value.highest is None or seconds <= 0:
            return
        self._seconds += seconds
        if self.mean is None or self.lowest is None or self.highest is None:
            self.mean, self.lowest, self.highest = value
        else:
            self.mean += (value.mean - self.mean) * seconds / self._seconds
            self.lowest = min(self.lowest, value.lowest)
            self.highest = max(self.highest, value.highest)
