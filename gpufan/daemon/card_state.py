"""Makes the published state of one card from what its worker knows."""

from typing import Any

import msgspec

from gpufan.control.law import Decision
from gpufan.core.gpu import GpuInfo, Reading
from gpufan.core.reasons import Control
from gpufan.core.snapshot import GpuState
from gpufan.daemon.counters import Counters


def card_state(
    info: GpuInfo, counters: Counters, control: Control, decision: Decision, reading: Reading | None, **details: Any
) -> GpuState:
    """The state of a card after a tick. `reading` is None if there is none; `details` are further fields."""
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
        throttle=None if reading is None else reading.throttle,
        throttled_s=round(counters.throttled_s, 3),
        fail_safe_s=round(counters.fail_safe_s, 3),
        errors_by_kind=counters.errors,
        **details,
    )
