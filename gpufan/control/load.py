"""The load of a card: its level, its jobs and pauses, and whether it repeats. Nothing here knows of fans."""

from collections import deque
from dataclasses import dataclass
from itertools import pairwise, takewhile
from operator import sub
from statistics import fmean

from gpufan.control.card_model import STEP_S

FUTURE_S = 300.0
"""The load is predicted for this long, s."""

FUTURE_BINS = int(FUTURE_S / STEP_S)


@dataclass(frozen=True, slots=True)
class LoadTunables:
    """All constants of `Load`. A bin is `STEP_S` long."""

    # Levels of power.
    level_share: float = 0.12
    """A power that differs from the level by more than this share of the highest power, and 5 W, is a new level."""
    level_mean_s: float = 60.0
    """The level is the mean power over this time at most, s."""
    work_share: float = 0.4
    """A level above this share of the highest power is a job, a level below is a pause."""
    past_bins: int = 160
    """The highest power is that of so many bins; periods are looked for in them too."""

    # Jobs and pauses.
    lasts_s: float = 20.0
    """A level that has lasted for some time is expected to last for the same time again, plus this, s.

    If only its age is known, it lasts at least as long again in one of two cases (Gott, Nature 363, 1993).
    """
    alike: float = 1.5
    """Jobs, or pauses, are alike if the longest is at most this many times as long as the shortest."""
    longer: float = 1.3
    """A job may last this many times as long as the jobs before, plus two bins."""

    # Loads that repeat.
    longest_period_bins: int = 33
    """At the end of a longer period no heatsink is still warm from its beginning."""


class Load:
    """The power of the last minutes, and the prediction for the next.

    A load that repeats is expected to repeat once more. Any other load is expected to stay at its level: as long as the
    jobs before if these were alike, else as long again as it has lasted.
    """

    def __init__(self, tunables: LoadTunables = LoadTunables()) -> None:
        self._tunables = tunables
        self.level_w = 0.0
        """Mean power since the last change of level, W."""
        self.level_s = 0.0
        """Time since then, s."""
        self.period_w: list[float] = []
        """If the load repeats: its power in the period that begins now, W for each bin. Else empty."""
        self.job_w: list[float] = []
        """The power of the last job, W for each bin, as long as such a job may last."""
        self._past_w: deque[float] = deque(maxlen=tunables.past_bins)
        self._bins = 0
        # The numbers of the last bins in which a job began.
        self._rises: deque[int] = deque(maxlen=3)
        # Lengths of the last jobs and pauses, s.
        self._jobs_s: deque[float] = deque(maxlen=4)
        self._pauses_s: deque[float] = deque(maxlen=4)
        # Energy and length of the bin that is not full yet.
        self._bin_j = self._bin_s = 0.0

    def add(self, elapsed_s: float, power_w: float) -> bool:
        """Add `power_w` for the last `elapsed_s`. Returns whether a bin was filled, so that the predictions are new."""
        filled = False
        while self._bin_s + elapsed_s >= STEP_S - 1e-6:
            rest_s = STEP_S - self._bin_s
            self._add_bin((self._bin_j + power_w * rest_s) / STEP_S)
            elapsed_s = max(elapsed_s - rest_s, 0.0)
            self._bin_j = self._bin_s = 0.0
            filled = True
        self._bin_j += power_w * elapsed_s
        self._bin_s += elapsed_s
        return filled

    @property
    def at_work(self) -> bool:
        """Whether the level is a job, not a pause."""
        return self.level_w > self._tunables.work_share * max(self._past_w, default=0.0)

    @property
    def pause_s(self) -> float | None:
        """How long pauses last, s; None if they differ, or if too few were seen."""
        return self._usual_s(self._pauses_s)

    @property
    def new(self) -> bool:
        """Whether fewer than three pauses were seen, so that their usual length is unknown."""
        return len(self._pauses_s) < 3

    @property
    def rest_s(self) -> float:
        """How long the level may still last, s."""
        usual_s = self._usual_s(self._jobs_s)
        if usual_s is not None and self.level_s <= usual_s:
            return usual_s + STEP_S - self.level_s
        rest_s = self.level_s + self._tunables.lasts_s
        most_s = self._at_most_s(max(self._jobs_s, default=0.0)) - self.level_s
        return min(rest_s, most_s) if self._jobs_s and most_s > 0 else rest_s

    def _at_most_s(self, job_s: float) -> float:
        """How long a job may last if the one before lasted for `job_s`, s."""
        return self._tunables.longer * job_s + 2 * STEP_S

    def _usual_s(self, lengths_s: deque[float]) -> float | None:
        """The longest of `lengths_s` if three or more are alike, or the last two are equal within a bin; else None."""
        latest_s = sorted(list(lengths_s)[-2:])
        if len(latest_s) == 2 and latest_s[1] - latest_s[0] <= STEP_S:
            return latest_s[1]
        if len(lengths_s) > 2 and max(lengths_s) <= self._tunables.alike * min(lengths_s):
            return max(lengths_s)
        return None

    def _add_bin(self, bin_w: float) -> None:
        """Add a bin with the mean power `bin_w`."""
        self._bins += 1
        highest_w = max(self._past_w, default=0.0)
        noise_w = self._tunables.level_share * highest_w + 5
        if abs(bin_w - self.level_w) > noise_w:
            # A level of one or two bins is only the way from one level to another.
            if self.level_s > 2 * STEP_S:
                if bin_w < self.level_w:
                    self._jobs_s.append(self.level_s)
                    self.job_w = [self.level_w] * min(int(self._at_most_s(self.level_s) / STEP_S), FUTURE_BINS)
                elif bin_w > self._tunables.work_share * highest_w:
                    self._pauses_s.append(self.level_s)
                    self._rises.append(self._bins)
            self.level_w, self.level_s = bin_w, 0.0
        self.level_s += STEP_S
        self.level_w += (bin_w - self.level_w) * STEP_S / min(self.level_s, self._tunables.level_mean_s)
        self._past_w.append(bin_w)
        self.period_w = self._find_period(noise_w)

    def _find_period(self, noise_w: float) -> list[float]:
        """Mean of the last periods that are alike, W for each bin; empty if the load does not repeat."""
        periods = [later - earlier for earlier, later in pairwise(self._rises)]
        if len(periods) < 2 or max(periods) - min(periods) > 1 or max(periods) > self._tunables.longest_period_bins:
            return []
        period = periods[-1]
        past_w = list(self._past_w)
        ends = range(len(past_w), period - 1, -period)
        latest_w, *earlier_w = (past_w[end - period : end] for end in ends)
        overdue = self._bins - self._rises[-1] > period + 1
        # Two bins together: the noise of one may look like another load.
        if overdue or not earlier_w or abs(sum(latest_w[-2:]) - sum(earlier_w[0][-2:])) > 2 * noise_w:
            return []
        alike_w = [latest_w, *takewhile(lambda w: sum(map(abs, map(sub, w, latest_w))) <= noise_w * period, earlier_w)]
        return [fmean(column) for column in zip(*alike_w, strict=True)] if len(alike_w) > 1 else []
