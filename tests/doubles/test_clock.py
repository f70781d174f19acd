"""The clock double: a real Python process whose time passes only when the test says so."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.doubles import without_coverage
from tests.doubles.clock import TestClock

Start = Callable[[str], "subprocess.Popen[str]"]

WAITS = {
    "sleep": "time.sleep(5)",
    "lock": "threading.Lock().acquire() and (lock := threading.Lock()).acquire() and lock.acquire(timeout=5)",
    "event": "threading.Event().wait(5)",
    "select": "select.select([os.pipe()[0]], [], [], 5)",
    "poll": "select.poll().poll(5000)",
    "thread": "(t := threading.Thread(target=time.sleep, args=(99,), daemon=True)).start(); t.join(5)",
}


@pytest.fixture
def clock(tmp_path: Path) -> TestClock:
    return TestClock(tmp_path)


@pytest.fixture
def start(clock: TestClock) -> Iterator[Start]:
    with ExitStack() as stack:

        def run(program: str) -> "subprocess.Popen[str]":
            code = f"import os, select, sys, threading, time\nprint('ready', flush=True)\n{program}"
            command = [sys.executable, "-c", code]
            process = stack.enter_context(
                subprocess.Popen(
                    command, env=without_coverage() | clock.environment(), stdout=subprocess.PIPE, text=True
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            return process

        yield run


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_a_wait_ends_when_the_time_of_the_test_has_come(clock: TestClock, start: Start, wait: str) -> None:
    process = start(f"{wait}\nprint(round(time.monotonic(), 3), flush=True)")
    assert clock.settle(process.pid)
    clock.advance(4.9)
    assert clock.settle(process.pid)
    assert process.poll() is None
    clock.advance(0.2)
    assert process.stdout is not None
    assert clock.since_start_s(round(float(process.stdout.readline()) * 1e9)) == pytest.approx(5.1, abs=0.002)


def test_wall_clock_and_clocks_since_boot_stand_still_and_advance_alike(clock: TestClock, start: Start) -> None:
    process = start(
        "clocks = lambda: (time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))\n"
        "before = clocks()\n"
        "while clocks() == before: os.sched_yield()\n"
        "print([round(b - a, 3) for a, b in zip(before, clocks())], flush=True)"
    )
    with pytest.raises(TimeoutError):
        clock.settle(process.pid, timeout_s=0.3)
    clock.advance(60)
    assert process.stdout is not None
    assert process.stdout.readline() == "[60.0, 60.0, 60.0]\n"


def test_a_lock_that_is_released_ends_the_wait_at_once(clock: TestClock, start: Start) -> None:
    process = start(
        "event = threading.Event()\nthreading.Timer(1, event.set).start()\nprint(event.wait(50), flush=True)"
    )
    clock.settle(process.pid)
    clock.advance(1)
    assert process.communicate(timeout=10)[0] == "True\n"


def test_a_process_that_has_ended_is_no_longer_waited_for(clock: TestClock, start: Start) -> None:
    process = start("time.sleep(5)")
    assert clock.settle(process.pid)
    process.kill()
    process.wait(10)
    assert not clock.settle(process.pid)
    clock.forget_ended()
