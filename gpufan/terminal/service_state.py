"""The state of the service, as systemd sees it: asked in the background, since the answer may be slow."""

import math
import time
from contextlib import suppress
from dataclasses import dataclass

from gpufan.errors import GpufanError, NoAnswer
from gpufan.system import systemctl
from gpufan.system.background import BackgroundCall
from gpufan.system.unit_state import unit_state

_SERVICE = "gpufan.service"
_INTERVAL_S = 5.0
_LIMIT_S = 3.0
"""Time that systemd has to answer, s."""


@dataclass(frozen=True)
class ServiceState:
    """The service as systemd sees it."""

    text: str
    is_active: bool


class ServiceStateReader:
    """Asks systemd in the background, because the answer may be slow."""

    def __init__(self) -> None:
        self._latest: ServiceState | None = None
        self._asked_s = -math.inf
        self._call: BackgroundCall[ServiceState | None] | None = None

    def latest(self) -> ServiceState | None:
        """The last answer of systemd; None before the first."""
        if self._call is not None:
            with suppress(NoAnswer):  # not yet
                self._latest = self._call.result(0)
                self._call = None
        elif time.monotonic() - self._asked_s >= _INTERVAL_S:
            self._asked_s = time.monotonic()
            self._call = BackgroundCall(service_state)
        return self._latest


def service_state() -> ServiceState | None:
    """The present state of the service; None without systemd, or if the service is not installed."""
    try:
        state = unit_state(_SERVICE, _LIMIT_S)
    except GpufanError as error:
        return ServiceState(f"{_SERVICE}: {error}", is_active=False) if systemctl.is_running() else None
    if not state.exists:
        return None
    if state.load != "loaded":
        return ServiceState(f"{_SERVICE}: {state.load}", is_active=False)
    parts = [f"{_SERVICE}: {state.active} ({state.sub})"]
    if state.since:
        parts.append(f"since {state.since}")
    if state.restarts:
        parts.append(f"restarts: {state.restarts}")
    if state.has_failed and state.result:
        parts.append(f"last result: {state.result}")
    return ServiceState(", ".join(parts), state.is_active)
