"""The bound for two cards where card 1 blows at card 0: the least sound with perfect foresight for both.

The plan of each card is the best for the plan of the other. Card 0 breathes the air that card 1 warms. Card 1 pays for
each W that it blows at card 0 what that W costs card 0. The two are planned in turn until neither gains. `joint.py`
plans both cards at once with free changes of duty; that is too slow for all boxes of the family, and gained a tenth of
a decibel in the boxes where it was tried.
"""

from dataclasses import dataclass

import numpy as np

from gpufan.core.thermal import sound_db
from gpufan.gpu.simulated import Plant
from tests.benchmarks import family
from tests.benchmarks.bound import CHANGE_PRICE_S, LIMITS_C, Array, Bound, Hour, Plan, Problem, hour

TEMPERATURES = 48
ROUNDS = 3
GAIN = 0.01
"""The rounds end when a round lowers the cost by less than this share."""

PROBE_K = 0.5
"""Cooling of card 0's air by which the value of cooler air is measured, K."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two cards and their loads for an hour."""

    plants: tuple[Plant, ...]
    loads: tuple[Hour, ...]
    coupling: float
    """Warming of card 0's inlet by each W that leaves card 1 at half duty, K/W."""
    dilution_exponent: float

    def upper(self, exhaust_w: Array, price_s: float) -> Problem:
        """Card 0 in the air that card 1 warms."""
        warming_k = self.coupling * exhaust_w
        return Problem(self.plants[0], self.loads[0], price_s=price_s, warming_k=warming_k, temperatures=TEMPERATURES)

    def lower(self, charge: Array, price_s: float) -> Problem:
        """Card 1, which pays `charge` for each K by which it warms card 0's air."""
        return Problem(
            self.plants[1],
            self.loads[1],
            price_s=price_s,
            burden=charge * self.coupling,
            dilution_exponent=self.dilution_exponent,
            temperatures=TEMPERATURES,
        )

    def lowest_c(self) -> float:
        """The peak of the hotter card with full fans."""
        lower = self.lower(np.zeros(1), 0)
        exhaust_w = lower.exhaust_w(np.full(lower.steps, lower.duty[-1]))
        return float(max(lower.peaks_c()[-1], self.upper(exhaust_w, 0).peaks_c()[-1]))

    def plans(self, limit_c: float, price_s: float = CHANGE_PRICE_S) -> tuple[Plan, Plan] | None:
        """The best plans for cards 0 and 1; None if full fans exceed the limit."""
        lower = self.lower(np.zeros(1), price_s)
        best: tuple[Plan, Plan] | None = None
        charge: Array | None = None
        for _ in range(ROUNDS):
            own = lower.plans([limit_c]).get(limit_c)
            if own is None:
                break
            exhaust_w = lower.exhaust_w(own.duties)
            theirs = self.upper(exhaust_w, price_s).plans([limit_c]).get(limit_c)
            if theirs is None and charge is None:
                # The best plan of card 1 alone makes card 0 too hot: start with the coolest possible air.
                exhaust_w = lower.exhaust_w(np.full(lower.steps, lower.duty[-1]))
                own = Plan(np.full(lower.steps, lower.duty[-1]), own.full_scale_rpm)
                theirs = self.upper(exhaust_w, price_s).plans([limit_c]).get(limit_c)
            if theirs is None:
                if charge is None:
                    break
                charge = 2 * charge
            else:
                gained = best is None or own.cost + theirs.cost < (1 - GAIN) * sum(plan.cost for plan in best)
                if best is None or own.cost + theirs.cost < sum(plan.cost for plan in best):
                    best = theirs, own
                if not gained:
                    break
                new = self._charge(theirs, exhaust_w, limit_c, price_s)
                charge = new if charge is None else (charge + new) / 2
            lower = self.lower(charge, price_s)
        return best

    def _charge(self, plan: Plan, exhaust_w: Array, limit_c: float, price_s: float) -> Array:
        """Cost of 1 K for card 0 at each step: proportional to its sound; the sum is what cooler air would save."""
        cooler = self.upper(exhaust_w - PROBE_K / self.coupling, price_s).plans([limit_c])[limit_c]
        saved = max(plan.energy - cooler.energy, 0) / PROBE_K
        energy: Array = (plan.duties / 100) ** 5
        return saved * energy / energy.mean()


def build(number: int, workload: str, seconds: int = family.HOUR_S) -> Pair:
    """The two cards of box `number` under `workload`."""
    profile = family.draw(number)
    loads = (
        hour(plant, family.load(workload, number, card), number, seconds, card)
        for card, plant in enumerate(profile.plants)
    )
    return Pair(profile.plants, tuple(loads), profile.coupling[0][1], profile.dilution_exponent)


def bound(workload: str, number: int) -> Bound:
    """The bound for the pair of box `number` under `workload`: mean sound of both, swings of the more restless."""
    pair = build(number, workload)
    coolest_c = pair.lowest_c()
    found: dict[float, tuple[Plan, Plan]] = {}
    for limit_c in (coolest_c + 0.3, *(float(c) for c in LIMITS_C if c > coolest_c + 0.3)):
        plans = pair.plans(limit_c)
        if plans:
            found[limit_c] = plans
        if plans and all(plan.duties.max() == plan.duties.min() for plan in plans):
            # The lowest duty is enough, so the bound does not change at higher limits.
            break
    sounds_db = [
        sound_db(float(np.mean([plan.energy for plan in plans])) ** 0.2 * plans[0].full_scale_rpm)
        for plans in found.values()
    ]
    return Bound(coolest_c, list(found), sounds_db, [max(plan.swings for plan in plans) for plans in found.values()])
