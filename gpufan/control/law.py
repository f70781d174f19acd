"""The protocol of a control law, its decision, and the range of duties that it may use."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from gpufan.core.card_settings import CardSettings
from gpufan.core.reasons import Reason

STALL_RANGE = (1, 29)
"""Duties at which some fans stall or are harmed although the card accepts them, percent.

Source: NVIDIA's answer in open-gpu-kernel-modules#413. It concerns cards that report a minimum under 20 %.
"""


def duty_range(card_range: tuple[int, int], min_duty_percent: int | None) -> tuple[int, int]:
    """Lowest and highest duty to use on a card that reports `card_range`, all in percent.

    On a card that accepts duties under 20 % the lowest is above the stall range, unless `min_duty_percent` is lower.

    >>> duty_range((0, 100), None), duty_range((23, 100), None), duty_range((0, 100), 20), duty_range((30, 100), 20)
    ((30, 100), (23, 100), (20, 100), (30, 100))
    """
    low, high = card_range
    if min_duty_percent is None:
        return (min(STALL_RANGE[1] + 1, high) if low < 20 else low), high
    return min(max(low, min_duty_percent), high), high


class Decision(NamedTuple):
    """The duty for the fans of one card, and its reason."""

    duty_percent: int | None
    """None leaves the fans to the driver."""
    reason: Reason


class Learnt(NamedTuple):
    """The model of a card that a law has learnt. It is stored from one run to the next."""

    full_power_percent: float
    """The duty that would hold the card at 78 °C in air of 20 °C at its power limit, percent; it may be above 100."""


class Law(Protocol):
    """Decides the duty of one card, reading by reading. A function of its arguments, time included."""

    def decide(
        self,
        now_s: float,
        temperature_c: float,
        power_w: float | None = None,
        speed_percent: float | None = None,
        neighbours_percent: Sequence[int] = (),
        *,
        throttled: bool = False,
    ) -> Decision:
        """Return the decision for a valid `temperature_c` at `now_s`. None stands for an unknown value.

        `throttled` is set if the card lowers its clocks for heat, perhaps at a place that has no sensor.

        `neighbours_percent` are the local demands of the cards that this card warms. A time before the last one counts
        as the same time.
        """

    def follow(self, settings: CardSettings, limits: tuple[int, int]) -> None:
        """Use other settings from now on, starting from the present duty.

        `limits`: lowest and highest duty, percent.
        """

    def force(self, now_s: float, duty_percent: int) -> None:
        """Continue from `duty_percent`, which the fail-safe or another law has set at `now_s`."""

    def forget(self) -> None:
        """Make the next decision as if it were the first, since the driver has controlled the fans meanwhile."""

    @property
    def learnt(self) -> Learnt | None:
        """The model of the card that the law has learnt; None if the law learns nothing."""

    @property
    def local_demand_percent(self) -> int | None:
        """The last duty that this card needed for its own heat, percent; None while the driver controls the fans."""

    @property
    def saturated(self) -> bool:
        """Whether the card stays too hot at full fan speed, so that only the fans of other cards can help."""
