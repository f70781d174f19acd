"""The page beside a real daemon on the double: the daemon stops, hangs, is killed and returns."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.doubles.nvml import NvmlDouble
from tests.integration.harness import Program
from tests.integration.web.page import running_page

SHOWN_S = 5.0
"""A change of the daemon is shown within this time, s."""
LOADED_S = 3.0
"""More time for a machine that runs other tests at the same time, s."""


def test_the_page_shows_that_the_daemon_stops_and_starts(
    double: NvmlDouble, start: Callable[..., Program], folder: Path, config: Path
) -> None:
    with running_page("--runtime-dir", str(folder), "--config", str(config)) as page, page.events() as stream:
        event = stream.wait_for("stopped", SHOWN_S)
        assert event["cards"] == []
        assert "gpufan run" in event["daemon"]["remedy"]
        program = start("--config", str(config))
        program.wait_until_it_controls(0, 1)
        event = stream.wait_for("running", SHOWN_S + LOADED_S)
        assert [card["control"] for card in event["cards"]] == ["ours", "ours"]
        program.signal(signal.SIGTERM)
        program.end()
        stream.wait_for("stopped", SHOWN_S + LOADED_S)
        start("--config", str(config)).wait_until_it_controls(0, 1)
        stream.wait_for("running", SHOWN_S + LOADED_S)


@pytest.mark.slow
def test_the_page_shows_that_the_daemon_hangs_and_goes_on(
    double: NvmlDouble, start: Callable[..., Program], folder: Path, config: Path
) -> None:
    program = start("--config", str(config))
    program.wait_until_it_controls(0, 1)
    with running_page("--runtime-dir", str(folder), "--config", str(config)) as page, page.events() as stream:
        stream.wait_for("running", SHOWN_S)
        program.signal(signal.SIGSTOP)
        start_s = time.monotonic()
        event = stream.wait_for("hung", SHOWN_S + LOADED_S)
        assert time.monotonic() - start_s > 2
        assert str(program.process.pid) in event["daemon"]["text"]
        program.signal(signal.SIGCONT)
        stream.wait_for("running", SHOWN_S + LOADED_S)
        before = page.get("/api/recent").json()["cards"]
        assert len(before) == 2


def test_the_page_says_what_to_do_after_a_kill(
    double: NvmlDouble, start: Callable[..., Program], folder: Path, config: Path
) -> None:
    program = start("--config", str(config))
    program.wait_until_it_controls(0, 1)
    with running_page("--runtime-dir", str(folder), "--config", str(config)) as page, page.events() as stream:
        stream.wait_for("running", SHOWN_S)
        program.kill_with_guardian()
        event = stream.wait_for("stopped", SHOWN_S + LOADED_S)
        assert "gpufan restore" in event["daemon"]["remedy"]
        assert len(event["cards"]) == 2
        assert len(page.get("/api/box").json()["cards"]) == 2


@pytest.mark.slow
def test_the_terminal_says_how_other_computers_reach_a_page_on_all_addresses_and_what_ctrl_c_ends() -> None:
    with running_page("--simulate", listen="0.0.0.0:0") as page:
        assert page.process.stdout is not None
        lines = [page.process.stdout.readline().strip() for _ in range(2)]
    assert lines == [
        f"from another computer, write {os.uname().nodename} or an address of it for 127.0.0.1",
        "Ctrl-C ends the page and the simulation",
    ]
