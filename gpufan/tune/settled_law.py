"""What the target law knows of a card that it has controlled for a long time, computed from the plant of the card.

A plant is the thermal model of a card.
"""

import math

from gpufan.control.law import Learnt
from gpufan.control.target_law import ROOM_C, TUNABLES, TYPICAL_C
from gpufan.tune.plant import FittedPlant


def settled_learnt(
    plant: FittedPlant, target_c: float, power_w: float, others_w: float, power_limit_w: float
) -> Learnt:
    """Return the model that the target law learns while it holds `plant` at `target_c`, °C.

    The card draws `power_w`, and the other cards together `others_w`, W. `power_limit_w` is the limit that the law
    knows, W.
    """
    air_c = plant.inlet_c + plant.case_resistance * power_w + plant.coupling * others_w
    flow = (target_c - air_c) / power_w - plant.resistance_floor
    needed = (plant.resistance_flow / flow) ** (1 / plant.resistance_exponent) if flow > 0 else math.inf
    expected = power_w / power_limit_w * (TYPICAL_C - ROOM_C) / max(target_c - ROOM_C, 5.0)
    return Learnt(min(100 * needed / expected**TUNABLES.exponent, 1e4))
