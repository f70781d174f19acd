"""The figures of gpufan 0.1.0 on the family *own*, measured with this benchmark before its target law was replaced."""

from tests.benchmarks.control.table import Released

RELEASED: dict[str, dict[float, Released]] = {
    "look": {},
    "final": {},
}
"""By half of the seeds and target, °C."""
