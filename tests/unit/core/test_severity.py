"""How serious a state is: by its reason, by the fault of its fans, and by the time without control."""

from typing import Any

import pytest

from gpufan.core.reasons import Cause, Reason, Remedy
from gpufan.core.severity import FAULT_CAUSES, Severity, severity
from tests.unit.builders import gpu_state

STILL = Reason(Cause.FAN_STILL, fan=1, found_percent=100, seconds=10.0)
SLOW = Reason(Cause.FAN_SLOW, fan=0, found_percent=40, set_percent=62)
OTHER_TARGET = Reason(Cause.OTHER_TARGET, fan=0, found_percent=40, set_percent=62)
FLOOR = Reason(Cause.FAN_FLOOR, fan=0, limit_percent=40)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Severity.FINE),
        ({"group": "full"}, Severity.FINE),
        ({"group": "fail-safe"}, Severity.WARNING),
        ({"group": "fault", "control": "released"}, Severity.WARNING),
        ({"group": "lost", "control": "lost"}, Severity.PROBLEM),
        ({"fault": SLOW}, Severity.WARNING),
        ({"fault": STILL}, Severity.PROBLEM),
        ({"fault": STILL, "group": "fail-safe"}, Severity.PROBLEM),
        ({"fault": STILL, "remedy": Remedy.SET_AGAIN}, Severity.PROBLEM),
        ({"fault": FLOOR}, Severity.FINE),
        ({"fault": OTHER_TARGET, "remedy": Remedy.SET_AGAIN}, Severity.FINE),
        ({"group": "fault", "control": "released", "release_error": "refused"}, Severity.PROBLEM),
        ({"uncontrolled_s": 59.0}, Severity.FINE),
        ({"uncontrolled_s": 60.0}, Severity.PROBLEM),
    ],
)
def test_the_worst_of_a_state_counts(changes: dict[str, Any], expected: Severity) -> None:
    assert severity(gpu_state(**changes)) is expected


def test_a_limit_of_the_driver_is_among_the_faults_and_a_lost_card_is_not() -> None:
    assert Cause.FAN_FLOOR in FAULT_CAUSES
    assert Cause.LOST not in FAULT_CAUSES
