"""Finds the neighbours of a card: the other cards of the box that its fans help to cool."""

import math
from collections.abc import Sequence
from typing import Protocol

from gpufan.core.gpu import Gpu, GpuInfo
from gpufan.core.selection import card_matches

_SILENT_S = 30.0
"""If the last tick of a card is older than this, s, its demand does not count for its neighbours."""


HELP_S = 600.0
"""A saturated card gets help even if the settings do not list it as a neighbour. The help goes on for this long after
the card was last saturated, s. If help is needed again soon, it lasts twice as long."""


class Neighbour(Protocol):
    """The part of a worker that the workers of other cards use."""

    gpu: Gpu
    last_s: float

    @property
    def local_demand_percent(self) -> int | None:
        """The duty that the card needs for its own heat, percent; None if it is unknown."""

    @property
    def saturated(self) -> bool:
        """Whether the card is too hot at full fan speed."""


class Neighbours:
    """The neighbours of one card, chosen from the workers of the box."""

    def __init__(self) -> None:
        self._names: Sequence[str] = ()
        self._chosen: list[Neighbour] = []
        self._infos: list[GpuInfo] = []
        """The properties of all cards when the neighbours were chosen. A card has no UUID before it answers."""
        # For each card that was helped: when the help ends, and how long it lasts, s.
        self._helped: dict[Neighbour, tuple[float, float]] = {}

    def follow(self, names: Sequence[str]) -> None:
        """Choose the neighbours anew. `names` are the names of the neighbours in the settings."""
        self._names = names
        self._infos = []

    def demands_percent(self, now_s: float, own: Neighbour, box: Sequence[Neighbour]) -> list[int]:
        """Return the duties that the neighbours need for their own heat, percent.

        `own` is the worker of this card. `box` has the workers of all cards.
        """
        if (infos := [worker.gpu.info for worker in box]) != self._infos:
            self._infos = infos
            self._chosen = [
                worker
                for worker in box
                if worker is not own and any(card_matches(worker.gpu.info, n) for n in self._names)
            ]
        # A saturated card may be warmed by this one even if it is not listed.
        for worker in box:
            if worker is not own and worker not in self._chosen and worker.saturated:
                until_s, length_s = self._helped.get(worker, (-math.inf, HELP_S))
                if now_s >= until_s:
                    length_s = 2 * length_s if now_s - until_s < HELP_S else HELP_S
                self._helped[worker] = now_s + length_s, length_s
        helped = [worker for worker, (until_s, _) in self._helped.items() if now_s < until_s]
        return [
            demand
            for worker in (*self._chosen, *helped)
            if now_s - worker.last_s <= _SILENT_S and (demand := worker.local_demand_percent) is not None
        ]
