"""The state of the service in words, as systemd reports it, and why no gpufan is running."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from gpufan.daemon.snapshot_file import NotRunning
from gpufan.errors import GpufanError, NoAnswer
from gpufan.system import systemctl
from gpufan.system.background import BackgroundCall
from gpufan.system.unit_state import UnitState, unit_state

_SERVICE = "gpufan.service"
_INTERVAL_S = 5.0
_LIMIT_S = 3.0
"""The time limit for the answer of systemd, s."""


@dataclass(frozen=True)
class ServiceState:
    """The state of the service in words."""

    text: str
    is_active: bool
    why_not_running: str = field(default="", compare=False)
    """A sentence that says why no gpufan is running and what to do. A comparison ignores it."""


class ServiceStateReader:
    """Asks systemd for the state of the service. It asks in the background, because the answer may be slow."""

    def __init__(self, ask: Callable[[], ServiceState | None] | None = None) -> None:
        """`ask` asks systemd for the state. The default is `service_state`."""
        self._ask = ask or service_state
        self._latest: ServiceState | None = None
        self._asked_s = -math.inf
        self._call: BackgroundCall[ServiceState | None] | None = None

    def latest(self) -> ServiceState | None:
        """Return the last answer of systemd; None before the first answer. Ask again if the last question is old.

        This call does not wait for systemd.
        """
        if self._call is not None:
            with suppress(NoAnswer):  # not yet
                self._latest = self._call.result(0)
                self._call = None
        elif time.monotonic() - self._asked_s >= _INTERVAL_S:
            self._asked_s = time.monotonic()
            self._call = BackgroundCall(self._ask)
        return self._latest


def service_state() -> ServiceState | None:
    """Ask systemd for the state of the service, and return it.

    Return None if systemd does not run, or if the service is not installed.
    """
    try:
        state = unit_state(_SERVICE, _LIMIT_S)
    except GpufanError as error:
        return (
            _service_state_with(f"{_SERVICE}: {error}", "look at `systemctl status gpufan`")
            if systemctl.systemd_is_running()
            else None
        )
    if not state.exists:
        return None
    if state.load != "loaded":
        remedy = "sudo systemctl unmask gpufan" if state.is_masked else "systemctl status gpufan"
        return _service_state_with(f"{_SERVICE}: {state.load}", f"`{remedy}`")
    parts = [f"{_SERVICE}: {state.active} ({state.sub})"]
    if state.since:
        parts.append(f"since {state.since}")
    if state.restarts:
        parts.append(f"restarts: {state.restarts}")
    if state.has_failed and state.result:
        parts.append(f"last result: {state.result}")
    why = f": {state.status}" if state.status else ""
    return _service_state_with(", ".join(parts), _service_state_remedy(state), why=why, is_active=state.is_active)


@contextmanager
def service_state_explains(of_service: bool) -> Iterator[None]:
    """If the block raises NotRunning, raise a GpufanError that says why the service runs no gpufan.

    `of_service` says whether the service should run the gpufan that the block needs. If it is false, or if systemd does
    not know the service, NotRunning is raised unchanged.
    """
    try:
        yield
    except NotRunning as error:
        service = service_state() if of_service else None
        raise GpufanError(service.why_not_running) if service else error from error


def _service_state_with(text: str, remedy: str, *, why: str = "", is_active: bool = False) -> ServiceState:
    """Return a state whose sentence `why_not_running` consists of `text`, `why` and `remedy`."""
    return ServiceState(text, is_active, f"no gpufan is running: {text}{why}; {remedy}")


def _service_state_remedy(state: UnitState) -> str:
    """Return what to do if the service is loaded but no gpufan is running. The text is the end of a sentence."""
    if state.has_failed or state.sub == "auto-restart":
        return "`sudo journalctl -u gpufan -n 30` shows why, `sudo systemctl restart gpufan` tries again"
    if state.active == "inactive":
        return "start it with `sudo systemctl start gpufan`"
    return "`sudo journalctl -u gpufan -n 30` shows more"
