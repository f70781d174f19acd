"""The figures of gpufan 0.1.0 on the family *own*, measured with this benchmark before its target law was replaced."""

from tests.benchmarks.control.table import Released

RELEASED: dict[str, dict[float, Released]] = {
    "look": {
        70.0: Released(longest_hot_s=0, over_reference_db=-0.83, pairs_above_db=0.00, pairs_hot_s=0),
        78.0: Released(longest_hot_s=31.5, over_reference_db=-1.47, pairs_above_db=0.46, pairs_hot_s=31.5),
        83.0: Released(longest_hot_s=0, over_reference_db=-1.87, pairs_above_db=0.00, pairs_hot_s=0),
    },
    "final": {},
}
"""By half of the seeds and target, °C. On the second half it was not measured."""
