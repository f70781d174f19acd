"""The control loop: a thread for each card, and one that supervises them and publishes their states.

The main thread only waits for a reason to stop, so a card, file or terminal that hangs cannot delay a signal.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from gpufan.core.reasons import Cause, Control, Reason
from gpufan.core.snapshot import GpuState
from gpufan.daemon.publish import Publish
from gpufan.daemon.snapshot_file import snapshot_now
from gpufan.daemon.worker import SettingsFor, Worker
from gpufan.errors import GpuLost, NotGivenBack
from gpufan.system.signals import StopInbox

HANG_S = 5.0
"""A tick that takes longer counts as a call that hangs, s."""

ALL_LOST_S = 60.0
"""The run ends when no card has answered for this long, s: a new process may find them again."""

STOP_S = 1.5
"""Time for all cards together to give their fans back, s. Two seconds are promised."""

_GRACE_S = 0.02
"""A card waits for the card before it at most this long, s."""

_JUMP_S = 2.0
"""If a tick is late by more than this, s, the machine slept. If the wall clock jumps by more, it was set."""

Reload = Callable[[], tuple[float, SettingsFor]]
"""Reads the settings again; returns the interval in s and the settings of each card. Raises if it refuses them."""


class _Relay:
    """Runs the threads one directly after the other in each tick, because a wake-up by a timer costs more than a tick.

    The first thread sleeps until the tick is due, and each thread wakes the next one. If a thread hangs, the
    next one starts `_GRACE_S` after the tick was due.
    """

    def __init__(self, runners: int) -> None:
        self._ended = False
        self._turns = [threading.Lock() for _ in range(runners)]
        for turn in self._turns:
            turn.acquire()

    def wait(self, place: int, due_s: float) -> bool:
        """Sleep until the turn of the thread at `place` in the tick due at `due_s`; False after the end."""
        latest_s = due_s + (_GRACE_S if place else 0)
        while not self._ended:
            left_s = latest_s - time.monotonic()
            # A turn that comes before `due_s` belongs to the tick before.
            if left_s <= 0 or (self._turns[place].acquire(timeout=left_s) and time.monotonic() >= due_s):
                return not self._ended
        return False

    def done(self, place: int) -> None:
        """Wake the next thread: the thread at `place` has finished this tick."""
        if place + 1 < len(self._turns):
            self._wake(place + 1)

    def end(self) -> None:
        """Wake all threads for the last time."""
        self._ended = True
        for place in range(len(self._turns)):
            self._wake(place)

    def _wake(self, place: int) -> None:
        with suppress(RuntimeError):  # the thread was woken already
            self._turns[place].release()


class _Clock:
    """Compares the wall clock with the time since boot."""

    def __init__(self) -> None:
        self._boot_s, self._wall_s = _clocks()

    def look(self) -> tuple[float, float, float]:
        """Seconds since boot, seconds since the last call, and the step of the wall clock since then (0: none)."""
        boot_s, wall_s = _clocks()
        elapsed_s = boot_s - self._boot_s
        step_s = wall_s - self._wall_s - elapsed_s
        self._boot_s, self._wall_s = boot_s, wall_s
        return boot_s, elapsed_s, step_s if abs(step_s) > _JUMP_S else 0.0


class _Tracked:
    """A worker with its thread, and the state of both."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.thread: threading.Thread | None = None
        self.busy_since_s: float | None = None
        self.ticked_s = time.monotonic()
        self.released = False
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
        """Whether the fans were given back, and no call is under way that could set them again."""
        return self.released and (self.thread is None or not self.thread.is_alive())

    def stop(self) -> None:
        """Give the card's fans back; an error is stored in `stop_error`."""
        try:
            self.worker.stop()
        except Exception as error:  # reported at the end, after the other cards
            self.stop_error = error
        self.released = True


class Daemon:
    """Runs workers in real time until there is a reason to stop."""

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

        Raises the error that ended the run, or NotGivenBack with the cards whose fans could not be given back.
        """
        ended_by: BaseException | None = None
        try:
            start_s = time.monotonic()
            for place, tracked in enumerate(self._tracked):
                tracked.thread = self._start(inbox, self._work, place, tracked, start_s)
            self._start(inbox, self._supervise, inbox, start_s)
            inbox.wait(duration_s)
        except BaseException as error:  # raised again after the fans are given back
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
            except BaseException as error:  # any error ends the run
                inbox.fail(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def _work(self, place: int, tracked: _Tracked, due_s: float) -> None:
        """The loop of one card. However it ends, it gives the card's fans back."""
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
        """Publish every tick, reload on request, and end the run when no card has answered for long."""
        last_seen_s = time.monotonic()
        clock, clock_steps, clock_step_s = _Clock(), 0, 0.0
        while self._relay.wait(len(self._tracked), due_s):
            if step_s := clock.look()[2]:
                clock_steps, clock_step_s = clock_steps + 1, step_s
            if inbox.pop_reload_request() and self._reload is not None:
                self._apply(self._reload)
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

    def _apply(self, reload: Reload) -> None:
        """Read new settings and pass them to the workers, for their next tick. Keep the old ones if that fails."""
        try:
            self._interval_s, settings_for = reload()
        except Exception as error:  # no file may end control
            # A path may contain bytes that are not text.
            self._reload_refused = str(error).encode(errors="replace").decode() or type(error).__name__
            return
        self._reload_refused = None
        for tracked in self._tracked:
            tracked.worker.follow(settings_for)

    def _next(self, due_s: float) -> float:
        """When the tick after the one due at `due_s` is due. Missed ticks are skipped."""
        return max(due_s, time.monotonic() - self._interval_s) + self._interval_s

    def _give_back(self) -> list[str]:
        """Stop every worker, so that it gives its fans back. If a worker hangs, another thread tries to.

        Returns a line for each card whose fans could not be given back.
        """
        self._relay.end()
        deadline_s = time.monotonic() + STOP_S
        for tracked in self._tracked:
            if tracked.thread is not None:
                tracked.thread.join(max(deadline_s - 0.5 - time.monotonic(), 0))
        rescues = [threading.Thread(target=t.stop, daemon=True) for t in self._tracked if not t.released]
        for rescue in rescues:
            rescue.start()
        for rescue in rescues:
            rescue.join(max(deadline_s - time.monotonic(), 0))
        for tracked in self._tracked:
            # A call that still sets the fans would undo the rescue; if it ends in time, its own thread gives them back.
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
