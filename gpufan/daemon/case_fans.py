"""Makes the workers of case fans, and finds the cards that they follow."""

from collections.abc import Sequence
from typing import Any

from gpufan.config.settings import Settings
from gpufan.core.card_settings import CardSettings
from gpufan.core.gpu import Gpu
from gpufan.core.reasons import Cause, Control, Group
from gpufan.core.selection import card_matches, split_controllable_cards
from gpufan.daemon.instructions import LocalTime
from gpufan.daemon.taken import Taken
from gpufan.daemon.worker import Worker
from gpufan.gpu.case_fan import CaseFan
from gpufan.gpu.header import FULL_PERCENT, OpenFan

SILENT_S = 10.0
"""A card whose last tick is older than this, s, is not live."""


def split_cards_to_control(gpus: Sequence[Gpu], settings: Settings) -> tuple[list[Gpu], list[str]]:
    """Return the cards to control: those whose fans can be set, and those that a case fan follows.

    Also returns a line for each other card. It says why the fans of the card cannot be set.
    """
    names = [name for fan in settings.case_fans for name in settings.follows(fan)]
    followed = [gpu for gpu in gpus if any(card_matches(gpu.info, name) for name in names)]
    controllable, _ = split_controllable_cards(gpus)
    _, lines = split_controllable_cards([gpu for gpu in gpus if gpu not in followed])
    return [gpu for gpu in gpus if gpu in controllable or gpu in followed], lines


def make_case_fans(settings: Settings, open_fan: OpenFan) -> list[CaseFan]:
    """Return the case fans in `settings`, to prove that they obey. They follow no card."""
    return [CaseFan(fan.name, index, open_fan, lambda: None) for index, fan in enumerate(settings.case_fans)]


def make_case_fan_workers(
    settings: Settings,
    open_fan: OpenFan,
    box: Sequence[Worker],
    *,
    dry_run: bool = False,
    taken: Taken | None = None,
    wall_clock: LocalTime | None = None,
) -> list[Worker]:
    """Make a worker for each case fan in `settings`. `open_fan` opens its channel.

    `box` has the workers of all cards. Cards that are added to it later are followed too.
    """
    workers: list[Worker] = []
    for index, table in enumerate(settings.case_fans):
        followed = _FollowedCards(box)
        fan = CaseFan(table.name, index, open_fan, followed.temperature_c)
        worker = _CaseFanWorker(followed, fan, settings.for_card, dry_run=dry_run, taken=taken, wall_clock=wall_clock)
        worker.box = box
        followed.fan = worker
        workers.append(worker)
    return workers


class _CaseFanWorker(Worker):
    """Controls one case fan."""

    def __init__(self, followed: "_FollowedCards", *arguments: Any, **options: Any) -> None:
        """`followed` are the cards that the fan follows. The other arguments are those of `Worker`."""
        super().__init__(*arguments, **options)
        self._followed = followed

    def _demands_percent(self, now_s: float) -> list[int]:
        """Return the duties that the followed cards need. Those that the driver controls need its duty."""
        return super()._demands_percent(now_s) + self._followed.duties_of_driver_percent()


class _FollowedCards:
    """The cards that one case fan follows."""

    def __init__(self, box: Sequence[Worker]) -> None:
        self._box = box
        self.fan: Worker
        """The worker of the case fan."""

    def temperature_c(self) -> float | None:
        """Return the temperature of the live card that is hottest relative to its own target or curve, °C.

        None if this temperature is not reliable: no card is live, or the temperature of a live card is in doubt.
        """
        live = self._live()
        if not live or any(card.state.reason.cause.group is Group.FAIL_SAFE for card in live):
            return None
        hottest = max(live, key=lambda card: (card.state.temperature_c or 0.0) - highest_c(card.instructions.current))
        return hottest.state.temperature_c

    def duties_of_driver_percent(self) -> list[int]:
        """Return the speed of the fastest fan of each live card whose own demand is unknown, percent.

        The driver controls the fans of such a card. If their speed is unknown too, it counts as full speed.
        """
        return [
            max((fan.speed_percent for fan in card.state.fans if fan.speed_percent is not None), default=FULL_PERCENT)
            for card in self._live()
            if card.local_demand_percent is None
        ]

    def _live(self) -> list[Worker]:
        """Return the followed cards that have answered a short time ago."""
        return [card for card in self._box if self._is_followed(card) and self._is_live(card)]

    def _is_followed(self, card: Worker) -> bool:
        """Whether the settings of the case fan name the card."""
        instructions = self.fan.instructions
        names = instructions.current.follows or instructions.settings_of(self.fan.gpu.info).follows
        return any(card_matches(card.gpu.info, name) for name in names)

    def _is_live(self, card: Worker) -> bool:
        """Whether the card has answered a short time ago."""
        state = card.state
        if state.control is Control.LOST or state.reason.cause is Cause.START or card.paused:
            return False
        is_known = state.temperature_c is not None or state.reason.cause.group is Group.FAIL_SAFE
        return is_known and self.fan.last_s - card.last_s <= SILENT_S


def highest_c(settings: CardSettings) -> float:
    """Return the temperature that a card with `settings` should not exceed, °C.

    This is its target, or the temperature at which its curve reaches its highest duty.
    """
    if settings.target_c is not None:
        return settings.target_c
    curve = settings.curve
    return next(point_c for point_c, duty in curve.points if duty == curve.highest_duty)
