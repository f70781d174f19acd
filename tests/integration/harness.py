"""What these tests share: a worker in a time of its own, a daemon in a thread, and `gpufan` as a process."""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.daemon.instructions import SettingsFor
from gpufan.daemon.loop import ControlLoop
from gpufan.daemon.worker import Worker
from gpufan.gpu.nvml import NvmlGpu
from gpufan.system.signals import StopInbox
from tests.doubles import without_coverage
from tests.doubles.nvml import AUTO, Kind, NvmlDouble, SetCall, wait_for

CURVE = "40:40,80:80,85:100"
"""A duty of as many percent as the card has °C, from 40 to 80: what is wrong then shows at a glance."""

INTERVAL_S = 0.03
"""Between a daemon's ticks here, s."""


def settings(curve: str = CURVE) -> SettingsFor:
    """Follow `curve` at once, up and down, on every card."""
    followed = CardSettings(Curve.parse(curve), hysteresis_c=0, hold_s=0, slew_percent_per_s=100, step_percent=1)
    return lambda _: followed


def fans(double: NvmlDouble, card: int) -> list[int | None]:
    """What every fan of `card` was set to, percent; None for one that is the driver's."""
    of_card = double.cards[card].fans[: double.cards[card].fan_count]
    return [None if fan.policy == AUTO else fan.target for fan in of_card]


def sets(double: NvmlDouble, card: int) -> list[tuple[int, Kind, int]]:
    """Every change asked of the fans of `card`: fan, call and value."""
    return [(call.fan, call.operation, call.value) for call in double.log() if call.card == card]


class Bench:
    """A worker on a card of the double, a second to a tick, as fast as it goes."""

    def __init__(self, double: NvmlDouble, card: int = 0, *, curve: str = CURVE, dry_run: bool = False) -> None:
        self._double = double
        self.now_s = 1000.0
        self.worker = Worker(NvmlGpu(card), settings(curve), dry_run=dry_run)

    @property
    def state(self) -> GpuState:
        return self.worker.state

    def tick(self, times: int = 1, *, force_write: bool = False) -> None:
        for _ in range(times):
            self.now_s += 1
            self._double.advance(1)
            self.worker.tick(self.now_s, force_write=force_write)

    def times_of(self, happened: Callable[[], object], seconds: int) -> list[float]:
        """The times within the next `seconds` at which a tick changed what `happened` returns, s from the first."""
        times = []
        for _ in range(seconds):
            before = happened()
            self.tick()
            if happened() != before:
                times.append(self.now_s)
        return [time_s - times[0] for time_s in times]


class Enough(Exception):
    """Ends a daemon in a thread, where no signal can."""


class Running:
    """A daemon that runs in a thread of the test's process."""

    def __init__(
        self, workers: Sequence[Worker], publish: Sequence[Callable[[Snapshot], None]], **options: Any
    ) -> None:
        self.snapshots: list[Snapshot] = []
        self.error: BaseException | None = None
        self._inbox = StopInbox()
        self.daemon = ControlLoop(workers, [*publish, self.snapshots.append], interval_s=INTERVAL_S, **options)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.daemon.run(self._inbox)
        except Enough:
            pass
        except BaseException as error:
            self.error = error

    def states(self, card: int) -> list[str]:
        """Whose the fans of `card` were, snapshot by snapshot."""
        return [snapshot.gpus[card].control for snapshot in self.snapshots]

    def wait_for_control(self, card: int, control: str) -> GpuState:
        """The state of `card` as soon as a new snapshot says that its fans are so controlled."""
        seen = len(self.snapshots)
        wait_for(lambda: control in self.states(card)[seen:])
        return next(s.gpus[card] for s in self.snapshots[seen:] if s.gpus[card].control == control)

    def join(self) -> None:
        """Wait for an end that comes by itself."""
        self._thread.join(5)
        assert not self._thread.is_alive()

    def stop(self) -> None:
        """End the run, if it has not ended yet."""
        self._inbox.fail(Enough("enough seen"))
        self.join()


@contextmanager
def running(*workers: Worker, publish: Sequence[Callable[[Snapshot], None]] = (), **options: Any) -> Iterator[Running]:
    """Run `workers` until the end of the block. `options` are those of `ControlLoop`."""
    run = Running(workers, publish, **options)
    try:
        yield run
    finally:
        run.stop()
        run.daemon._ticker = None  # a broken one must not go on under the next test


def workers(*cards: int) -> list[Worker]:
    """A worker for each of `cards`."""
    return [Worker(NvmlGpu(card), settings()) for card in cards]


def guardians(parent: int) -> list[Path]:
    """The guardians of the process `parent`, as folders of /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            lines = (folder / "status").read_text().splitlines()
            if {"Name:\tgpufan-guardian", f"PPid:\t{parent}"} <= set(lines):
                found.append(folder)
    return found


class Program:
    """`gpufan` as a process on the double. Its lines are not measured: most of these processes are killed."""

    def __init__(self, double: NvmlDouble, folder: Path, arguments: Sequence[str], **options: Any) -> None:
        environment = {**without_coverage(), **double.environment(), "GPUFAN_RUNTIME_DIR": str(folder)}
        environment |= options.pop("env", {})
        before = options.pop("before", ())
        self.process = subprocess.Popen(
            [*before, sys.executable, "-m", "gpufan", *arguments],
            env=environment,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
        )
        self._double = double

    def wait_until_it_controls(self, *cards: int) -> None:
        """Return as soon as every fan of `cards` is in its hands."""

        def controls() -> bool:
            assert self.process.poll() is None, self.process.stderr and self.process.stderr.read()
            return all(None not in fans(self._double, card) for card in cards)

        wait_for(controls)

    def guardian(self) -> Path:
        """The guardian of this process, as a folder of /proc."""
        (guardian,) = guardians(self.process.pid)
        return guardian

    def guardians_line(self) -> str:
        """The line that the guardian writes to standard error when it has given the fans back."""
        return f"gpufan: process {self.process.pid} has ended; its guardian has given the fans back to the driver\n"

    def kill_with_guardian(self) -> None:
        """Kill this process in such a way that nobody gives the fans back."""
        os.kill(int(self.guardian().name), signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def signal(self, number: int) -> float:
        """Send signal `number`; the time of that, s on the monotonic clock."""
        self.process.send_signal(number)
        return time.monotonic()

    def end(self, timeout_s: float = 20) -> tuple[int, str, str]:
        """Exit status, standard output and standard error once it has ended."""
        out, err = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, out, err


def given_back_after_s(double: NvmlDouble, card: int, since_s: float) -> float:
    """Seconds from `since_s` until the last fan of `card` was first given back."""
    first: dict[int, SetCall] = {}
    for call in double.log():
        if call.card == card and call.operation == Kind.SET_DEFAULT and call.result == 0:
            first.setdefault(call.fan, call)
    assert len(first) == double.cards[card].fan_count, "not every fan was given back"
    return max(call.time_ns for call in first.values()) / 1e9 - since_s


def full_pipe() -> tuple[int, int]:
    """Both ends of a pipe that takes not a byte more."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    while select.select([], [write_end], [], 0)[1]:
        try:
            os.write(write_end, b"x" * 65536)
        except BlockingIOError:
            break
    os.set_blocking(write_end, True)
    return read_end, write_end
