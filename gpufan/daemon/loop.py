"""The loop that joins sense, decide, act and report.

One thread, the ticker, ticks every card and then publishes, one after the other. The main thread supervises: it waits
for a reason to stop, and looks whether a call hangs. A call that has not returned within `HANG_S` is left behind with
its thread; a new ticker goes on with the rest at once. The card is ticked again as soon as its call returns.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import msgspec

from gpufan.core.reasons import Cause, Control, Reason
from gpufan.core.snapshot import GpuState
from gpufan.daemon.publish import Publish
from gpufan.daemon.snapshot_file import snapshot_now
from gpufan.daemon.worker import SettingsFor, Worker
from gpufan.errors import GpufanError, GpuLost, NoAnswer, NotGivenBack
from gpufan.system.background import call_all
from gpufan.system.signals import StopInbox

HANG_S = 2.0
"""A call that takes longer hangs, s."""

RELOAD_DRIVER_S = 8.0
"""NVML is unloaded and loaded again when a card has been without a reading for this long, s; then after twice that."""

ALL_LOST_S = 60.0
"""The run ends when no card has been under control for this long, s: a new process may reach them again."""

STOP_S = 1.5
"""Time for all cards together to give their fans back, s. Two seconds are promised."""

PUBLISH_S = 2.0
"""A snapshot is published at least this often, s."""

RECHECK_S = 0.15
"""Interval at which a card is checked while another program sets its fans too, s."""

_JUMP_S = 2.0
"""The machine slept if a tick is late by more than this, s; the wall clock was set if it moved by more."""

Reload = Callable[[], tuple[float, SettingsFor]]
"""Reads the settings again; returns the interval in s, and the settings of each card. Raises if they are refused."""

_NO_ANSWER = "the card does not answer"

_log = logging.getLogger(__name__)


class _Clock:
    """Compares the wall clock with the time since boot."""

    def __init__(self) -> None:
        self._boot_s, self._wall_s = _clocks()

    def look(self) -> tuple[float, float, float]:
        """Seconds since boot, since the last call, and by which the wall clock was set meanwhile (0 if it was not)."""
        boot_s, wall_s = _clocks()
        elapsed_s = boot_s - self._boot_s
        step_s = wall_s - self._wall_s - elapsed_s
        self._boot_s, self._wall_s = boot_s, wall_s
        return boot_s, elapsed_s, step_s if abs(step_s) > _JUMP_S else 0.0

    @staticmethod
    def now_s() -> float:
        """Seconds since boot."""
        return _clocks()[0]


class _Step:
    """One call of a pass that may hang, made by one thread at a time."""

    def __init__(self, call: Callable[..., None]) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._pass_number = 0
        self.busy_since_s: float | None = None
        self.done_s = time.monotonic()

    @property
    def hangs(self) -> bool:
        """Whether its call has not returned in time."""
        busy_since_s = self.busy_since_s
        return busy_since_s is not None and time.monotonic() - busy_since_s >= HANG_S

    def run(self, pass_number: int, *arguments: object) -> None:
        """Make the call, once a pass, and not while another thread makes it."""
        with self._lock:
            if self.busy_since_s is not None or self._pass_number == pass_number:
                return
            self._pass_number = pass_number
            self.busy_since_s = time.monotonic()
        try:
            self._call(*arguments)
        finally:
            self.done_s = time.monotonic()
            self.busy_since_s = None


class _Card(_Step):
    """The ticks of one card."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(self._tick)
        self.worker = worker

    def _tick(self, now_s: float, force_write: bool) -> None:
        try:
            self.worker.tick(now_s, force_write=force_write)
        finally:
            if self.worker.stopped:  # while the call hung: it may have set a fan after that
                with suppress(GpufanError):
                    self.worker.stop()

    def state(self, now_s: float) -> GpuState:
        """The state of the card, also while its call hangs."""
        ages = {
            "tick_age_s": round(time.monotonic() - self.done_s, 3),
            "uncontrolled_s": round(self.worker.recovery.uncontrolled_s(now_s), 3),
        }
        if not self.hangs:
            return msgspec.structs.replace(self.worker.state, **ages)
        return msgspec.structs.replace(
            self.worker.state,
            control=Control.LOST,
            reason=Reason(Cause.HANG, seconds=HANG_S),
            fault=None,
            remedy=None,
            retry_after_s=None,
            temperature_c=None,
            power_w=None,
            duty_percent=None,
            fans=(),
            **ages,
        )

    def stop(self, deadline_s: float) -> None:
        """Give the fans back. A tick that is under way is waited for until `deadline_s`."""
        while self.busy_since_s is not None and time.monotonic() < deadline_s:
            time.sleep(0.005)
        self.worker.stop()


