"""The severity of the state of a card. Colours, log levels, events and findings depend on it."""

from enum import IntEnum

from gpufan.core.reasons import Cause, Control, Group
from gpufan.core.snapshot import GpuState

UNCONTROLLED_S = 60.0
"""A card that has been without control for this long, s, is a problem."""


class Severity(IntEnum):
    """How serious a state is, from the best to the worst."""

    FINE = 0
    WARNING = 1
    PROBLEM = 2


_OF_GROUP = {
    Group.FAIL_SAFE: Severity.WARNING,
    Group.FAULT: Severity.WARNING,
    Group.LOST: Severity.PROBLEM,
    Group.HANG: Severity.PROBLEM,
}

_OF_FAULT = {Cause.FAN_STILL: Severity.PROBLEM, Cause.FAN_SLOW: Severity.WARNING}
"""The severity of the faults that last.

After another fault, gpufan sets the fans again. Either the fans obey then, or gpufan gives them back to the driver. If
it gives them back, the fault becomes the reason.
"""

FAULT_CAUSES = tuple(cause for cause in Cause if cause.group is Group.FAULT or cause is Cause.FAN_FLOOR)
"""Every cause that `GpuState.fault` can have."""


def reason_severity(gpu: GpuState) -> Severity:
    """Return how serious the reason for the duty of a card is."""
    return _OF_GROUP.get(gpu.reason.cause.group, Severity.FINE)


def fault_severity(gpu: GpuState) -> Severity:
    """Return how serious the fault of the fans of a card is; FINE if there is no fault."""
    return Severity.FINE if gpu.fault is None else _OF_FAULT.get(gpu.fault.cause, Severity.FINE)


def severity(gpu: GpuState) -> Severity:
    """Return how serious the state of a card is.

    A card without control for `UNCONTROLLED_S` is a PROBLEM. So is a released card whose fans could not be given back.
    Otherwise, the worse severity of the reason and the fault counts.
    """
    if gpu.uncontrolled_s >= UNCONTROLLED_S or (gpu.control is Control.RELEASED and gpu.release_error):
        return Severity.PROBLEM
    return max(reason_severity(gpu), fault_severity(gpu))
