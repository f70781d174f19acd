"""What the load of a card does again and again, and for how long it may go on as it is."""

from collections import deque
from itertools import pairwise, takewhile
from operator import sub
from statistics import fmean

from gpufan.control.card_model import STEP_S

FUTURE_S = 300.0
"""Nothing is foreseen beyond."""

FUTURE_BINS = int(FUTURE_S / STEP_S)

LASTS_S = 20.0
"""What has lasted for a time is taken to last for that time again and so much more, s.

With no more known than how long it has lasted, it will do so as likely as not (Gott, Nature 363, 1993).
"""

AT_WORK = 0.4
"""A load of this share of the highest of the last minutes is no pause."""


class Load:
    """What the load has asked for over the last minutes, and what it may ask for next.

    A load that repeats will do so once more. Any other is taken to go on as it is: a job as long as those before, if
    these were alike, and else as long again as it has lasted.
    """

    _PAST = 160
    """Bins of the past that are known."""
    _LONGEST = 33
    """Bins of the longest period: at the end of a longer one its beginning has left no heatsink warm."""
    _STEP = 0.12
    """Share of the highest power by which the power must differ to be another level, and not noise."""
    _ALIKE = 1.5
    """Jobs, or pauses, are alike if the longest is at most so many times as long as the shortest."""
    _LONGER = 1.3
    """A job may be so many times as long as those before, and two bins longer."""

    def __init__(self) -> None:
        self.level_w = 0.0
        """Mean power since it last changed, W."""
        self.level_s = 0.0
        """How long ago that was, s."""
        self.period_w: list[float] = []
        """If it does the same again and again: what it will do in the period that begins now, W for each bin."""
        self.job_w: list[float] = []
        """The last job, should it come again, W for each bin."""
        self._past_w: deque[float] = deque(maxlen=self._PAST)
        self._bins = 0
        # The bins in which it rose, the last times.
        self._rises: deque[int] = deque(maxlen=3)
        # How long it stayed up and down, s, the last times.
        self._jobs_s: deque[float] = deque(maxlen=4)
        self._pauses_s: deque[float] = deque(maxlen=4)
        self._bin_j = self._bin_s = 0.0

    def add(self, elapsed_s: float, power_w: float) -> bool:
        """Take the power of the last `elapsed_s`; whether a bin is full, and there is more to be told."""
        full = False
        while self._bin_s + elapsed_s >= STEP_S - 1e-6:
            rest_s = STEP_S - self._bin_s
            self._fill((self._bin_j + power_w * rest_s) / STEP_S)
            elapsed_s = max(elapsed_s - rest_s, 0.0)
            self._bin_j = self._bin_s = 0.0
            full = True
        self._bin_j += power_w * elapsed_s
        self._bin_s += elapsed_s
        return full

    @property
    def at_work(self) -> bool:
        """Whether this is no pause."""
        return self.level_w > AT_WORK * max(self._past_w, default=0.0)

    @property
    def pause_s(self) -> float | None:
        """For how long it stays down before it comes back, s; None if that differs, or is not known."""
        return self._known_s(self._pauses_s)

    @property
    def new(self) -> bool:
        """Whether too few pauses were seen to know what they are like."""
        return len(self._pauses_s) < 3

    @property
    def rest_s(self) -> float:
        """For how long it may go on as it is, s."""
        known_s = self._known_s(self._jobs_s)
        if known_s is not None and self.level_s <= known_s:
            return known_s + STEP_S - self.level_s
        rest_s = self.level_s + LASTS_S
        most_s = self._at_most_s(max(self._jobs_s, default=0.0)) - self.level_s
        return min(rest_s, most_s) if self._jobs_s and most_s > 0 else rest_s

    def _at_most_s(self, job_s: float) -> float:
        """As long as a job like one that took `job_s` may take, s."""
        return self._LONGER * job_s + 2 * STEP_S

    def _known_s(self, lengths_s: deque[float]) -> float | None:
        """The longest, if there are enough and they are alike; two will do that are the same to a bin."""
        longest_s = max(lengths_s, default=0.0)
        latest_s = sorted(list(lengths_s)[-2:])
        if len(latest_s) == 2 and latest_s[1] - latest_s[0] <= STEP_S:
            return latest_s[1]
        return longest_s if len(lengths_s) > 2 and longest_s <= self._ALIKE * min(lengths_s) else None

    def _fill(self, bin_w: float) -> None:
        """Take the mean power of a whole bin."""
        self._bins += 1
        highest_w = max(self._past_w, default=0.0)
        noise_w = self._STEP * highest_w + 5
        if abs(bin_w - self.level_w) > noise_w:
            # What lasts for a bin or two is the way from one level to another.
            if self.level_s > 2 * STEP_S:
                if bin_w < self.level_w:
                    self._jobs_s.append(self.level_s)
                    self.job_w = [self.level_w] * min(int(self._at_most_s(self.level_s) / STEP_S), FUTURE_BINS)
                elif bin_w > AT_WORK * highest_w:
                    self._pauses_s.append(self.level_s)
                    self._rises.append(self._bins)
            self.level_w, self.level_s = bin_w, 0.0
        self.level_s += STEP_S
        self.level_w += (bin_w - self.level_w) * STEP_S / min(self.level_s, 60)
        self._past_w.append(bin_w)
        self.period_w = self._again(noise_w)

    def _again(self, noise_w: float) -> list[float]:
        """The mean of the last periods if they were alike, and so far it has done as it did a period ago."""
        periods = [later - earlier for earlier, later in pairwise(self._rises)]
        if len(periods) < 2 or max(periods) - min(periods) > 1 or max(periods) > self._LONGEST:
            return []
        period = periods[-1]
        past_w = list(self._past_w)
        ends = range(len(past_w), period - 1, -period)
        latest_w, *earlier_w = (past_w[end - period : end] for end in ends)
        overdue = self._bins - self._rises[-1] > period + 1
        # Of two bins, since the noise of one may look like another load.
        if overdue or not earlier_w or abs(sum(latest_w[-2:]) - sum(earlier_w[0][-2:])) > 2 * noise_w:
            return []
        alike_w = [latest_w, *takewhile(lambda w: sum(map(abs, map(sub, w, latest_w))) <= noise_w * period, earlier_w)]
        return [fmean(column) for column in zip(*alike_w, strict=True)] if len(alike_w) > 1 else []
