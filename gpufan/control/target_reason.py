"""Why the target law chose a duty: the cause and its numbers. Nothing here decides."""

import math
from functools import partial
from typing import NamedTuple

from gpufan.core.reasons import Cause, Reason


class Facts(NamedTuple):
    """The numbers that a decision of the target law was made from."""

    temperature_c: float
    power_w: float | None
    """None if it is not known."""
    target_c: float
    needed_percent: float
    """The duty that would hold the target if this power lasted for ever."""
    limits: tuple[int, int]
    floor_percent: float
    """The least duty at this temperature, whatever the model says."""
    shared_percent: float
    """The duty for neighbours that take in the card's heat."""
    falls_to_percent: float
    """The duty to which faster fans fall slowly: the demand, or the duty that holds the target at the expected power,
    whichever is higher.
    """


def explain(duty: int, facts: Facts, step_percent: int) -> Reason:
    """The reason of `duty`. A duty that differs from the needed one by less than `step_percent` counts as needed."""
    low, high = facts.limits
    needed = facts.needed_percent
    change = duty - round(min(max(needed, low), high))
    over_c = facts.temperature_c - facts.target_c
    because = partial(
        Reason, power_w=facts.power_w, needed_percent=needed, limit_c=facts.target_c, change_percent=change
    )
    if low < duty <= math.ceil(facts.floor_percent):
        return because(Cause.ABOVE_TARGET, difference_c=over_c) if over_c > 0 else because(Cause.SETTLING)
    if duty == low and needed <= low:
        return because(Cause.TARGET_MINIMUM, limit_percent=low)
    if change > 0 and duty <= math.ceil(facts.shared_percent):
        return because(Cause.NEIGHBOUR)
    if abs(change) < step_percent:
        return because(Cause.TARGET)
    if change > 0 and duty - math.ceil(max(facts.falls_to_percent, low)) >= step_percent:
        return because(Cause.SLOWING)
    if change > 0:
        # The sentence has the needed duty, which may be below the lowest one: this number and the change make the duty.
        return because(Cause.EXPECTED_LOAD, change_percent=duty - round(needed))
    return because(Cause.BELOW_TARGET, difference_c=-over_c) if over_c < 0 else because(Cause.SETTLING)
