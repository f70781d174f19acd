"""What is measured of a run: heat, sound and unrest. One recorder for all families."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gpufan.core.thermal import SOUND_EXPONENT, mean_sound_db
from gpufan.daemon.summary import SWING_PERCENT, Swings

TARGETS_C = (70.0, 78.0, 83.0)
"""Every law that holds a temperature runs at each of these targets, °C."""

OVER_K = 3.0
"""A card further above the target is too hot, K."""

HOT_SHARE = 0.02
"""The heat of a run is the temperature that is exceeded for this share of it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of one run of one law on one card."""

    heat_c: float
    """The temperature that is exceeded for `HOT_SHARE` of the run."""
    sound_db: float
    """Energy mean of the sound, dB(A)."""
    hot_s: tuple[float, ...]
    """For each of `TARGETS_C`: time above it by more than `OVER_K`, s."""
    swings: float
    """Swings per hour."""
    variation: float
    """Sum of all changes of the duty per hour, points."""
    small_steps: float
    """Changes of the duty by less than a swing, per hour."""
    throttled_s: float
    """Time with lowered clocks, s."""
    late_swings: int
    """Swings in the last half hour."""


class Recorder:
    """Records a run second by second."""

    def __init__(self, seconds: int) -> None:
        """`seconds`: length of the run, s."""
        self._seconds = seconds
        self._dies_c: list[float] = []
        self._energy = 0.0
        self._swings, self._late = Swings(), Swings()
        self._small_steps = self._throttled_s = 0
        self._duty = math.nan

    def add(self, die_c: float, speed_rpm: float, duty_percent: float, *, throttled: bool) -> None:
        """Add a second."""
        self._dies_c.append(die_c)
        self._energy += speed_rpm**SOUND_EXPONENT
        self._throttled_s += throttled
        if duty_percent != self._duty:
            self._small_steps += abs(duty_percent - self._duty) < SWING_PERCENT
            self._duty = duty_percent
            self._swings.add(duty_percent)
        if len(self._dies_c) > self._seconds - 1800:
            self._late.add(duty_percent)

    def outcome(self) -> Outcome:
        """The results after the last second."""
        seconds = len(self._dies_c)
        per_hour = 3600 / seconds
        return Outcome(
            heat_c=sorted(self._dies_c)[-1 - int(HOT_SHARE * seconds)],
            sound_db=mean_sound_db(self._energy / seconds),
            hot_s=tuple(sum(die_c > target_c + OVER_K for die_c in self._dies_c) for target_c in TARGETS_C),
            swings=self._swings.count * per_hour,
            variation=self._swings.variation * per_hour,
            small_steps=self._small_steps * per_hour,
            throttled_s=self._throttled_s,
            late_swings=self._late.count,
        )


def combined(cards: Sequence[Outcome]) -> Outcome:
    """Of several cards of a box the hotter and the more restless count, and the mean of their sound."""
    return Outcome(
        heat_c=max(card.heat_c for card in cards),
        sound_db=10 * math.log10(sum(10 ** (card.sound_db / 10) for card in cards) / len(cards)),
        hot_s=tuple(map(max, zip(*(card.hot_s for card in cards), strict=True))),
        swings=max(card.swings for card in cards),
        variation=max(card.variation for card in cards),
        small_steps=max(card.small_steps for card in cards),
        throttled_s=max(card.throttled_s for card in cards),
        late_swings=max(card.late_swings for card in cards),
    )
