"""The boxes on which settings are tried: a simulated profile, or plants that were fitted to recorded cards."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TypeVar

from gpufan.core.thermal import approach, remaining_share
from gpufan.daemon import recording
from gpufan.gpu.simulated import PROFILES, WORKLOADS, Plant, Profile, SimulatedBox, SimulatedGpu, Workload
from gpufan.tune.fit import fit
from gpufan.tune.plant import FittedPlant
from gpufan.tune.recorded_cards import Reading, RecordedCard, choose, collect

_P = TypeVar("_P", bound=Plant)


class FittedBox(SimulatedBox):
    """Recorded cards as the plants fitted to them, under the recorded power or under `workload`.

    The cards start at the recorded temperature. The heat of other cards arrives with the air: as in the recording, or
    as much as `workload` makes. A recording repeats from its start when it ends.
    """

    def __init__(self, cards: Sequence[tuple[RecordedCard, FittedPlant]], workload: Workload | None = None) -> None:
        super().__init__(Profile("", tuple(plant for _, plant in cards)), workload or (lambda _: 0.0))
        self._others: list[Workload] = []
        self._coupling_k_per_w = [plant.coupling for _, plant in cards]
        for gpu, (card, plant) in zip(self.gpus, cards, strict=True):
            _start_as(gpu, card, plant)
            if workload is None:
                gpu.workload = _recorded(card, lambda reading: reading.power_w)
                self._others.append(_recorded(card, lambda reading: reading.others_w))
            else:
                self._others.append(lambda time_s: workload(time_s) * (len(cards) - 1))
        self._others_w = [others(0.0) for others in self._others]

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass for every card."""
        for number, gpu in enumerate(self.gpus):
            time_constant_s = gpu.plant.resistance(gpu.speed_percent) * gpu.plant.heat_capacity
            now_w = self._others[number](gpu.time_s)
            self._others_w[number] = approach(self._others_w[number], now_w, remaining_share(seconds, time_constant_s))
            gpu.neighbour_heat_k = self._coupling_k_per_w[number] * self._others_w[number]
        super().advance(seconds)


def simulated_boxes(profile: str, workload: str, inlet_c: float | None) -> Callable[[], SimulatedBox]:
    """Return a function that makes the box `profile` under `workload`. `inlet_c` replaces its inlet temperature."""
    chosen = PROFILES[profile]
    chosen = replace(chosen, plants=tuple(_with_inlet(plant, inlet_c) for plant in chosen.plants))
    return partial(SimulatedBox, chosen, WORKLOADS[workload])


def fitted_boxes(
    path: Path, names: Sequence[str], workload: str | None, inlet_c: float | None
) -> Callable[[], SimulatedBox]:
    """Return a function that makes a `FittedBox` of the cards `names` (all if empty) of the recording `path`.

    Raises InputError or GpufanError.
    """
    cards = choose(collect(recording.read(path)), names, str(path))
    fitted = [(card, _with_inlet(fit(card).plant, inlet_c)) for card in cards]
    return partial(FittedBox, fitted, WORKLOADS[workload] if workload else None)


def steps(card: RecordedCard) -> Iterator[tuple[float, Reading]]:
    """Yield each reading but the first of a stretch, and the seconds since the reading before."""
    for stretch in card.stretches:
        for before, after in pairwise(stretch):
            yield after.time_s - before.time_s, after


def _with_inlet(plant: _P, inlet_c: float | None) -> _P:
    return plant if inlet_c is None else replace(plant, inlet_c=inlet_c)


def _start_as(gpu: SimulatedGpu, card: RecordedCard, plant: FittedPlant) -> None:
    """Give `gpu` the identity of `card`, and the state of its first reading."""
    gpu.info = replace(card.info, slowdown_c=gpu.plant.slowdown_c)
    from gpufan.tune.course import Course  # it needs scipy, which `simulate` does not

    first = card.readings[0]
    gpu.die_c = first.temperature_c
    gpu.sink_c, gpu.case_heat_k = Course(card.stretches[0]).start(plant)
    gpu.speed_percent = gpu.driver_percent = first.speed_percent
    highest_w = max(reading.power_w for reading in card.readings)
    gpu.plant = replace(gpu.plant, power_limit_w=max(gpu.plant.power_limit_w, highest_w))


def _recorded(card: RecordedCard, value: Callable[[Reading], float]) -> Workload:
    """Return `value` of `card` over time, without the gaps between stretches; it repeats at the end."""
    values = [value(reading) for _, reading in steps(card)]
    ends_s = list(accumulate(elapsed_s for elapsed_s, _ in steps(card)))
    return lambda time_s: values[min(bisect_right(ends_s, time_s % ends_s[-1]), len(values) - 1)]
