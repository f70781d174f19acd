"""`gpufan simulate`: which settings are compared, and on which cards."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from gpufan.core.card_settings import DEFAULT_CURVE, CardSettings
from gpufan.core.curve import Curve
from gpufan.daemon import recording
from gpufan.gpu.simulated import PROFILES, WORKLOADS, Plant, SimulatedBox
from gpufan.tune.fit import fit
from gpufan.tune.readings import choose, collect
from gpufan.tune.replay import FittedBox, Setting

_P = TypeVar("_P", bound=Plant)


def settings(curves: Sequence[Curve], targets_c: Sequence[float]) -> list[Setting]:
    """What is asked for, and then what it has to be better than."""
    asked = [CardSettings(curve) for curve in curves if curve != DEFAULT_CURVE]
    asked += [CardSettings(target_c=target_c) for target_c in targets_c]
    named = [Setting(str(settings), settings) for settings in dict.fromkeys(asked)]
    return [*named, Setting("default curve", CardSettings()), Setting("stock driver", None)]


def simulated_boxes(profile: str, workload: str, inlet_c: float | None) -> Callable[[], SimulatedBox]:
    """Makes the box of `profile`, with air of `inlet_c` where that is given."""
    chosen = PROFILES[profile]
    chosen = replace(chosen, plants=tuple(_in_air(plant, inlet_c) for plant in chosen.plants))
    return partial(SimulatedBox, chosen, WORKLOADS[workload])


def fitted_boxes(
    path: Path, names: Sequence[str], workload: str | None, inlet_c: float | None
) -> Callable[[], SimulatedBox]:
    """Makes a box of the cards recorded in `path`, under `workload` or the power that they drew.

    Raises InputError or GpufanError.
    """
    cards = choose(collect(recording.read(path)), names, str(path))
    fitted = [(card, _in_air(fit(card).plant, inlet_c)) for card in cards]
    return partial(FittedBox, fitted, WORKLOADS[workload] if workload else None)


def _in_air(plant: _P, inlet_c: float | None) -> _P:
    return plant if inlet_c is None else replace(plant, inlet_c=inlet_c)
