"""Recordings of simulated cards, for the tests of `gpufan tune`."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.daemon.recording import Row, recording_rows
from gpufan.daemon.snapshot_file import snapshot_now
from gpufan.daemon.worker import Worker
from gpufan.gpu.simulated import WORKLOADS, Plant, SimulatedGpu
from gpufan.tune.fit import Fit, fit
from gpufan.tune.recorded_cards import RecordedCard, Stretch, recorded_cards

if TYPE_CHECKING:
    from gpufan.tune.course import Course

NOMINAL = Plant()

EAGER = "45:30,78:80"
"""A curve that moves the fans with every change of load."""


@cache
def record(
    plant: Plant = NOMINAL, workload: str = "epochs", minutes: float = 10, curve: str = EAGER, seed: int = 1
) -> tuple[Row, ...]:
    """Rows of one card that follows `curve` at once."""
    gpu = SimulatedGpu(0, "NVIDIA GeForce GTX 1080 Ti", plant, WORKLOADS[workload], seed)
    worker = Worker(gpu, lambda _: CardSettings(Curve.parse(curve), hysteresis_c=1, hold_s=5))
    found = []
    for second in range(round(minutes * 60) + 1):
        worker.tick(second)
        found += recording_rows(snapshot_now((worker.state,), interval_s=1, simulated_s=second))
        gpu.advance(0.5)
        gpu.advance(0.5)
    return tuple(found)


def course(stretch: Stretch) -> "Course":
    """The course of `stretch`. Every process of pytest collects all tests, and scipy takes half a second to load."""
    from gpufan.tune.course import Course

    return Course(stretch)


def card(found: Iterable[Row] = ()) -> RecordedCard:
    """The card of `found`, or of ten minutes of the nominal card."""
    (only,) = recorded_cards(found or record())
    return only


@cache
def fitted(plant: Plant = NOMINAL, workload: str = "epochs", minutes: float = 10, curve: str = EAGER) -> Fit:
    """The fit of such a recording."""
    return fit(card(record(plant, workload, minutes, curve)))


WARM = replace(Plant(), inlet_c=41.0)
"""A card that no fan keeps under 80 °C in training."""
