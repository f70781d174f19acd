"""The loop that joins sense, decide, act and report: a thread per card, and one that watches over them.

The main thread does nothing but wait for a reason to stop, so that no card, file or terminal that hangs can keep a
signal from being answered.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from gpufan.core.reasons import Cause, Control, Reason
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.daemon.snapshot_file import snapshot_now
from gpufan.daemon.worker import SettingsFor, Worker
from gpufan.errors import GpuLost, NotGivenBack
from gpufan.system.signals import StopInbox

if TYPE_CHECKING:
    pass

HANG_S = 5.0
"""A tick that takes longer is taken for a call that will never come back, s."""

ALL_LOST_S = 60.0
"""With no card left for so long, only a new process may find them again, s."""

STOP_S = 1.5
"""For all cards together to give their fans back, s; two seconds are promised."""

_GRACE_S = 0.02
"""A card's tick begins without waiting for the card before when that takes longer than this, s."""

_JUMP_S = 2.0
"""A tick that comes so much too late, or a wall clock that moved by so much: the machine slept, or was set."""


Publish = Callable[[Snapshot], None]
"""Takes a snapshot somewhere. Called from one thread; what it raises is an error of ours."""


Reload = Callable[[], tuple[float, SettingsFor]]
"""Reads the settings again: the interval in s, and how each card is to be kept. Raises for a file that is refused."""


class _Relay:
    """Runs the threads of one tick close upon each other, because to wake up costs more than to tick.

    The first sleeps until the tick is due, and each wakes the next when it is done. None depends on that: where the
    one before hangs, the next begins `_GRACE_S` after the tick was due.
    """

    def __init__(self, runners: int) -> None:
        self._ended = False
        self._turns = [threading.Lock() for _ in range(runners)]
        for turn in self._turns:
            turn.acquire()

    def wait(self, place: int, due_s: float) -> bool:
        """Sleep until it is the turn of the runner at `place` in the tick due at `due_s`; False after the end."""
        latest_s = due_s + (_GRACE_S if place else 0)
        while not self._ended:
            left_s = latest_s - time.monotonic()
            # A turn that was given late belongs to the tick before.
            if left_s <= 0 or (self._turns[place].acquire(timeout=left_s) and time.monotonic() >= due_s):
                return not self._ended
        return False

    def done(self, place: int) -> None:
        """The runner at `place` is done with this tick."""
        if place + 1 < len(self._turns):
            self._wake(place + 1)

    def end(self) -> None:
        """Wake all, for the last time."""
        self._ended = True
        for place in range(len(self._turns)):
            self._wake(place)

    def _wake(self, place: int) -> None:
        with suppress(RuntimeError):  # it has been given its turn already
            self._turns[place].release()


class _Clock:
    """Watches the clock on the wall against the time since boot."""

    def __init__(self) -> None:
        self._boot_s, self._wall_s = _clocks()

    def look(self) -> tuple[float, float, float]:
        """Seconds since boot, seconds since the last look, and by how many the wall clock was set meanwhile, or 0."""
        boot_s, wall_s = _clocks()
        elapsed_s = boot_s - self._boot_s
        step_s = wall_s - self._wall_s - elapsed_s
        self._boot_s, self._wall_s = boot_s, wall_s
        return boot_s, elapsed_s, step_s if abs(step_s) > _JUMP_S else 0.0


class _Tracked:
    """A worker, its thread, and what others need to know of them."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.thread: threading.Thread | None = None
        self.busy_since_s: float | None = None
        self.ticked_s = time.monotonic()
        self.given_back = False
        self.stop_error: Exception | None = None

    @property
    def state(self) -> GpuState:
        now_s = time.monotonic()
        state = msgspec.structs.replace(self.worker.state, tick_age_s=round(now_s - self.ticked_s, 3))
        busy_since_s = self.busy_since_s
        if busy_since_s is None or now_s - busy_since_s <= HANG_S:
            return state
        return msgspec.structs.replace(
            state,
            control=Control.LOST,
            reason=Reason(Cause.HANG, seconds=HANG_S),
            fault=None,
            remedy=None,
            retry_after_s=None,
            temperature_c=None,
            power_w=None,
            duty_percent=None,
            fans=(),
        )

    @property
    def is_done(self) -> bool:
        """Whether the fans were given back, and nothing is under way that could take them again."""
        return self.given_back and (self.thread is None or not self.thread.is_alive())

    def stop(self) -> None:
        """Give the card's fans back, and note how that went."""
        try:
            self.worker.stop()
        except Exception as error:  # told at the end; the other cards come first
            self.stop_error = error
        self.given_back = True