class Daemon:
    """Runs workers in real time until told to stop."""

    def __init__(
        self,
        workers: Sequence[Worker],
        sinks: Sequence[Publish],
        *,
        interval_s: float,
        dry_run: bool = False,
        every_tick: bool = True,
        stopping: Callable[[], None] = lambda: None,
        reload: Reload | None = None,
        reload_driver: Callable[[], None] | None = None,
    ) -> None:
        """`every_tick`: publish after every tick; else only what is new, and at least every `PUBLISH_S` seconds.

        `stopping` is called once, before the fans are given back.

        `reload_driver` unloads NVML and loads it again; it may raise a GpufanError.
        """
        self._cards = [_Card(worker) for worker in workers]
        self._supervision = _Step(self._supervise)
        self._publishing = _Step(self._publish)
        self._sinks = sinks
        self._interval_s = interval_s
        self._dry_run = dry_run
        self._every_tick = every_tick
        self._published_s, self._news = -math.inf, 0
        self._stopping = stopping
        self._reload = reload
        self._reload_refused: str | None = None
        self._reload_driver = reload_driver
        self._driver_wait_s = RELOAD_DRIVER_S
        self._inbox: StopInbox
        self._ended = threading.Event()
        self._epoch = 0
        """Number of the present ticker. Others were left behind, and end when their call returns."""
        self._current: _Step | None = None
        """The step that the present ticker makes."""
        self._pass_number = 0
        self._clock = _Clock()
        self._now_s, self._force_write = 0.0, False
        self._clock_steps, self._clock_step_s = 0, 0.0

    def run(self, inbox: StopInbox, duration_s: float | None = None) -> None:
        """Run for `duration_s`, or until `inbox` has a reason to stop; then give every fan back.

        Raises the error that ended the run, or NotGivenBack naming the cards that could not be given back.
        """
        self._inbox = inbox
        ended_by: BaseException | None = None
        end_s = math.inf if duration_s is None else time.monotonic() + duration_s
        try:
            self._start(self._tick, self._epoch, time.monotonic())
            while not inbox.wait(max(min(self._time_to_look_s(), end_s - time.monotonic()), 0)):
                if time.monotonic() >= end_s:
                    break
                if self._current is not None and self._current.hangs:
                    self._leave_behind()
        except BaseException as error:  # raised again after the fans are given back
            ended_by = error
        self._stopping()
        if failed := self._release_all():
            text = f"fans not given back to the driver: {'; '.join(failed)}"
            raise NotGivenBack(text if ended_by is None else f"{ended_by}; {text}") from ended_by
        if ended_by is not None:
            raise ended_by

    def _time_to_look_s(self) -> float:
        """Seconds until the present call would hang. Between calls no later: a call starts at the earliest now."""
        busy_since_s = None if self._current is None else self._current.busy_since_s
        return HANG_S if busy_since_s is None else busy_since_s + HANG_S - time.monotonic()

    def _leave_behind(self) -> None:
        """Go on without the ticker, whose call hangs: with the rest of its pass at once, then with a new ticker."""
        self._epoch += 1
        self._current = None
        for card in self._cards:
            # At the same time, since others may hang as well.
            self._start(card.run, self._pass_number, self._now_s, self._force_write)
        self._start(self._tick, self._epoch, time.monotonic() + self._interval_s)

    def _start(self, call: Callable[..., None], *arguments: object) -> None:
        def run() -> None:
            try:
                call(*arguments)
            except BaseException as error:  # any error ends the run
                self._inbox.fail(error)

        threading.Thread(target=run, daemon=True).start()

    def _tick(self, epoch: int, due_s: float) -> None:
        """The ticker: one pass after the other. Missed passes are skipped."""
        while self._wait_until(epoch, due_s):
            self._pass_number += 1
            self._now_s, elapsed_s, step_s = self._clock.look()
            self._force_write = elapsed_s > self._interval_s + _JUMP_S or step_s != 0
            if step_s:
                self._clock_steps, self._clock_step_s = self._clock_steps + 1, step_s
            for card in self._cards:
                if not self._make(epoch, card, self._now_s, self._force_write):
                    return
            if not (self._make(epoch, self._supervision) and self._make(epoch, self._publishing)):
                return
            self._current = None
            due_s = max(due_s, time.monotonic() - self._interval_s) + self._interval_s

    def _make(self, epoch: int, step: _Step, *arguments: object) -> bool:
        """Make a step of the present pass; False if this ticker was left behind meanwhile."""
        self._current = step
        step.run(self._pass_number, *arguments)
        return self._epoch == epoch

    def _wait_until(self, epoch: int, due_s: float) -> bool:
        """Wait for the next pass, and check contested cards meanwhile; False after the end."""
        while (left_s := due_s - time.monotonic()) > 0:
            contested = [card.worker for card in self._cards if card.worker.contested and card.busy_since_s is None]
            if self._ended.wait(min(left_s, RECHECK_S) if contested else left_s):
                return False
            for worker in contested:
                worker.recheck(self._clock.now_s())
        return self._epoch == epoch and not self._ended.is_set()

    def _supervise(self) -> None:
        """Apply new settings, and take the stronger remedies for cards without control."""
        if self._inbox.pop_reload_request() and self._reload is not None:
            self._apply(self._reload)
        workers = [card.worker for card in self._cards]
        if min(worker.recovery.uncontrolled_s(self._now_s) for worker in workers) >= ALL_LOST_S:
            raise GpuLost(f"no card was under control for {ALL_LOST_S:g} s; a new process may reach them again")
        blind_s = max(worker.recovery.blind_s(self._now_s) for worker in workers)
        if blind_s < RELOAD_DRIVER_S:
            self._driver_wait_s = RELOAD_DRIVER_S
        elif blind_s >= self._driver_wait_s and self._reload_driver and not any(card.hangs for card in self._cards):
            self._driver_wait_s = 2 * blind_s
            _log.warning("a card has not been read for %.0f s: NVML is loaded again", blind_s)
            try:
                self._reload_driver()
            except GpufanError as error:
                _log.warning("NVML cannot be loaded again: %s", error)

    def _publish(self) -> None:
        news = sum(card.worker.news + card.hangs for card in self._cards)
        if not self._every_tick and news == self._news and self._now_s - self._published_s < PUBLISH_S:
            return
        self._published_s, self._news = self._now_s, news
        snapshot = snapshot_now(
            tuple(card.state(self._now_s) for card in self._cards),
            interval_s=self._interval_s,
            dry_run=self._dry_run,
            reload_refused=self._reload_refused,
            clock_steps=self._clock_steps,
            clock_step_s=self._clock_step_s,
        )
        for publish in self._sinks:
            publish(snapshot)

    def _apply(self, reload: Reload) -> None:
        """Pass new settings to the workers, which use them from their next tick on; or keep the old ones."""
        try:
            self._interval_s, settings_for = reload()
        except Exception as error:  # no file may end control
            # A path may contain bytes that are not text.
            self._reload_refused = str(error).encode(errors="replace").decode() or type(error).__name__
            return
        self._reload_refused = None
        for card in self._cards:
            card.worker.follow(settings_for)

    def _release_all(self) -> list[str]:
        """Give the fans of every card back, all at the same time; returns a line for each card where that failed."""
        self._epoch += 1
        self._ended.set()
        deadline_s = time.monotonic() + STOP_S
        calls = [partial(card.stop, deadline_s - STOP_S / 3) for card in self._cards]
        results = call_all(STOP_S, calls)
        for card in self._cards:
            # A call that still sets the fans would undo the release; its thread gives back once more when it returns.
            while card.busy_since_s is not None and time.monotonic() < deadline_s:
                time.sleep(0.005)
        return [
            f"{card.worker.gpu.info.label}: {_release_error(result)}"
            for card, result in zip(self._cards, results, strict=True)
            if isinstance(result, Exception) or card.busy_since_s is not None
        ]


def _release_error(result: object) -> str:
    return str(result) if isinstance(result, Exception) and type(result) is not NoAnswer else _NO_ANSWER


def _clocks() -> tuple[float, float]:
    """Seconds since boot, sleep included, and seconds since the epoch."""
    return time.clock_gettime(time.CLOCK_BOOTTIME), time.time()
