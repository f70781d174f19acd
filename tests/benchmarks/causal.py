"""The best possible law without foresight: how much of the distance to the bound no law can close.

    python -m tests.benchmarks.causal [--boxes N] [--price S]... [--bounds FILE]

For queues of random jobs on a single card. The bound of `bound.py` knows each job of the hour in advance. The law here
knows the card and the distribution of the jobs, but not the next job. Value iteration finds the duty of least mean cost
for each heatsink temperature, each duty, and each age of a job or pause. Changes have the same price, and falls the
same speed, as there. The target may be exceeded at a price, because no law can hold it for a job of any length.

This law need not learn the card, so a law that must learn it cannot be better.
"""

import argparse
import math
from bisect import bisect_right
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np

from gpufan.gpu.simulated import Plant, Workload
from tests.benchmarks import family, markdown
from tests.benchmarks.bound import CHANGE_PRICE_S, FALL_PERCENT_PER_S, STEP_S, Array, Bound, Hour, Plan, hour
from tests.benchmarks.control.own import bounds, judge, over, run
from tests.benchmarks.laws import OURS, TARGET_C

PAUSES_S, JOBS_S, JOBS_W, IDLE_W = (5, 600), (20, 1200), (100, 240), 12.0
"""The distribution in `family.queue`: uniform in the logarithm of the length, and in the power."""

POWERS = 7
"""Number of powers for which jobs are solved; values between them are interpolated."""

TEMPERATURES, SPACING, ROUNDS = 64, 2.0, 300
"""Number of heatsink temperatures in the grid, points from duty to duty, and rounds of value iteration."""

MARGIN_C, OVER_PRICE, MOST_OVER_K = 0.2, 0.2, 6.0
"""The aim is `MARGIN_C` below the target. Each K above the aim costs `OVER_PRICE` of the sound energy of a step at full
speed. The grid ends `MOST_OVER_K` above the aim."""

NAME = "best without foresight"


def stages(shortest_s: float, longest_s: float) -> list[tuple[int, int, float]]:
    """A job or pause in stages: first step, number of steps, and probability that it ends in each of these steps."""
    shares = (np.arange(200_000) + 0.5) / 200_000
    lengths = np.exp(math.log(shortest_s) + shares * math.log(longest_s / shortest_s)) / STEP_S
    ends = np.bincount(np.maximum(np.round(lengths).astype(int), 1)) / len(shares)
    lasts = 1 - np.cumsum(ends) + ends
    first = [1]
    while first[-1] < len(ends):
        first.append(max(first[-1] + 1, round(first[-1] * 1.35)))
    return [(a, b - a, float(ends[a:b].sum() / lasts[a:b].sum())) for a, b in pairwise(first)]


