"""The table of the control benchmark: rows of laws, and the aims of the target law."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from tests.benchmarks import laws, markdown
from tests.benchmarks.control.measure import TARGETS_C, Outcome

COMPARABLE_THROTTLE_S = 60.0
"""A card that lowers its clocks for longer than this is quieter because it works less: its sound is not compared, s."""


class Result(NamedTuple):
    """One run, and what only the family *own* knows of it."""

    outcome: Outcome
    above_db: float = math.nan
    """Sound above the bound, dB(A); NaN where there is no bound."""
    longest_hot_s: float = 0.0
    """The longest time at a stretch above the target + 3 K, where the bound can hold the target, s."""
    coupled: bool = False
    """Whether two cards share air."""
    steady: bool = False
    """Whether the load of the last half hour is steady."""


Row = tuple[str, float]
"""A law and its target, °C; NaN for a law without a target."""

Family = Mapping[Row, Sequence[Result]]
"""The results of a family: for each row those of the same runs in the same order."""


def sound_at(heat_c: float, others: Iterable[Outcome]) -> float:
    """Sound of another law at `heat_c` by its runs at several targets, dB(A); NaN if it throttled in all of them.

    Between two runs the sound is a straight line over the heat, and so beyond them, for 5 K.
    """
    points = sorted((o.heat_c, o.sound_db) for o in others if o.throttled_s <= COMPARABLE_THROTTLE_S)
    if not points:
        return math.nan
    apart = [point for point, later in pairwise([*points, (math.inf, 0.0)]) if later[0] - point[0] >= 1]
    if len(apart) == 1:
        return apart[0][1]
    heat_c = min(max(heat_c, apart[0][0] - 5), apart[-1][0] + 5)
    left = max([i for i, p in enumerate(apart[:-1]) if p[0] <= heat_c], default=0)
    (low_c, low_db), (high_c, high_db) = apart[left], apart[left + 1]
    return low_db + (high_db - low_db) * (heat_c - low_c) / (high_c - low_c)


def over_reference(family: Family, row: Row) -> float:
    """Mean sound of a law over that of the reference at the same heat, dB(A)."""
    others = zip(*(family[laws.REFERENCE, target_c] for target_c in TARGETS_C), strict=True)
    differences = [
        result.outcome.sound_db - sound_at(result.outcome.heat_c, (other.outcome for other in each))
        for result, each in zip(family[row], others, strict=True)
        if result.outcome.throttled_s <= COMPARABLE_THROTTLE_S
    ]
    known = [db for db in differences if not math.isnan(db)]
    return statistics.fmean(known) if known else math.nan


def avoidable_s(family: Family, row: Row) -> list[float]:
    """Time too hot beyond that of full fans for each run, s. A law without a target counts as one of 78 °C."""
    index = TARGETS_C.index(78.0 if math.isnan(row[1]) else row[1])
    pairs = zip(family[row], family[laws.FULL, math.nan], strict=True)
    return [max(own.outcome.hot_s[index] - full.outcome.hot_s[index], 0) for own, full in pairs]


def mean(family: Family, row: Row, of: Callable[[Outcome], float]) -> float:
    """The mean of a figure over the runs of a row."""
    return statistics.fmean(of(result.outcome) for result in family[row])


def worst_tenth(values: Iterable[float]) -> float:
    """What a tenth of the values exceed."""
    ordered = sorted(values)
    return ordered[min(math.ceil(0.9 * len(ordered)), len(ordered)) - 1]


def above_bound(results: Iterable[Result], share: float = 0.5) -> float:
    """Sound above the bound that `share` of the comparable runs do not exceed, dB(A)."""
    known = sorted(result.above_db for result in results if not math.isnan(result.above_db))
    return known[min(math.ceil(share * len(known)), len(known)) - 1] if known else math.nan


def never_settle(family: Family, row: Row) -> int:
    """Number of runs with a steady load whose fans still swing in the last half hour."""
    return sum(result.steady and result.outcome.late_swings > 1 for result in family[row])


HEADINGS = (
    "law",
    "target",
    "dB(A)",
    "heat °C",
    "over reference",
    "avoidable s",
    "swings/h",
    "variation/h",
    "small steps/h",
    "throttled s",
    "never settle",
)


def table(family: Family) -> str:
    """The rows of a family."""
    bound = any(not math.isnan(result.above_db) for results in family.values() for result in results)
    rows = []
    for row, results in family.items():
        law, target_c = row
        hot_s = avoidable_s(family, row)
        swings = [result.outcome.swings for result in results]
        cells = (
            law,
            "" if math.isnan(target_c) else f"{target_c:.0f} °C",
            f"{mean(family, row, lambda o: o.sound_db):.1f}",
            f"{mean(family, row, lambda o: o.heat_c):.1f}",
            f"{over_reference(family, row):+.2f}",
            f"{statistics.fmean(hot_s):.1f} / {max(hot_s):.0f}",
            f"{statistics.fmean(swings):.1f} / {worst_tenth(swings):.1f}",
            f"{mean(family, row, lambda o: o.variation):.0f}",
            f"{mean(family, row, lambda o: o.small_steps):.0f}",
            f"{mean(family, row, lambda o: o.throttled_s):.0f}",
            f"{never_settle(family, row)}",
        )
        if bound:
            median_db, tenth_db = above_bound(results), above_bound(results, 0.9)
            cells += (f"{median_db:.2f} / {tenth_db:.2f}", f"{max(r.longest_hot_s for r in results):.0f}")
        rows.append(cells)
    return markdown((*HEADINGS, *(("above bound", "longest hot s") if bound else ())), rows)


class Released(NamedTuple):
    """Figures of gpufan 0.1.0 on the family *own*, which the target law must not fall behind."""

    longest_hot_s: float
    over_reference_db: float
    pairs_above_db: float
    pairs_hot_s: float


def aims(name: str, family: Family, released: Mapping[float, Released]) -> list[tuple[str, bool]]:
    """The aims of the target law on the family `name`, and whether each is met."""
    found = []
    for target_c in TARGETS_C:
        ours, reference = (laws.OURS, target_c), (laws.REFERENCE, target_c)
        if ours not in family or reference not in family:
            continue
        at = f"{name}, {target_c:.0f} °C"
        if name == "own":
            found += _own_aims(at, family, ours, released.get(target_c))
            continue
        louder_db = over_reference(family, ours)
        found.append((f"{at}: no louder than the reference at equal heat ({louder_db:+.2f} dB)", louder_db <= 0.1))
        for what, of, share in (
            ("swings", lambda o: o.swings, 1.0),
            ("variation", lambda o: o.variation, 1.1),
        ):
            own, other = mean(family, ours, of), mean(family, reference, of)
            limit = "no more" if share == 1 else f"at most {share:g} times the"
            found.append((f"{at}: {limit} {what} ({own:.1f}, reference {other:.1f})", own <= share * other))
        own, other = max(avoidable_s(family, ours)), max(avoidable_s(family, reference))
        found.append((f"{at}: no hotter in the worst run ({own:.0f} s, reference {other:.0f} s)", own <= other))
    return found


def _own_aims(at: str, family: Family, ours: Row, released: Released | None) -> list[tuple[str, bool]]:
    results = family[ours]
    median_db = above_bound(results)
    found = [(f"{at}: at most 0.6 dB(A) above the bound in the median ({median_db:.2f})", median_db <= 0.6)]
    if released is None:
        return found
    longest_s = max(result.longest_hot_s for result in results)
    over_db = over_reference(family, ours)
    pairs = [result for result in results if result.coupled]
    pairs_db, pairs_s = above_bound(pairs), max((result.longest_hot_s for result in pairs), default=0.0)
    return [
        *found,
        (
            f"{at}: no longer too hot than 0.1.0 ({longest_s:.0f} s, 0.1.0 {released.longest_hot_s:.0f} s)",
            longest_s <= released.longest_hot_s,
        ),
        (
            f"{at}: ahead of the reference as 0.1.0 was ({over_db:+.2f} dB, 0.1.0 {released.over_reference_db:+.2f})",
            over_db <= released.over_reference_db + 0.1,
        ),
        (
            f"{at}: pairs as quiet as with 0.1.0 ({pairs_db:.2f} over the bound, 0.1.0 {released.pairs_above_db:.2f})",
            pairs_db <= released.pairs_above_db + 0.05,
        ),
        (
            f"{at}: pairs as cool as with 0.1.0 ({pairs_s:.0f} s, 0.1.0 {released.pairs_hot_s:.0f} s)",
            pairs_s <= released.pairs_hot_s,
        ),
    ]
