"""Makes the boxes on which settings are tried: simulated boxes, and boxes of plants fitted to recorded cards.

A plant is the thermal model of a card.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path

from gpufan.core.thermal import approach, remaining_share
from gpufan.daemon import recording
from gpufan.gpu.simulated import PROFILES, WORKLOADS, Profile, SimulatedBox, SimulatedGpu, Workload
from gpufan.tune.fit import fit
from gpufan.tune.plant import FittedPlant, plant_with_inlet
from gpufan.tune.recorded_cards import Reading, RecordedCard, choose_recorded, recorded_cards


class FittedBox(SimulatedBox):
    """A simulated box of recorded cards. Each card is simulated by the plant that was fitted to its recording.

    Each card starts at its first recorded temperature. The power of the other cards warms its inlet air. When the
    recorded power ends, it repeats from its start.
    """

    def __init__(self, cards: Sequence[tuple[RecordedCard, FittedPlant]], workload: Workload | None = None) -> None:
        """Make the box. Each card draws the power (W) of `workload`, or its recorded power if `workload` is None."""
        super().__init__(Profile("", tuple(plant for _, plant in cards)), workload or (lambda _: 0.0))
        self._others: list[Workload] = []
        self._coupling_k_per_w = [plant.coupling for _, plant in cards]
        for gpu, (card, plant) in zip(self.gpus, cards, strict=True):
            self._start_as_recorded(gpu, card, plant)
            if workload is None:
                gpu.workload = self._recorded_workload(card, lambda reading: reading.power_w)
                self._others.append(self._recorded_workload(card, lambda reading: reading.others_w))
            else:
                self._others.append(lambda time_s: workload(time_s) * (len(cards) - 1))
        self._others_w = [others(0.0) for others in self._others]

    def advance(self, seconds: float) -> None:
        """Simulate the next `seconds` of every card. The power of the other cards warms the inlet air of the card."""
        for number, gpu in enumerate(self.gpus):
            time_constant_s = gpu.plant.resistance(gpu.speed_percent) * gpu.plant.heat_capacity
            now_w = self._others[number](gpu.time_s)
            self._others_w[number] = approach(self._others_w[number], now_w, remaining_share(seconds, time_constant_s))
            gpu.neighbour_heat_k = self._coupling_k_per_w[number] * self._others_w[number]
        super().advance(seconds)

    @staticmethod
    def _start_as_recorded(gpu: SimulatedGpu, card: RecordedCard, plant: FittedPlant) -> None:
        """Give the simulated card `gpu` the identity of the recorded `card` and the state of its first reading.

        `plant` is the plant fitted to `card`.
        """
        from gpufan.tune.course import Course  # it needs scipy, which `simulate` does not

        first = card.readings[0]
        gpu.die_c = first.temperature_c
        gpu.sink_c, gpu.case_heat_k = Course(card.stretches[0]).start(plant)
        gpu.speed_percent = gpu.driver_percent = first.speed_percent
        highest_w = max(reading.power_w for reading in card.readings)
        gpu.plant = replace(gpu.plant, power_limit_w=max(gpu.plant.power_limit_w, highest_w))
        # A recording has no power limit, without which a target is held in another way than on the card itself.
        gpu.info = replace(card.info, slowdown_c=gpu.plant.slowdown_c, power_limit_w=highest_w)

    @staticmethod
    def _recorded_workload(card: RecordedCard, power_w: Callable[[Reading], float]) -> Workload:
        """Return a workload that repeats the recording of `card` without its gaps.

        `power_w` returns the power (W) to use from a reading: the power of the card, or the power of the other cards.
        """
        powers_w = [power_w(reading) for _, reading in card.steps()]
        ends_s = list(accumulate(elapsed_s for elapsed_s, _ in card.steps()))
        return lambda time_s: powers_w[min(bisect_right(ends_s, time_s % ends_s[-1]), len(powers_w) - 1)]


def simulated_boxes(profile: str, workload: str, inlet_c: float | None) -> Callable[[], SimulatedBox]:
    """Return a function that makes a simulated box. `profile` and `workload` are names in `PROFILES` and `WORKLOADS`.

    `inlet_c` is the inlet temperature of the cards, °C. With None, each card has the inlet temperature of the profile.
    """
    chosen = PROFILES[profile]
    chosen = replace(chosen, plants=tuple(plant_with_inlet(plant, inlet_c) for plant in chosen.plants))
    return partial(SimulatedBox, chosen, WORKLOADS[workload])


def fitted_boxes(
    path: Path, names: Sequence[str], workload: str | None, inlet_c: float | None
) -> Callable[[], SimulatedBox]:
    """Return a function that makes a `FittedBox` of the cards `names` in the recording `path`.

    Without names, the box has all recorded cards. `workload` is a name in `WORKLOADS`. With None, the cards draw their
    recorded power. `inlet_c` is the inlet temperature of the cards, °C. With None, the fitted inlet temperature is
    used. Raises InputError if the recording cannot be read or a name matches no card, GpufanError if a fit fails.
    """
    cards = choose_recorded(recorded_cards(recording.read_recording(path)), names, str(path))
    fitted = [(card, plant_with_inlet(fit(card).plant, inlet_c)) for card in cards]
    return partial(FittedBox, fitted, WORKLOADS[workload] if workload else None)