class Policy:
    """The duty of least mean cost on one card, for each state of the card and of the queue."""

    def __init__(
        self,
        plant: Plant,
        *,
        temperatures: int = TEMPERATURES,
        rounds: int = ROUNDS,
        price_s: float = CHANGE_PRICE_S,
    ) -> None:
        """Find the values by `rounds` of value iteration on a grid of `temperatures` points.

        `price_s` is the price of a change by one point, in seconds at full speed.
        """
        self.plant = plant
        low, high = plant.duty_range
        self._duty = np.arange(high, low - 1, -SPACING)[::-1].copy()
        self._energy = (self._duty / 100) ** 5
        self._price = price_s / STEP_S
        self._fall = int(FALL_PERCENT_PER_S * STEP_S / SPACING)
        self._column = np.arange(len(self._duty))
        self._rest = np.array([plant.resistance(d) for d in self._duty]) - plant.die_resistance
        self._decay = np.exp(-STEP_S / (self._rest * plant.heat_capacity))
        low_w, high_w = JOBS_W
        self._powers_w = [IDLE_W, *(low_w + (high_w - low_w) * (np.arange(POWERS) + 0.5) / POWERS)]
        self._shares = np.linspace(0, 1, temperatures) ** 1.5
        self._pauses, self._jobs = stages(*PAUSES_S), stages(*JOBS_S)
        self._iterate(rounds)

    def _limit_c(self, power_w: float) -> float:
        """Limit of the heatsink at `power_w`, °C."""
        return TARGET_C - MARGIN_C - self.plant.die_resistance * power_w

    def _after_c(self, sink_c: Array | float, power_w: float) -> Array:
        """Temperature of the heatsink after a step, one column for each duty."""
        end_c = self.plant.inlet_c + power_w * self._rest
        after_c: Array = end_c + (sink_c - end_c) * self._decay
        return after_c

    def _cell(self, power: int, sink_c: Array) -> tuple[Array, Array]:
        """The cells of the grid of a power that contain the temperatures, and the positions in them."""
        top_c = self._limit_c(self._powers_w[power]) + MOST_OVER_K
        share = np.clip((top_c - sink_c) / (top_c - self.plant.inlet_c), 0, 1)
        cell = np.minimum((share ** (1 / 1.5) * (len(self._shares) - 1)).astype(np.intp), len(self._shares) - 2)
        return cell, (share - self._shares[cell]) / (self._shares[cell + 1] - self._shares[cell])

    def _at(self, values: Array, cell: tuple[Array, Array]) -> Array:
        near, part = values[..., cell[0], self._column], cell[1]
        found: Array = near + part * (values[..., cell[0] + 1, self._column] - near)
        return found

    def _penalty(self, after_c: Array, power_w: float) -> Array:
        penalty: Array = OVER_PRICE * np.maximum(after_c - self._limit_c(power_w), 0)
        return penalty

    def _cheapest(self, cost: Array) -> Array:
        """The least cost from each duty: a rise to any duty, or a fall by a few cells."""
        climb = self._price * self._duty
        value: Array = np.minimum.accumulate((cost + climb)[..., ::-1], axis=-1)[..., ::-1] - climb
        for cells in range(1, self._fall + 1):
            fallen = cost[..., :-cells] + self._price * SPACING * cells
            np.minimum(value[..., cells:], fallen, out=value[..., cells:])
        return value

    def _iterate(self, rounds: int) -> None:
        shape = (len(self._shares), len(self._duty))
        pause = np.zeros((len(self._pauses), *shape))
        jobs = np.zeros((POWERS, len(self._jobs), *shape))
        costs, cells = [], []
        for power, power_w in enumerate(self._powers_w):
            top_c = self._limit_c(power_w) + MOST_OVER_K
            after_c = self._after_c((top_c - (top_c - self.plant.inlet_c) * self._shares)[:, None], power_w)
            costs.append(self._energy + self._penalty(after_c, power_w))
            cells.append({to: self._cell(to, after_c) for to in ((0, power) if power else range(POWERS + 1))})
        for _ in range(rounds):
            begun = np.mean([self._at(jobs[power - 1, 0], cells[0][power]) for power in range(1, POWERS + 1)], axis=0)
            new_pause = self._cheapest(costs[0] + self._mixed(self._at(pause, cells[0][0]), begun, self._pauses))
            jobs = np.array(
                [
                    self._cheapest(
                        costs[power]
                        + self._mixed(
                            self._at(jobs[power - 1], cells[power][power]),
                            self._at(pause[0], cells[power][0]),
                            self._jobs,
                        )
                    )
                    for power in range(1, POWERS + 1)
                ]
            )
            # Only differences matter, so the mean cost of a step is subtracted.
            least = new_pause.min()
            pause, jobs = new_pause - least, jobs - least
        self._pause, self._job = pause, jobs

    @staticmethod
    def _mixed(stays: Array, ends: Array, stages: list[tuple[int, int, float]]) -> Array:
        """Mean value after a step: the job or pause continues, perhaps in its next stage, or ends."""
        column = (len(stages), *[1] * (stays.ndim - 1))
        widths = np.array([width for _, width, _ in stages]).reshape(column)
        hazards = np.array([hazard for *_, hazard in stages]).reshape(column)
        later = np.concatenate([stays[1:], stays[-1:]])
        mixed: Array = (1 - hazards) * (stays + (later - stays) / widths) + hazards * ends
        return mixed

    def plan(self, workload: Workload, load: Hour) -> tuple[Plan, float]:
        """The plan of the policy for an hour, and the peak of the die, °C."""
        sink_c, at, since, last_w = self.plant.inlet_c + 5, 0, 0, -1.0
        duties, peak_c = [], 0.0
        for k, power_w in enumerate(load.powers_w):
            asked_w = workload(k * STEP_S)
            since = since + 1 if asked_w == last_w else 1
            last_w = asked_w
            cost = self._cost(sink_c, asked_w, since) + self._price * np.abs(self._duty - self._duty[at])
            cost[: max(at - self._fall, 0)] = np.inf
            at = int(cost.argmin())
            sink_c = float(self._after_c(sink_c, power_w)[at])
            peak_c = max(peak_c, sink_c + load.offsets_k[k + 1])
            duties.append(self._duty[at])
        return Plan(np.array(duties), self.plant.full_scale_rpm), peak_c

    def _cost(self, sink_c: float, asked_w: float, since: int) -> Array:
        """Cost of each duty after `since` steps of a load of `asked_w`."""
        after_c = self._after_c(sink_c, asked_w)
        stages = self._pauses if asked_w == IDLE_W else self._jobs
        stage = bisect_right([first for first, *_ in stages], since) - 1
        if asked_w == IDLE_W:
            ends = np.mean([self._at(self._job[p, 0], self._cell(p + 1, after_c)) for p in range(POWERS)], axis=0)
            stays = self._at(self._pause, self._cell(0, after_c))
        else:
            ends = self._at(self._pause[0], self._cell(0, after_c))
            place = (asked_w - JOBS_W[0]) / (JOBS_W[1] - JOBS_W[0]) * POWERS - 0.5
            below = min(max(math.floor(place), 0), POWERS - 2)
            part = min(max(place - below, 0.0), 1.0)

            def value(job: int) -> Array:
                # The same distance below the limit of that power as below its own limit.
                like_c = after_c + self._limit_c(self._powers_w[job + 1]) - self._limit_c(asked_w)
                return self._at(self._job[job], self._cell(job + 1, like_c))

            stays = (1 - part) * value(below) + part * value(below + 1)
        return self._energy + self._penalty(after_c, asked_w) + self._mixed(stays, ends, stages)[stage]


