"""Makes the state of one card for the snapshot."""

from typing import Any

import msgspec

from gpufan.control.law import Decision
from gpufan.core.gpu import GpuInfo, Reading
from gpufan.core.reasons import Cause, Control, Reason
from gpufan.core.snapshot import GpuState
from gpufan.daemon.counters import Counters
from gpufan.errors import FansOutOfReach, GpuLost, ResetRequired


def card_state(
    info: GpuInfo, counters: Counters, control: Control, decision: Decision, reading: Reading | None, **details: Any
) -> GpuState:
    """Return the state of a card after a tick. `reading` is None if the card was not read.

    `details` are the values of further fields of `GpuState`.
    """
    return GpuState(
        uuid=info.uuid,
        pci=info.pci,
        index=info.index,
        label=info.label,
        backend=info.backend,
        backend_reason=info.backend_reason,
        control=control,
        temperature_c=None if reading is None else reading.temperature_c,
        power_w=None if reading is None else reading.power_w,
        duty_percent=decision.duty_percent,
        fans=() if reading is None else reading.fans,
        reason=decision.reason,
        overrides=counters.overrides,
        errors=sum(msgspec.structs.astuple(counters.errors)),
        name=info.name,
        slowdown_c=info.slowdown_c,
        duty_range=info.duty_range,
        throttle=None if reading is None else reading.throttle,
        throttled_s=round(counters.throttled_s, 3),
        fail_safe_s=round(counters.fail_safe_s, 3),
        errors_by_kind=counters.errors,
        channels=tuple(channel.name for channel in info.channels),
        **details,
    )


def hanging_state(last: GpuState, seconds: float) -> GpuState:
    """Return the state of a card that hangs: a call to the card has not returned for `seconds`.

    `last` is the last state of the card.
    """
    return msgspec.structs.replace(
        last,
        control=Control.LOST,
        reason=Reason(Cause.HANG, seconds=seconds),
        fault=None,
        remedy=None,
        retry_after_s=None,
        temperature_c=None,
        power_w=None,
        duty_percent=None,
        fans=(),
    )


def lost_state_reason(error: GpuLost) -> Reason:
    """Return the reason that the state of a lost card shows. `error` is the error of the call that failed."""
    if isinstance(error, FansOutOfReach):
        return Reason(Cause.X_LOST, message=error.x_error)
    return Reason(Cause.RESET_REQUIRED if isinstance(error, ResetRequired) else Cause.LOST, message=str(error))
