"""The control loop.

One thread, the ticker, ticks the cards one after the other, and then publishes their states. The main thread waits for
a reason to stop, and checks whether a call hangs. If a call has not returned within `passes.HANG_S`, its thread is
abandoned, and a new ticker continues with the other cards at once. The card is ticked again as soon as its call
returns. The first ticks of all cards are made at the same time. If a card hangs from the start, some time has already
been lost while it was opened, and the other cards should not wait any longer.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from gpufan.core.snapshot import SettingsInUse
from gpufan.daemon.instructions import SettingsFor
from gpufan.daemon.orders import Orders
from gpufan.daemon.passes import CardStep, Pass, Step
from gpufan.daemon.publish import Publish
from gpufan.daemon.recovery import DriverReload
from gpufan.daemon.rivals import RivalLog
from gpufan.daemon.snapshot_file import snapshot_now
from gpufan.daemon.worker import Worker
from gpufan.errors import GpuLost, NoAnswer, NotGivenBack
from gpufan.system.background import call_all
from gpufan.system.clock import since_boot_s
from gpufan.system.signals import StopInbox
from gpufan.system.uevents import Uevents

ALL_LOST_S = 60.0
"""The run ends if no card has been under control for this long, s: a new process may reach the cards again."""

STOP_S = 1.5
"""Time limit for giving the fans of all cards back, s. gpufan promises its users two seconds."""

LOOK_S = 2.0
"""While no card changes, the steps of a pass that follow the ticks are made at this interval, s."""

RECHECK_S = 0.1
"""Interval between two checks of a card whose fans another program sets too, s."""

_REST_S = 0.1
"""Time limit for ticks of all cards at the same time, s. The pass goes on without cards that take longer."""

_JUMP_S = 2.0
"""If a tick is late by more than this, s, the machine slept. If the wall clock jumps by more, it was set."""

Reload = Callable[[], tuple[float, SettingsFor]]
"""Reads the settings again. Returns the interval of the ticks, s, and a function that returns the settings of a card.

