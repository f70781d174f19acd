"""The help of cards for each other in lanes: `gpufan.daemon.neighbours` for many lanes at once. Needs numpy."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gpufan.control.target_law import TUNABLES
from gpufan.core.card_settings import CardSettings
from gpufan.core.gpu import GpuInfo
from gpufan.core.selection import card_matches
from gpufan.daemon.neighbours import HELP_S
from gpufan.tune.day_load import Array
from gpufan.tune.lanes import Mask, PerLane


class Helper(NamedTuple):
    """A card of a box, as far as help matters."""

    info: GpuInfo
    settings: CardSettings
    highest_percent: int


class HelpLanes(PerLane):
    """The help for neighbours, and for cards that are too hot at full fan speed. Arrays have a row for each card."""

    PER_LANE = ("_left_s", "_length_s", "_rest_s")

    def __init__(self, cards: Sequence[Helper], lanes: int) -> None:
        """`lanes` is the number of lanes of each card."""
        self._chosen = [
            [
                number
                for number, other in enumerate(cards)
                if other is not card and any(card_matches(other.info, str(name)) for name in card.settings.neighbours)
            ]
            for card in cards
        ]
        self.has_neighbours = any(self._chosen)
        """Whether the settings name neighbours."""
        self._highest = np.array([[float(card.highest_percent)] for card in cards])
        shape = len(cards), lanes
        self._left_s = np.zeros(shape)
        """How long the help for each card still lasts, s."""
        self._length_s = np.full(shape, HELP_S)
        """How long the help for each card lasts in all, s."""
        self._rest_s = np.full(shape, math.inf)
        """How long ago the help for each card ended, s."""

    def duties_percent(self, seconds: float, demands_percent: Array, saturated: Mask) -> Array:
        """Return the duty of each lane that helps other cards, after a step of `seconds`.

        `demands_percent` are the duties that the cards need for their own heat; 0 where the driver has the fans.
        `saturated` are the cards that are too hot at full fan speed.
        """
        if saturated.any():
            self._begin(saturated)
        is_helped = self._left_s > 0
        found = np.zeros(demands_percent.shape)
        for number, chosen in enumerate(self._chosen):
            for other in chosen:
                np.maximum(found[number], demands_percent[other], out=found[number])
        if is_helped.any():
            np.maximum(found, _highest_of_others(np.where(is_helped, demands_percent, 0.0)), out=found)
        # `target_law.for_neighbours`
        is_all = found >= self._highest
        found *= TUNABLES.neighbour_share
        np.copyto(found, self._highest, where=is_all)
        self._rest_s = np.where(is_helped, 0.0, self._rest_s + seconds)
        self._left_s = np.maximum(self._left_s - seconds, 0.0)
        return found

    def _begin(self, saturated: Mask) -> None:
        """Begin the help for `saturated` cards, or prolong it. Help that is needed again soon lasts twice as long."""
        begins = saturated & (self._left_s <= 0)
        again = begins & (self._rest_s < HELP_S)
        self._length_s = np.where(again, 2 * self._length_s, np.where(begins, HELP_S, self._length_s))
        self._left_s = np.where(saturated, self._length_s, self._left_s)


def _highest_of_others(values: Array) -> Array:
    """Return for each card the highest of the `values` of the other cards; 0 if there are none."""
    highest = values.argmax(axis=0)
    lanes = np.arange(values.shape[1])
    rest = values.copy()
    rest[highest, lanes] = 0.0
    found: Array = np.broadcast_to(values[highest, lanes], values.shape).copy()
    found[highest, lanes] = rest.max(axis=0)
    return found
