"""Tells systemd that the daemon is ready, alive or stopping, and sends a status line with all cards (sd_notify(3))."""

import errno
import logging
import os
import socket
from pathlib import Path
from typing import Protocol

from gpufan.core.reasons import Cause, Control
from gpufan.core.sentences import duty_text, settings_sentence
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.daemon.read_back import TARGET_TOLERANCE
from gpufan.errors import DriverError, GpufanError

_log = logging.getLogger(__name__)

UNCONTROLLED_S = 70.0
"""If no card was under control for this long, s, the daemon no longer tells systemd that it is alive.

Before that, after `ALL_LOST_S`, the daemon should have ended by itself.
"""

HOLD_BACK_S = 60
"""A daemon whose start has failed waits this long before it ends, s."""

START_REFUSED = errno.ECANCELED
"""The StatusErrno of the unit while a daemon whose start has failed waits. The StatusText is then the reason."""

DRIVER_NODE = Path("/dev/nvidiactl")


class Stoppable(Protocol):
    """An object that receives reasons to stop."""

    def wait(self, timeout_s: float | None) -> bool:
        """Wait up to `timeout_s` seconds for a reason to stop; None has no limit. Returns False if there was none."""


class SdNotifier:
    """Sends datagrams to the service manager. A datagram that cannot be sent at once is dropped."""

    def __init__(self, address: str) -> None:
        """`address` is the address of the socket: a path, or `@` followed by a name in the abstract namespace."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.ready = False
        """Whether READY=1 was sent."""

    @classmethod
    def from_environment(cls) -> "SdNotifier | None":
        """Return a notifier for the socket in NOTIFY_SOCKET; None without a service manager."""
        address = os.environ.get("NOTIFY_SOCKET", "")
        return cls(address) if address.startswith(("/", "@")) else None

    def send(self, *assignments: str) -> bool:
        """Send `assignments`, such as `READY=1`, to the service manager. Returns whether they were sent."""
        try:
            self._socket.sendto("\n".join(assignments).encode(), self._address)
        except OSError:
            return False
        return True

    def publish(self, snapshot: Snapshot) -> None:
        """Send a status line to the service manager. When the daemon is ready, add READY=1 until it was sent once.

        WATCHDOG=1 is sent too if a card was under control within the last `UNCONTROLLED_S` seconds.
        """
        message = [f"STATUS={sd_notify_status(snapshot)}"]
        is_ready = self.ready or is_ready_for_sd_notify(snapshot)
        if is_ready and not self.ready:
            message += ["READY=1", "ERRNO=0"]
        if min((gpu.uncontrolled_s for gpu in snapshot.gpus), default=0.0) <= UNCONTROLLED_S:
            message.append("WATCHDOG=1")
        if self.send(*message):
            self.ready = is_ready

    def stopping(self) -> None:
        """Send that the daemon gives the fans back and ends."""
        self.send("STOPPING=1", "STATUS=giving the fans back to the driver")

    def hold_back(self, error: GpufanError, inbox: Stoppable) -> None:
        """End a daemon that could not start because of `error`: wait a minute, then raise SystemExit.

        systemd then starts the daemon again; the wait prevents a crash loop. If the driver is not loaded, the wait
        lasts until it is loaded, since only a new process can open it. A reason to stop in `inbox` ends the wait.
        """
        awaits_driver = isinstance(error, DriverError) and not DRIVER_NODE.exists()
        while True:
            _log.error("%s", error)
            self.send(f"STATUS={error}", f"ERRNO={START_REFUSED}", f"EXTEND_TIMEOUT_USEC={2 * HOLD_BACK_S * 10**6}")
            for _ in range(HOLD_BACK_S):
                if inbox.wait(1):
                    raise SystemExit(0)
                if awaits_driver and DRIVER_NODE.exists():
                    raise SystemExit(error.exit_status)
            if not awaits_driver:
                raise SystemExit(error.exit_status)


def sd_notify_status(snapshot: Snapshot) -> str:
    """Return one line with the state of every card, such as `0 GTX 1080 Ti 62 % at 74 °C | 1 GTX 1080 Ti lost`.

    If the settings in use are not those of the settings file, the line begins with a sentence about that.
    """
    texts = [_sd_notify_card_text(gpu) for gpu in snapshot.states]
    if trouble := settings_sentence(snapshot):
        texts.insert(0, trouble)
    return " | ".join(texts)


def is_ready_for_sd_notify(snapshot: Snapshot) -> bool:
    """Whether every card has had a tick, and the fans of at least one card were read back as set."""
    return all(gpu.reason.cause is not Cause.START for gpu in snapshot.states) and any(
        _is_card_ready_for_sd_notify(gpu) for gpu in snapshot.states
    )


def _is_card_ready_for_sd_notify(gpu: GpuState) -> bool:
    """Whether the fans of the card are as gpufan wants them.

    Either they were read back as gpufan has set them, or gpufan leaves them to the driver on purpose.
    """
    if gpu.control is Control.DRIVER:
        return gpu.reason.cause is not Cause.UNCONTROLLABLE and not any(fan.manual for fan in gpu.fans)
    if gpu.control is not Control.OURS or not gpu.fans:
        return False
    # A driver that does not report manual mode may report the target.
    return all(
        fan.manual or (fan.manual is None and _is_target_ready_for_sd_notify(fan.target_percent, gpu.duty_percent))
        for fan in gpu.fans
    )


def _is_target_ready_for_sd_notify(target_percent: int | None, duty_percent: int | None) -> bool:
    """Whether the target of a fan that was read back is near the duty that was set. True if no target is reported."""
    if target_percent is None or duty_percent is None:
        return target_percent is None  # the oldest drivers report neither
    return abs(target_percent - duty_percent) <= TARGET_TOLERANCE


def _sd_notify_card_text(gpu: GpuState) -> str:
    """Return label, duty and temperature of a card, such as `0 GTX 1080 Ti 62 % at 74 °C`."""
    at = "" if gpu.temperature_c is None else f" at {gpu.temperature_c:g} °C"
    return f"{gpu.label} {duty_text(gpu)}{at}"