Raises an error if the new settings cannot be used.
"""

_NO_ANSWER = "the card does not answer"

_log = logging.getLogger(__name__)


class _LoopClock:
    """Compares the wall clock with the time since boot."""

    def __init__(self) -> None:
        self._boot_s, self._wall_s = _loop_clocks()
        self.steps = 0
        """How often the wall clock was set."""
        self.step_s = 0.0
        """The last change of the wall clock, s; negative if it was set back."""

    def look(self) -> tuple[float, float, bool]:
        """Return three values: the seconds since boot, the seconds since the last call, and whether the clock was set.

        The last value says whether somebody has set the wall clock since the last call.
        """
        boot_s, wall_s = _loop_clocks()
        elapsed_s = boot_s - self._boot_s
        step_s = wall_s - self._wall_s - elapsed_s
        self._boot_s, self._wall_s = boot_s, wall_s
        was_set = abs(step_s) > _JUMP_S
        if was_set:
            self.steps, self.step_s = self.steps + 1, step_s
        return boot_s, elapsed_s, was_set


class _Ticker:
    """The thread that makes the passes. If a call hangs, it is abandoned: it ends when the call returns."""

    def __init__(self) -> None:
        self.step = Step(lambda _: None)
        """The step that it makes now, or has made last."""


class ControlLoop:
    """Runs workers in real time until there is a reason to stop."""

    def __init__(
        self,
        workers: Sequence[Worker],
        sinks: Sequence[Publish],
        *,
        case_fans: Sequence[Worker] = (),
        interval_s: float,
        dry_run: bool = False,
        every_tick: bool = True,
        stopping: Callable[[], None] = lambda: None,
        reload: Reload | None = None,
        reload_driver: Callable[[], None] | None = None,
        find_new: Callable[[], Sequence[Worker]] = tuple,
        orders: Orders | None = None,
        settings_in_use: SettingsInUse = SettingsInUse.CHOSEN,
        settings_refused: str | None = None,
    ) -> None:
        """`workers` control the cards, `case_fans` the case fans. Each of `sinks` receives every snapshot.

        `interval_s` is the time from one tick of a card to the next.

        If `every_tick` is set, a snapshot is published after every tick. Otherwise it is published when a state is new,
        and at least every `LOOK_S` seconds.

        `stopping` is called once, before the fans are given back.

        `reload_driver` unloads NVML, which closes all cards, and loads it again. It may raise a GpufanError.

        `settings_in_use` says which settings are used at the start. `settings_refused` says why the settings file is
        not used at the start; None if it is used.

        `find_new` returns new workers for the cards that have appeared since its last call.
        """
        self._orders = orders or Orders(None)
        self._cards = [CardStep(worker, self._orders) for worker in workers]
        self._case_fans = [CardStep(worker, self._orders) for worker in case_fans]
        self._supervision = Step(self._supervise)
        self._publishing = Step(self._publish)
        self._finding = Step(self._find)
        self._sinks = sinks
        self._interval_s = interval_s
        self._dry_run = dry_run
        self._every_tick = every_tick
        self._news: tuple[object, ...] = ()
        self._stopping = stopping
        self._reload = reload
        self._settings_for: SettingsFor | None = None
        """The settings that the last reload has read; None before the first reload."""
        self._reload_refused: str | None = None
        self._settings_in_use, self._settings_refused = settings_in_use, settings_refused
        self._driver_reload = DriverReload(reload_driver)
        self._reloaded = False
        """Whether NVML was loaded again since the last pass, so that all fans must be set again."""
        self._find_new = find_new
        self._uevents = Uevents()
        self._inbox: StopInbox
        self._has_ended = False
        self._ticker = _Ticker()
        """The present ticker. All earlier tickers were abandoned."""
        self._due_s = 0.0
        """When the present pass was due, or the next one is, on the clock of `time.monotonic`."""
        self._clock = _LoopClock()
        self._pass = Pass(0, 0.0)
        self._rivals = RivalLog()
        self._look_at_s = -math.inf

    def run(self, inbox: StopInbox, duration_s: float | None = None) -> None:
        """Run until `inbox` has a reason to stop, or `duration_s` has passed. Then give the fans of all cards back.

        Raises the error that ended the run, or NotGivenBack with the cards whose fans could not be given back.
        """
        self._inbox = inbox
        ended_by: BaseException | None = None
        end_s = math.inf if duration_s is None else time.monotonic() + duration_s
        try:
            self._pass, self._due_s = Pass(1, _loop_clocks()[0], is_look=True), time.monotonic()
            self._tick_all_at_once()
            while not inbox.wait(max(min(self._ticker.step.left_s, end_s - time.monotonic()), 0)):
                if time.monotonic() >= end_s:
                    break
                if self._ticker.step.hangs:
                    self._tick_all_at_once()
                for card in self._all:
                    if card.hangs and card.worker.gpu.info.channels:
                        self._start(card.rescue.run, self._pass)
        except BaseException as error:  # raised again after the fans are given back
            ended_by = error
        self._stopping()
        if failed := self._release_all():
            text = f"fans not given back to the driver: {'; '.join(failed)}"
            raise NotGivenBack(text if ended_by is None else f"{ended_by}; {text}") from ended_by
        if ended_by is not None:
            raise ended_by

    def _tick_all_at_once(self) -> None:
        """Tick every card that has no tick in this pass yet, each in its own thread. Then start a new ticker.

        The present ticker is abandoned. This is called at the start, when some cards may hang, and when a call hangs.
        """
        self._ticker = _Ticker()
        for steps in self._cards, self._case_fans:  # a case fan follows the new readings of the cards
            threads = [self._start(step.run, self._pass) for step in steps]
            deadline_s = time.monotonic() + _REST_S
            for thread in threads:
                thread.join(max(deadline_s - time.monotonic(), 0))
        self._start(self._tick, self._ticker)

    def _start(self, call: Callable[..., None], *arguments: object) -> threading.Thread:
        """Start a thread that calls `call` with `arguments`. An error in it ends the run."""

        def run_loop_thread() -> None:
            try:
                call(*arguments)
            except BaseException as error:  # any error ends the run
                self._inbox.fail(error)

        thread = threading.Thread(target=run_loop_thread, daemon=True)
        thread.start()
        return thread

    def _tick(self, ticker: _Ticker) -> None:
        """Finish the present pass. Then make one pass in every interval, and skip passes that were missed.

        Returns when `ticker`, which is this thread, has been abandoned.
        """
        while all(self._make(ticker, step, self._pass) for step in self._steps(self._pass)):
            if self._reloaded:
                self._due_s = time.monotonic()
            elif not self._pass.is_recheck:  # else the pass that is due next was not made yet
                self._due_s = max(self._due_s, time.monotonic() - self._interval_s) + self._interval_s
            if not self._wait_until_due(ticker):
                return
            now_s, elapsed_s, clock_was_set = self._clock.look()
            number, forced_number = self._pass.number + 1, self._pass.forced_number
            if self._reloaded or clock_was_set or elapsed_s > self._interval_s + _JUMP_S:
                forced_number = number
            self._reloaded = False
            self._pass = Pass(number, now_s, forced_number, now_s >= self._look_at_s)

    def _steps(self, this: Pass) -> Iterator[Step]:
        """Yield the steps of the pass `this`. The first steps are the ticks of all cards.

        While no card changes, the other steps are made only every `LOOK_S` seconds.
        """
        if this.is_look:
            self._look_at_s = this.now_s + LOOK_S
        self._orders.look()
        yield from self._cards
        yield from self._case_fans
        quiet = all(card.is_quiet for card in self._all)
        if this.is_look or self._every_tick or not quiet or self._inbox.reload_requested:
            yield self._supervision
            yield self._publishing
        if this.is_look:
            if self._uevents.card_appeared():
                self._driver_reload.hurry()  # perhaps a lost card has returned
            yield self._finding

    @property
    def _all(self) -> list[CardStep]:
        """The steps of all cards and case fans."""
        return [*self._cards, *self._case_fans]

    def _make(self, ticker: _Ticker, step: Step, this: Pass) -> bool:
        """Make `step` of the pass `this`. If another thread is making the step, do nothing.

        Returns False if `ticker`, which is this thread, has been abandoned, else True.
        """
        if step.busy_since_s is None:
            ticker.step = step
            step.run(this)
        return self._ticker is ticker

    def _wait_until_due(self, ticker: _Ticker) -> bool:
        """Wait until the next pass is due. Meanwhile recheck contested cards every `RECHECK_S` seconds.

        Returns False if `ticker`, which is this thread, has been abandoned, else True.
        """
        while (left_s := self._due_s - time.monotonic()) > 0:
            contested = [card for card in self._all if card.worker.contested and card.busy_since_s is None]
            time.sleep(min(left_s, RECHECK_S) if contested else left_s)
            if self._ticker is not ticker:
                return False
            if contested:
                last = self._pass
                self._pass = this = Pass(last.number + 1, _loop_clocks()[0], last.forced_number, is_recheck=True)
                if not all(self._make(ticker, card, this) for card in contested):
                    return False
        return self._ticker is ticker

    def _supervise(self, this: Pass) -> None:
        """Apply new settings. Load NVML again if cards cannot be read.

        Raises GpuLost, which ends the run, if no card was under control for `ALL_LOST_S` seconds.
        """
        if self._inbox.reload_requested and self._reload is not None:
            self._inbox.reload_requested = False
            self._apply(self._reload)
        now_s, workers = this.now_s, [card.worker for card in self._cards]
        for worker in (*workers, *(fan.worker for fan in self._case_fans)):
            info = worker.gpu.info
            self._rivals.note(now_s, info.label, worker.contested, of_board=info.backend == "hwmon")
        if min(worker.recovery.uncontrolled_s(now_s) for worker in workers) >= ALL_LOST_S:
            raise GpuLost(f"no card was under control for {ALL_LOST_S:g} s; a new process may reach them again")
        if any(step.busy_since_s is not None for step in (*self._cards, self._finding)):
            return  # NVML cannot be unloaded during a call
        is_wanted = any(worker.paused and not worker.closed for worker in workers)
        blind_s = [worker.recovery.blind_s(now_s) for worker in workers]
        if self._driver_reload.run_if_due(now_s, blind_s, is_wanted=is_wanted):
            self._reloaded = True
            for worker in workers:
                worker.closed = worker.paused

    def _find(self, _: Pass) -> None:
        """Search for cards that have appeared. The loop controls them from the next pass on."""
        for worker in self._find_new():
            self._cards = [*self._cards, CardStep(worker, self._orders)]
            if self._settings_for is not None:
                worker.follow(self._settings_for)
            _log.info("%s has appeared, and is controlled from now on", worker.gpu.info.label)

    def _publish(self, this: Pass) -> None:
        """Publish a snapshot, if a state says something new or if a snapshot is due."""
        if self._has_ended:
            return
        cards = sum(card.worker.news + card.hangs for card in self._all)
        news = cards, len(self._cards), self._reload_refused, self._settings_refused, self._clock.steps
        if news == self._news and not (self._every_tick or this.is_look):
            return
        self._news = news
        snapshot = snapshot_now(
            tuple(card.state(this.now_s) for card in self._cards),
            case_fans=tuple(fan.state(this.now_s) for fan in self._case_fans),
            interval_s=self._interval_s,
            dry_run=self._dry_run,
            reload_refused=self._reload_refused,
            settings_in_use=self._settings_in_use,
            settings_refused=self._settings_refused,
            clock_steps=self._clock.steps,
            clock_step_s=self._clock.step_s,
        )
        for publish in self._sinks:
            publish(snapshot)

    def _apply(self, reload: Reload) -> None:
        """Call `reload`, and give the new settings to the workers. If `reload` fails, keep the old settings."""
        try:
            self._interval_s, self._settings_for = reload()
        except Exception as error:  # no file may end control
            # A path may contain bytes that are not text.
            self._reload_refused = str(error).encode(errors="replace").decode() or type(error).__name__
            return
        self._reload_refused = self._settings_refused = None
        self._settings_in_use = SettingsInUse.CHOSEN
        for card in self._all:
            card.worker.follow(self._settings_for)

    def _release_all(self) -> list[str]:
        """Give the fans of all cards back at the same time. Returns a line for each card where this failed."""
        self._ticker = _Ticker()
        self._has_ended = True
        deadline_s = time.monotonic() + STOP_S
        calls = [partial(card.stop, deadline_s - STOP_S / 3) for card in self._all]
        results = call_all(STOP_S, calls)
        for step in (*self._all, *(card.rescue for card in self._all), self._publishing):
            # A call that still sets the fans would undo the release. When it returns, its thread gives them back again.
            while step.busy_since_s is not None and time.monotonic() < deadline_s:
                time.sleep(0.005)
        return [
            f"{card.worker.gpu.info.label}: {_loop_release_error(result)}"
            for card, result in zip(self._all, results, strict=True)
            if isinstance(result, Exception) or card.busy_since_s is not None
        ]


def _loop_release_error(result: object) -> str:
    """Return why the fans of a card were not given back.

    This is the text of the error `result`. If `result` is NoAnswer or no error, the card does not answer.
    """
    return str(result) if isinstance(result, Exception) and type(result) is not NoAnswer else _NO_ANSWER


def _loop_clocks() -> tuple[float, float]:
    """Return the seconds since boot, including sleep, and the time of the wall clock in seconds since the epoch."""
    return since_boot_s(), time.time()
