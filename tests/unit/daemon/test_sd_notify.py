import socket
import time
from pathlib import Path

import msgspec
import pytest

from gpufan.core.gpu import FanReading
from gpufan.core.reasons import Control, Group
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.daemon import sd_notify as notify
from gpufan.daemon.sd_notify import SdNotifier
from gpufan.daemon.snapshot_file import snapshot_now
from gpufan.errors import DriverError, InputError
from tests.unit.builders import REASONS

OURS = GpuState(
    uuid="GPU-1",
    pci="",
    index=0,
    label="0 GTX 1080 Ti",
    backend="nvml",
    control=Control.OURS,
    temperature_c=74,
    power_w=200,
    duty_percent=62,
    fans=(FanReading(60, 62, True),),
    reason=REASONS[Group.CURVE],
    overrides=0,
    errors=0,
)


def state(*, group: str = "curve", control: str = "ours", **changes: object) -> GpuState:
    return msgspec.structs.replace(OURS, reason=REASONS[Group(group)], control=Control(control), **changes)


LOST = state(index=1, label="1 GTX 1080 Ti", control="lost", group="lost", temperature_c=None, fans=(), tick_age_s=99.0)


def snapshot(*gpus: GpuState) -> Snapshot:
    return snapshot_now(gpus, interval_s=1.0)


@pytest.fixture
def manager(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listening:
        listening.bind(str(tmp_path / "notify"))
        yield listening


def told(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().splitlines()


def test_it_speaks_only_where_a_manager_listens(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert SdNotifier.from_environment() is None


def test_it_reaches_an_abstract_socket(monkeypatch: pytest.MonkeyPatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")
        name = listening.getsockname().decode()
        monkeypatch.setenv("NOTIFY_SOCKET", name.replace("\0", "@"))
        notifier = SdNotifier.from_environment()
        assert notifier is not None
        notifier.stopping()
        assert "STOPPING=1" in told(listening)


def test_it_never_waits_for_a_manager_that_does_not_read(manager: socket.socket):
    notifier = SdNotifier(manager.getsockname())
    start_s = time.monotonic()
    for _ in range(5000):
        notifier.publish(snapshot(OURS))
    assert time.monotonic() - start_s < 2


def test_a_manager_that_is_gone_is_no_error(tmp_path: Path):
    SdNotifier(str(tmp_path / "nobody")).stopping()


def test_ready_is_told_once_and_only_after_a_verified_set(manager: socket.socket):
    notifier = SdNotifier(manager.getsockname())
    for gpu in (
        state(group="start", control="driver", fans=()),
        state(fans=(FanReading(30, 30, False),)),
        state(fans=(FanReading(60, 62, True), FanReading(30, 30, False))),
        state(fans=(FanReading(30, 30, None),)),
        state(control="released", group="fault", duty_percent=None),
        LOST,
    ):
        notifier.publish(snapshot(gpu))
        assert "READY=1" not in told(manager), gpu
    notifier.publish(snapshot(OURS, LOST))
    assert {"READY=1", "ERRNO=0"} <= set(told(manager))
    notifier.publish(snapshot(OURS, LOST))
    assert "READY=1" not in told(manager)


def test_ready_is_told_again_if_the_manager_was_too_busy_to_receive_it(manager: socket.socket):
    notifier = SdNotifier(manager.getsockname())
    while notifier.send("STATUS=busy"):
        pass
    notifier.publish(snapshot(OURS))
    assert not notifier.ready
    told(manager)  # now there is room
    notifier.publish(snapshot(OURS))
    with pytest.raises(BlockingIOError):
        while last := told(manager):
            pass
    assert "READY=1" in last


@pytest.mark.parametrize(
    "gpu",
    [
        state(fans=(FanReading(60, 62, None),)),
        state(fans=(FanReading(60, None, None),)),
        state(control="driver", duty_percent=None, fans=(FanReading(23, 23, False),)),
    ],
)
def test_a_set_counts_as_verified_as_far_as_the_driver_tells(gpu: GpuState):
    assert notify.is_ready_for_sd_notify(snapshot(gpu))


def test_the_watchdog_is_pinged_while_a_card_is_under_control_and_a_minute_longer(manager: socket.socket):
    notifier = SdNotifier(manager.getsockname())
    gone = msgspec.structs.replace(LOST, uncontrolled_s=71.0)
    for gpus, pinged in (((OURS, OURS), True), ((OURS, gone), True), ((LOST,), True), ((gone, gone), False)):
        notifier.publish(snapshot(*gpus))
        assert ("WATCHDOG=1" in told(manager)) is pinged, gpus


def test_status_names_every_card_in_one_line():
    assert notify.sd_notify_status(snapshot(OURS, LOST)) == "0 GTX 1080 Ti 62 % at 74 °C | 1 GTX 1080 Ti lost"


class Inbox:
    """Counts the seconds that are waited, and does `at` in one of them."""

    def __init__(self, at: int = -1, do: object = None) -> None:
        self.waited_s, self._at, self._do = 0, at, do

    def wait(self, timeout_s: float | None) -> bool:
        self.waited_s += 1
        if self.waited_s != self._at:
            return False
        return self._do is None or bool(self._do())  # type: ignore[operator]


def held_back(manager: socket.socket, error: Exception, inbox: Inbox) -> int:
    with pytest.raises(SystemExit) as end:
        SdNotifier(manager.getsockname()).hold_back(error, inbox)  # type: ignore[arg-type]
    return end.value.code  # type: ignore[return-value]


def test_a_start_that_fails_ends_a_minute_later(manager: socket.socket, caplog: pytest.LogCaptureFixture):
    inbox = Inbox()
    assert held_back(manager, InputError("bad file"), inbox) == 2
    assert inbox.waited_s == 60
    assert caplog.messages == ["bad file"]
    assert told(manager) == ["STATUS=bad file", "ERRNO=125", "EXTEND_TIMEOUT_USEC=120000000"]


def test_a_missing_driver_is_awaited_with_a_line_a_minute(
    manager: socket.socket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    node = tmp_path / "nvidiactl"
    monkeypatch.setattr(notify, "DRIVER_NODE", node)
    inbox = Inbox(150, lambda: node.touch())
    assert held_back(manager, DriverError("no driver"), inbox) == 1
    assert inbox.waited_s == 150
    assert caplog.messages == ["no driver"] * 3


def test_a_stop_ends_the_waiting_at_once(manager: socket.socket):
    assert held_back(manager, DriverError("no driver"), Inbox(3)) == 0
