"""How quiet two cards could be at best where card 1 blows at card 0: perfect foresight for both.

Each card's plan is the best for what the other does: card 0 for the air that card 1 leaves it, card 1 with a charge on
every W that it blows at card 0, which is what that costs card 0. The two are taken in turn until neither gains.
`joint.py` plans both cards at once, with duties that may change at will for nothing, which is too slow to do for the
whole family; where it was done, it gained a tenth of a decibel.
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
"""Rounds end when the cost has not fallen by this share."""

PROBE_K = 0.5
"""What the air of card 0 is cooled by to see what that saves."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two cards and their hour."""

    plants: tuple[Plant, ...]
    loads: tuple[Hour, ...]
    coupling: float
    """K for each W that leaves card 1 at half duty."""
    dilution_exponent: float

    def upper(self, exhaust_w: Array, price_s: float) -> Problem:
        """Card 0 in the air that card 1 leaves it."""
        warming_k = self.coupling * exhaust_w
        return Problem(self.plants[0], self.loads[0], price_s=price_s, warming_k=warming_k, temperatures=TEMPERATURES)

    def lower(self, charge: Array, price_s: float) -> Problem:
        """Card 1, charged for each K by which it warms the other's air."""
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
        """The best plans for cards 0 and 1, or None where full fans break the limit."""
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
                # Card 0 cannot bear what card 1 would do for itself alone: begin with the coolest air there is.
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
        """What a K costs card 0 at each step: most where it is loudest, in all what cooler air would save it."""
        cooler = self.upper(exhaust_w - PROBE_K / self.coupling, price_s).plans([limit_c])[limit_c]
        saved = max(plan.energy - cooler.energy, 0) / PROBE_K
        energy: Array = (plan.duties / 100) ** 5
        return saved * energy / energy.mean()


def build(number: int, workload: str, seconds: int = family.HOUR_S) -> Pair:
    """The two cards of box `number` at `workload`."""
    profile = family.draw(number)
    loads = (
        hour(plant, family.load(workload, number, card), number, seconds, card)
        for card, plant in enumerate(profile.plants)
    )
    return Pair(profile.plants, tuple(loads), profile.coupling[0][1], profile.dilution_exponent)


def bound(workload: str, number: int) -> Bound:
    """For the pair of box `number` at `workload`: mean sound of the two, and swings of the more restless."""
    pair = build(number, workload)
    coolest_c = pair.lowest_c()
    found: dict[float, tuple[Plan, Plan]] = {}
    for limit_c in (coolest_c + 0.3, *(float(c) for c in LIMITS_C if c > coolest_c + 0.3)):
        plans = pair.plans(limit_c)
        if plans:
            found[limit_c] = plans
        if plans and all(plan.duties.max() == plan.duties.min() for plan in plans):
            # The lowest duty is enough, and there is nothing more to ask.
            break
    sounds_db = [
        sound_db(float(np.mean([plan.energy for plan in plans])) ** 0.2 * plans[0].full_scale_rpm)
        for plans in found.values()
    ]
    return Bound(coolest_c, list(found), sounds_db, [max(plan.swings for plan in plans) for plans in found.values()])
