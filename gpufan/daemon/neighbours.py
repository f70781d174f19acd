"""The neighbours of a card: other cards of the box whose heat its fans help to remove."""

from collections.abc import Sequence
from typing import Protocol

from gpufan.core.gpu import Gpu
from gpufan.core.selection import matches

_SILENT_S = 30.0
"""The demand of a card whose last tick is older than this does not count for its neighbours, s."""


class Neighbour(Protocol):
    """What a worker knows of another."""

    gpu: Gpu
    last_s: float

    @property
    def local_demand_percent(self) -> int | None:
        """The duty for the card's own heat."""

    @property
    def saturated(self) -> bool:
        """Whether the card is too hot at full fan speed."""


class Neighbours:
    """The neighbours of one card, chosen from the workers of the box."""

    def __init__(self) -> None:
        self._names: Sequence[str] = ()
        self._chosen: list[Neighbour] = []
        self._box_size = 0

    def follow(self, names: Sequence[str]) -> None:
        """Choose anew, by the names of neighbours in the settings."""
        self._names = names
        self._box_size = 0

    def demands_percent(self, now_s: float, own: Neighbour, box: Sequence[Neighbour]) -> list[int]:
        """The duties that the neighbours of the card `own` need for their own heat."""
        if len(box) != self._box_size:  # new settings, or a new card
            self._box_size = len(box)
            self._chosen = [
                worker for worker in box if worker is not own and any(matches(worker.gpu.info, n) for n in self._names)
            ]
        # A card that was saturated once may be warmed by this one, even if it is not listed: it stays a neighbour.
        others = (worker for worker in box if worker is not own and worker not in self._chosen)
        self._chosen += [worker for worker in others if worker.saturated]
        return [
            demand
            for worker in self._chosen
            if now_s - worker.last_s <= _SILENT_S and (demand := worker.local_demand_percent) is not None
        ]
