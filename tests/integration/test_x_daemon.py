"""The loop in real time, one card over X and one through NVML: an X server that hangs, and one that dies."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from gpufan import daemon
from gpufan.control.law import CurveSettings
from gpufan.curve import Curve
from gpufan.daemon import Daemon, StopInbox
from gpufan.gpu.backends import XSERVER_FOLDER, open_cards
from gpufan.report.snapshot import Snapshot
from gpufan.worker import Worker
from gpufan.xorg import route
from gpufan.xorg.server import HeadlessServer
from tests.doubles import xorg
from tests.doubles.nvcontrol_server import NvControlServer
from tests.doubles.nvml import wait_for
from tests.integration.x_box import XBox, ignoring

SETTINGS = CurveSettings(Curve.parse("40:40,80:80"), hysteresis_c=0, hold_s=0, slew_percent_per_s=100, step_percent=1)
CONTROLLED = ("x11", "ours"), ("nvml", "ours")


class Run:
    """A daemon in a thread, fifty ticks a second."""

    def __init__(self, box: XBox, display: str | None) -> None:
        self.snapshots: list[Snapshot] = []
        self.inbox = StopInbox()
        self.cards = open_cards("auto", display, box.runtime / XSERVER_FOLDER, 5)
        workers = [Worker(gpu, lambda _: SETTINGS, fall_back=gpu.fall_back) for gpu in self.cards.gpus]
        self.daemon = Daemon(workers, [self.snapshots.append], interval_s=0.02)
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with suppress(InterruptedError):
            self.daemon.run(self.inbox)

    def wait_for_states(self, *states: tuple[str, str]) -> Snapshot:
        """The first new snapshot with those backends of the cards, and those whose the fans are."""
        seen = len(self.snapshots)

        def found() -> list[Snapshot]:
            return [s for s in self.snapshots[seen:] if tuple((g.backend, g.control) for g in s.gpus) == states]

        wait_for(found)
        return found()[0]


@contextmanager
def running(box: XBox, display: str | None = None) -> Iterator[Run]:
    """Run until the end of the block, then give the fans back."""
    with ExitStack() as stack:
        stack.enter_context(box.double.install())
        run = Run(box, display)
        stack.callback(run.cards.close)
        stack.callback(run.thread.join, 5)
        stack.callback(run.inbox.fail, InterruptedError())
        run.thread.start()
        yield run


def test_while_the_x_server_hangs_its_card_is_lost_and_the_other_controlled_on_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "HANG_S", 0.1)
    box = ignoring(tmp_path)
    with NvControlServer(xorg.mapped_box(box.double.map), tmp_path) as server:
        monkeypatch.setenv("XAUTHORITY", str(server.authority))
        with running(box, server.name) as run:
            run.wait_for_states(*CONTROLLED)
            server.hanging.set()
            run.wait_for_states(("x11", "lost"), ("nvml", "ours"))
            for temperature_c in (61, 62, 63):
                box.double.cards[1].temperature = temperature_c
                wait_for(lambda duty=temperature_c: box.fans()[1] == [duty, duty], 0.3)
            server.hanging.clear()
            run.wait_for_states(*CONTROLLED)
        assert box.fans() == [[None, None]] * 2


def test_a_server_of_our_own_that_dies_is_shown_and_its_card_controlled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = daemon._clocks
    monkeypatch.setattr(daemon, "_clocks", lambda: tuple(20 * clock_s for clock_s in clocks()))
    monkeypatch.setattr(route, "HeadlessServer", partial(HeadlessServer, retry_s=(0.1, 1.0)))
    box = ignoring(tmp_path)
    for name in ("PATH", "GPUFAN_NVML_DOUBLE"):
        monkeypatch.setenv(name, box.environment[name])
    with box.double.live(speed=20), running(box) as run:
        run.wait_for_states(*CONTROLLED)
        (pid,) = box.xorgs()
        os.kill(pid, signal.SIGKILL)
        lost = run.wait_for_states(("x11", "lost"), ("nvml", "ours"))
        assert lost.gpus[0].reason.startswith("fans out of reach: ")
        box.double.cards[0].temperature = 70
        run.wait_for_states(*CONTROLLED)
        wait_for(lambda: box.fans() == [[70, 70], [60, 60]])
        assert box.xorgs() not in ([], [pid])
    assert (box.fans(), box.xorgs()) == ([[None, None]] * 2, [])