class Daemon:
    """Runs workers in real time until told to stop."""

    def __init__(
        self,
        workers: Sequence[Worker],
        publish: Sequence[Publish],
        *,
        interval_s: float,
        dry_run: bool = False,
        stopping: Callable[[], None] = lambda: None,
        reload: Reload | None = None,
    ) -> None:
        """`stopping` is called once, before the fans are given back."""
        self._tracked = [_Tracked(worker) for worker in workers]
        self._publish = publish
        self._interval_s = interval_s
        self._dry_run = dry_run
        self._stopping = stopping
        self._reload = reload
        self._reload_refused: str | None = None
        self._relay = _Relay(len(self._tracked) + 1)

    def run(self, inbox: StopInbox, duration_s: float | None = None) -> None:
        """Run for `duration_s`, or until `inbox` has a reason to stop; then give every fan back.

        Raises the error that ended the run, or NotGivenBack naming the cards that could not be given back.
        """
        ended_by: BaseException | None = None
        try:
            start_s = time.monotonic()
            for place, tracked in enumerate(self._tracked):
                tracked.thread = self._start(inbox, self._work, place, tracked, start_s)
            self._start(inbox, self._supervise, inbox, start_s)
            inbox.wait(duration_s)
        except BaseException as error:  # first of all the fans
            ended_by = error
        self._stopping()
        if failed := self._give_back():
            text = f"fans not given back to the driver: {'; '.join(failed)}"
            raise NotGivenBack(text if ended_by is None else f"{ended_by}; {text}") from ended_by
        if ended_by is not None:
            raise ended_by

    def _start(self, inbox: StopInbox, target: Callable[..., None], *arguments: object) -> threading.Thread:
        def run() -> None:
            try:
                target(*arguments)
            except BaseException as error:  # whatever it is, it ends the run
                inbox.fail(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def _work(self, place: int, tracked: _Tracked, due_s: float) -> None:
        """One card's loop. Leaving it, however, gives the card's fans back."""
        clock = _Clock()
        try:
            while self._relay.wait(place, due_s):
                now_s, elapsed_s, step_s = clock.look()
                slept = elapsed_s > self._interval_s + _JUMP_S
                tracked.busy_since_s = time.monotonic()
                tracked.worker.tick(now_s, force_write=slept or step_s != 0)
                tracked.busy_since_s = None
                tracked.ticked_s = time.monotonic()
                self._relay.done(place)
                due_s = self._next(due_s)
        finally:
            tracked.stop()

    def _supervise(self, inbox: StopInbox, due_s: float) -> None:
        """Publish every tick, reload when that is wished for, and end the run when no card has been left for long."""
        last_seen_s = time.monotonic()
        clock, clock_steps, clock_step_s = _Clock(), 0, 0.0
        while self._relay.wait(len(self._tracked), due_s):
            if step_s := clock.look()[2]:
                clock_steps, clock_step_s = clock_steps + 1, step_s
            if inbox.pop_reload_request() and self._reload is not None:
                self._take_on(self._reload)
            states = tuple(tracked.state for tracked in self._tracked)
            if any(state.control is not Control.LOST for state in states):
                last_seen_s = time.monotonic()
            elif time.monotonic() - last_seen_s >= ALL_LOST_S:
                raise GpuLost(f"no card has answered for {ALL_LOST_S:g} s; a new start may find them again")
            snapshot = snapshot_now(
                states,
                interval_s=self._interval_s,
                dry_run=self._dry_run,
                reload_refused=self._reload_refused,
                clock_steps=clock_steps,
                clock_step_s=clock_step_s,
            )
            for publish in self._publish:
                publish(snapshot)
            due_s = self._next(due_s)

    def _take_on(self, reload: Reload) -> None:
        """Hand new settings to the workers, or keep the old ones; each takes them on in its own thread."""
        try:
            self._interval_s, settings_for = reload()
        except Exception as error:  # whatever a file makes of us must not end control
            # A path need not be text that can be written out.
            self._reload_refused = str(error).encode(errors="replace").decode() or type(error).__name__
            return
        self._reload_refused = None
        for tracked in self._tracked:
            tracked.worker.follow(settings_for)

    def _next(self, due_s: float) -> float:
        """When the tick after the one due at `due_s` is due; one that was missed is not made up for."""
        return max(due_s, time.monotonic() - self._interval_s) + self._interval_s

    def _give_back(self) -> list[str]:
        """Stop every worker: each gives its own card back. For one that hangs, another thread tries.

        What could not be given back, and why.
        """
        self._relay.end()
        deadline_s = time.monotonic() + STOP_S
        for tracked in self._tracked:
            if tracked.thread is not None:
                tracked.thread.join(max(deadline_s - 0.5 - time.monotonic(), 0))
        rescues = [threading.Thread(target=t.stop, daemon=True) for t in self._tracked if not t.given_back]
        for rescue in rescues:
            rescue.start()
        for rescue in rescues:
            rescue.join(max(deadline_s - time.monotonic(), 0))
        for tracked in self._tracked:
            # A set that is still under way would undo the rescue; where it ends in time, its thread gives back.
            if tracked.thread is not None:
                tracked.thread.join(max(deadline_s - time.monotonic(), 0))
        return [
            f"{tracked.worker.gpu.info.label}: {tracked.stop_error or 'the card does not answer'}"
            for tracked in self._tracked
            if tracked.stop_error is not None or not tracked.is_done
        ]


def _clocks() -> tuple[float, float]:
    """Seconds since boot, sleep included, and seconds since the epoch."""
    return time.clock_gettime(time.CLOCK_BOOTTIME), time.time()
