"""What a control law is: from readings to a duty and its reason."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from gpufan.core.card_settings import CardSettings
from gpufan.core.reasons import Reason


class Decision(NamedTuple):
    """The duty for the fans of one card, and why."""

    duty_percent: int | None
    """None leaves the fans to the driver."""
    reason: Reason


class Learnt(NamedTuple):
    """What a law has learnt of a card, and what is stored from one run to the next."""

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
        """Duty for a valid `temperature_c` at `now_s`; None stands for a value that is not known.

        `throttled`: whether the card lowers its clocks for heat, perhaps at a place that has no sensor.

        `neighbours_percent` are the local demands of the cards that take in this one's heat. If time runs backwards,
        it counts as standing still.
        """

    def follow(self, settings: CardSettings, limits: tuple[int, int]) -> None:
        """Use other settings from now on, starting from the present duty.

        `limits`: lowest and highest duty, percent.
        """

    def force(self, now_s: float, duty_percent: int) -> None:
        """The fail-safe has set `duty_percent` at `now_s`: go on from there."""

    def forget(self) -> None:
        """The driver had the fans meanwhile: the next decision starts afresh."""

    @property
    def learnt(self) -> Learnt | None:
        """What the law has learnt of the card; None where it learns nothing."""

    @property
    def local_demand_percent(self) -> int | None:
        """The duty last decided for this card's own heat, without help for neighbours; None for the driver's."""

    @property
    def saturated(self) -> bool:
        """Whether the card stays too hot at full speed, so that only the fans of others can help."""
