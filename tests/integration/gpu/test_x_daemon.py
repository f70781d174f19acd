"""The loop in real time, one card over X and one through NVML: an X server that hangs, and one that dies."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from gpufan.core.reasons import Cause
from gpufan.core.snapshot import GpuState
from gpufan.daemon import loop as daemon
from gpufan.daemon import passes
from gpufan.daemon.worker import Worker
from gpufan.gpu.cards import open_cards
from gpufan.xorg import headless_server as xorg_server
from gpufan.xorg.headless_server import HeadlessServer
from tests.doubles import xorg
from tests.doubles.nvcontrol_server import NvControlServer
from tests.doubles.nvml import wait_for
from tests.integration.gpu.x_box import XBox, ignoring
from tests.integration.harness import Running, running, settings

CONTROLLED = ("x11", "ours"), ("nvml", "ours")
LOST = ("x11", "lost"), ("nvml", "ours")


@contextmanager
def controlling(box: XBox, display: str | None = None) -> Iterator[Running]:
    """A daemon for the cards of `box`; at the end it gives the fans back, and its X server ends."""
    with ExitStack() as stack:
        stack.enter_context(box.double.install())
        cards = open_cards("auto", display, box.runtime)
        stack.callback(cards.close)
        run = stack.enter_context(running(*(Worker(gpu, settings()) for gpu in cards.gpus)))
        wait_for_states(run, *CONTROLLED)
        yield run


def wait_for_states(run: Running, *wanted: tuple[str, str]) -> GpuState:
    """Wait until backend and control of each card are as wanted; return the state of the first card."""
    seen = len(run.snapshots)

    def found() -> list[GpuState]:
        of_cards = [snapshot.gpus for snapshot in run.snapshots[seen:]]
        return [gpus[0] for gpus in of_cards if tuple((gpu.backend, gpu.control) for gpu in gpus) == wanted]

    wait_for(found)
    return found()[0]


def test_while_the_x_server_hangs_its_card_is_lost_and_the_other_controlled_on_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "HANG_S", 0.1)
    box = ignoring(tmp_path)
    with NvControlServer(xorg.mapped_box(box.double.map), tmp_path) as server:
        monkeypatch.setenv("XAUTHORITY", str(server.authority))
        with controlling(box, server.name) as run:
            server.hanging.set()
            wait_for_states(run, *LOST)
            for temperature_c in (61, 62, 63):
                box.double.cards[1].temperature = temperature_c
                wait_for(lambda duty=temperature_c: box.fans()[1] == [duty, duty], 0.3)
            server.hanging.clear()
            wait_for_states(run, *CONTROLLED)
        assert box.fans() == [[None, None]] * 2


@pytest.mark.slow
def test_the_death_of_our_own_server_is_shown_and_its_card_controlled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = daemon._loop_clocks
    monkeypatch.setattr(daemon, "_loop_clocks", lambda: tuple(20 * clock_s for clock_s in clocks()))
    monkeypatch.setattr(xorg_server, "HeadlessServer", partial(HeadlessServer, retry_s=(0.1, 1.0)))
    box = ignoring(tmp_path)
    for name in ("PATH", "GPUFAN_NVML_DOUBLE"):
        monkeypatch.setenv(name, box.environment[name])
    with box.double.live(speed=20), controlling(box) as run:
        (pid,) = box.xorgs()
        os.kill(pid, signal.SIGKILL)
        assert wait_for_states(run, *LOST).reason.cause is Cause.X_LOST
        box.double.cards[0].temperature = 70
        wait_for_states(run, *CONTROLLED)
        wait_for(lambda: box.fans() == [[70, 70], [60, 60]])
        assert box.xorgs() not in ([], [pid])
    assert (box.fans(), box.xorgs()) == ([[None, None]] * 2, [])