def outcome(number: int, price_s: float) -> dict[str, float]:
    """Outcome of box `number` with changes at `price_s`, in the form of the control benchmark."""
    (plant,) = family.draw(number).plants
    workload = family.load("queue", number, 0)
    plan, peak_c = Policy(plant, price_s=price_s).plan(workload, hour(plant, workload, number))
    # The driver's own limit is not modelled here, so such cards are not compared.
    throttled_s = float(peak_c >= plant.target_c)
    return {"quiet_peak_c": peak_c, "sound_db": plan.sound_db, "swings": plan.swings, "throttled_s": throttled_s}


def main() -> None:
    """Compare it with the target law of gpufan, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--boxes", type=int, default=family.PLANTS, help="number of boxes of the family (default %(default)s)"
    )
    parser.add_argument(
        "--price",
        type=float,
        action="append",
        help=f"price of a change by one point, in seconds at full speed; repeatable (default {CHANGE_PRICE_S})",
    )
    parser.add_argument("--bounds", type=Path, help="file for bounds, as in the control benchmark")
    arguments = parser.parse_args()
    numbers = [number for number in range(1, arguments.boxes + 1) if not family.draw(number).coupling]
    with ProcessPoolExecutor() as pool:
        best: dict[int, Bound] = bounds(pool, arguments.bounds, ["queue"], numbers)["queue"]
        numbers = [number for number in numbers if best[number].lowest_c <= TARGET_C]
        count = len(numbers)
        found = {
            f"{NAME}, {price_s:g} s": list(pool.map(outcome, numbers, [price_s] * count))
            for price_s in arguments.price or [CHANGE_PRICE_S]
        } | {
            OURS: list(pool.map(run, [OURS] * count, ["queue"] * count, numbers)),
        }
    rows = []
    for name, outcomes in found.items():
        for number, result in zip(numbers, outcomes, strict=True):
            judge(OURS, result, best[number])
        median_db, tenth_db = over(outcomes)
        restless = sum(result["spare_swings"] < 0 for result in outcomes)
        swings = sum(result["swings"] for result in outcomes)
        rows.append((name, f"{len(numbers)}", f"{median_db:.1f}", f"{tenth_db:.1f}", f"{swings:.0f}", f"{restless}"))
    rows.append(
        (
            "perfect foresight",
            f"{len(numbers)}",
            "0.0",
            "0.0",
            f"{sum(best[n].swings_at(TARGET_C) for n in numbers)}",
            "0",
        )
    )
    print(markdown(("law", "boxes", "above bound", "worst tenth", "swings", "restless"), rows))


if __name__ == "__main__":
    main()
