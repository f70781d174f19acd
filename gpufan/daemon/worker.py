"""One card's tick: sense, decide, act, and publish the state. The time is an argument."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from gpufan.control.card_model import Learnt
from gpufan.control.controller import Controller
from gpufan.control.law import Decision
from gpufan.core.card_settings import CardSettings
from gpufan.core.gpu import Gpu, GpuInfo, Reading
from gpufan.core.reasons import Cause, Control, Reason, Remedy
from gpufan.core.sentences import reason_sentence
from gpufan.core.snapshot import GpuState
from gpufan.daemon.card_state import card_state, lost_reason
from gpufan.daemon.counters import Counters
from gpufan.daemon.neighbours import Neighbours
from gpufan.daemon.read_back import ReadBack, release_verified
from gpufan.daemon.recovery import Backoff, Recovery
from gpufan.daemon.taken import Taken
from gpufan.errors import GpuError, GpuLost, NoPermission

FAILURES = 3
"""The fans are given back to the driver after this many ticks in a row in which they did not obey."""

FANS_EVERY_S = 3.0
"""Interval between two readings of fans without a fault, s. Temperature and power are read at every tick."""

CONTESTED_S = 30.0
"""A card counts as contested for this long after another program has changed its fans, s."""

OTHER_BACKEND_S = 600.0
"""Time between two attempts to set fans that do not move through another backend, s."""

SettingsFor = Callable[[GpuInfo], CardSettings]
"""Returns the settings of a card: always the same for the same card."""


class Worker:
    """Controls one card. `state` is the result of the last tick; any thread may read it."""

    def __init__(
        self,
        gpu: Gpu,
        settings_for: SettingsFor,
        *,
        dry_run: bool = False,
        learnt: Learnt | None = None,
        taken: Taken | None = None,
    ) -> None:
        """`learnt` is what an earlier run learnt of the card; `taken` records the cards whose fans are set."""
        self.gpu = gpu
        self._settings_for = self._followed = settings_for
        self._dry_run = dry_run
        self._taken = taken
        self._info: GpuInfo | None = None
        self._target_c: float | None = None
        self._settings_text = ""
        self._controller: Controller
        self._learnt = learnt
        self.box: Sequence[Worker] = ()
        """The workers of all cards of the box."""
        self._neighbours = Neighbours()
        self._read_back = ReadBack()
        self._reading: Reading | None = None
        self._fans_read_s = -math.inf
        self._permitted = False
        self.stopped = False
        self.paused = self.closed = False
        """Whether the fans were given back for a pause; whether then the owner of the worker has closed the card."""
        self._failures = 0
        self._counters = Counters()
        self.last_s = -math.inf
        self._release_error: str | None = None
        """Why the fans could not be given back to the driver; None if that did not fail."""
        self._wait_until_s = -math.inf
        self._wait_lost = Backoff(1, 5)
        self._wait_released = Backoff(5, 60)
        self._other_backend_at_s = -math.inf
        self._x_error = ""
        self._contested_s = -math.inf
        self.recovery = Recovery()
        self.news = 0
        """Number of states that contained something new, see `GpuState.says_more_than`."""
        self.state = self._state(Control.DRIVER, Decision(None, Reason(Cause.START)))

    def tick(self, now_s: float, *, force_write: bool = False) -> None:
        """Read the card at `now_s`, decide, and set the fans if needed.

        `force_write` sets the fans even if the duty is the same as before. Raises NoPermission if the first attempt to
        set the fans is not permitted. Any other error is a bug.
        """
        before, self.last_s = self.state, now_s
        self.paused = self.closed = False
        self._counters.count_time(now_s, before)
        if force_write:
            self._wait_until_s = -math.inf
        waiting = now_s < self._wait_until_s
        if waiting and self.state.control is Control.LOST:
            return
        try:
            reading = self._read(now_s, force_write)
            if reading.temperature_c is None:
                self._counters.count_error("unreadable")
            self._wait_lost.reset()
            self._adopt_card_and_settings()
            decision = self._decide(now_s, reading)
            if self._dry_run:
                self.state = self._state(Control.DRIVER, decision, reading)
            elif self.gpu.info.uncontrollable_reason is not None:
                reason = Reason(Cause.UNCONTROLLABLE, message=self.gpu.info.uncontrollable_reason)
                self.state = self._state(Control.DRIVER, Decision(None, reason), reading)
            elif waiting:
                self._wait_released_on(reading)
            else:
                self._act(now_s, decision, reading, force_write)
        except GpuLost as error:
            self._lose(now_s, error)
        if self.recovery.reopen_is_due(now_s, self.state):
            self.gpu.reopen()
        self.news += self.state.says_more_than(before)

    def pause(self, now_s: float, left_s: float) -> None:
        """Do this instead of a tick while the card is paused, for another `left_s` seconds.

        The fans are given back to the driver; after that the card is left alone. A card that does not answer is paused
        too: perhaps it is paused because of that.
        """
        before, self.last_s = self.state, now_s
        if not self.paused:
            if not self._dry_run and self.gpu.info.uncontrollable_reason is None:
                with suppress(GpuLost):
                    self._release()
            self._start_over(-math.inf)
            self._reading = None
            self.paused = self._release_error is None
        cause = Cause.PAUSED if self.closed else Cause.CLOSING
        control = Control.DRIVER if self.paused else Control.RELEASED
        self.state = self._state(control, Decision(None, Reason(cause, seconds=round(left_s))))
        if self.recovery.reopen_is_due(now_s, self.state):
            self.gpu.reopen()
        self.news += self.state.says_more_than(before)

    def recheck(self, now_s: float) -> None:
        """Set the fans again if another program has changed them since the tick. Raises the errors of `tick`."""
        if self.stopped or self._dry_run or self.state.control is not Control.OURS or self.state.duty_percent is None:
            return
        try:
            self._read_back.check(now_s, self.gpu.read())
            if self._read_back.rival is not None:
                self._contested_s = now_s
                self._counters.overrides += 1
                self._write(now_s, self.state.duty_percent)
        except GpuLost as error:
            self._lose(now_s, error)

    @property
    def contested(self) -> bool:
        """Whether another program sets the fans too."""
        return self.last_s - self._contested_s < CONTESTED_S

    def follow(self, settings_for: SettingsFor) -> None:
        """Use other settings from the next tick on; the fans stay under control. Any thread may call it."""
        self._settings_for = settings_for

    @property
    def learnt(self) -> Learnt | None:
        """What was learnt of the card; None if no target was ever held. Any thread may read it."""
        return self._learnt if self._info is None else self._controller.learnt

    @property
    def local_demand_percent(self) -> int | None:
        """The duty for the card's own heat; None if gpufan does not control its fans. Any thread may read it."""
        return None if self.state.duty_percent is None else self._controller.local_demand_percent

    @property
    def saturated(self) -> bool:
        """Whether the card is too hot at full fan speed, so that all other cards help it. Any thread may read it."""
        return self.state.control is Control.OURS and self._controller.saturated

    def stop(self) -> None:
        """Give the fans back, and never set them again. Raises GpuError, GpuLost or NoPermission."""
        # A tick that hung may return in its own thread while this runs in another.
        self.stopped = True
        if self.paused or self._dry_run or self.gpu.info.uncontrollable_reason is not None:
            return
        try:
            release_verified(self.gpu)
        except NoPermission:
            if self._permitted:
                raise
            # Without permission nothing was ever set.

    def _read(self, now_s: float, force: bool) -> Reading:
        """Read temperature and power, and also the fans if that is due. Raises GpuLost."""
        if self._dry_run:
            return self.gpu.observe()
        due = force or self._reading is None or now_s - self._fans_read_s >= FANS_EVERY_S
        if due or not (self._read_back.at_rest and self.state.control in (Control.OURS, Control.DRIVER)):
            self._reading, self._fans_read_s = self.gpu.read(), now_s
            return self._reading
        assert self._reading is not None
        sensed = self.gpu.sense()
        return Reading(sensed.temperature_c, sensed.power_w, self._reading.fans, self._reading.throttle)

    def _adopt_card_and_settings(self) -> None:
        """Make a controller for a card that was found or found again, or pass new settings to it."""
        settings_for = self._settings_for
        info = self.gpu.info
        if info is self._info and settings_for is self._followed:
            return
        settings = settings_for(info)
        if info is self._info:
            self._controller.follow(settings)
        else:
            same = self._info is None or self._info.uuid == info.uuid
            self._controller = Controller(
                settings, info.duty_range, info.slowdown_c, self.learnt if same else None, info.power_limit_w
            )
        self._info, self._followed = info, settings_for
        self._target_c, self._settings_text = settings.target_c, str(settings)
        self._neighbours.follow([str(name) for name in settings.neighbours])

    def _decide(self, now_s: float, reading: Reading) -> Decision:
        speed_percent = next((fan.speed_percent for fan in reading.fans if fan.speed_percent is not None), None)
        demands_percent = self._neighbours.demands_percent(now_s, self, self.box)
        return self._controller.decide(now_s, reading.temperature_c, reading.power_w, speed_percent, demands_percent)

    def _act(self, now_s: float, decision: Decision, reading: Reading, force_write: bool) -> None:
        """Judge the fans that were read back, and write the duty if needed."""
        read_back = self._read_back
        if self._fans_read_s == now_s:
            read_back.check(now_s, reading)
        if read_back.still is not None and decision.duty_percent is not None:
            # The other fans of the card must replace the one that stands still.
            decision = Decision(self.gpu.info.duty_range[1], decision.reason)
        fault, slow = read_back.fault, read_back.slow
        rival, disobeyed = read_back.rival, read_back.disobeyed
        if rival is not None:
            self._contested_s = now_s
        self._counters.overrides += (rival or disobeyed) is not None
        refused = None
        if rival or disobeyed or force_write or read_back.differs(decision.duty_percent):
            refused = self._write(now_s, decision.duty_percent)
        disobeyed = refused or disobeyed
        self._failures = self._failures + 1 if disobeyed else 0
        if disobeyed is not None and self._failures >= FAILURES:
            self._give_up(now_s, reading, disobeyed)
            return
        if slow is not None:
            if read_back.driver_is_faster:
                self._give_up(now_s, reading, slow)
                return
            if self._switched_backend(now_s, decision, reading, slow):
                return
        if now_s > self._wait_until_s + self._wait_released.last_s:
            self._wait_released.reset()
        control = Control.DRIVER if decision.duty_percent is None else Control.OURS
        self.state = self._state(
            control,
            decision,
            reading,
            fault=refused or fault or read_back.remark,
            remedy=Remedy.SET_AGAIN if rival or disobeyed else None,
            x_error=self._x_error if fault is slow else "",
        )

    def _switched_backend(self, now_s: float, decision: Decision, reading: Reading, slow: Reason) -> bool:
        """Try another backend for fans that have never moved; returns whether it is in use now.

        Without another backend the fans keep their duty, which may still help.
        """
        if self._read_back.proven or now_s < self._other_backend_at_s:
            return False
        self._other_backend_at_s = now_s + OTHER_BACKEND_S
        self._release()
        result = self.gpu.fall_back(reason_sentence(slow))
        self._x_error = result.x_error
        if not result.switched:
            self._write(now_s, decision.duty_percent)
            return False
        self._start_over(now_s)
        self.state = self._state(Control.RELEASED, Decision(None, slow), reading, remedy=Remedy.OTHER_BACKEND)
        return True

    def _write(self, now_s: float, duty_percent: int | None) -> Reason | None:
        """Set the fans, or give them to the driver; returns the fault if the driver refuses.

        Raises GpuLost. Raises NoPermission if no attempt was ever permitted.
        """
        if self.stopped:
            return None
        try:
            if duty_percent is None:
                self.gpu.release()
            else:
                if self._taken is not None:
                    self._taken.add(self.gpu.info)
                self.gpu.set_duty(duty_percent)
        except GpuLost:
            raise
        except (GpuError, NoPermission) as error:
            if isinstance(error, NoPermission) and not self._permitted:
                raise
            self._read_back.forget()
            self._counters.count_error("refused")
            return Reason(Cause.REFUSED, message=str(error))
        self._permitted = True
        self._read_back.wrote(now_s, duty_percent)
        # Read back at once. A change that comes later is then known to be made by another program.
        self._read_back.check(now_s, self.gpu.read())
        return None

    def _give_up(self, now_s: float, reading: Reading, fault: Reason) -> None:
        """Give fans that do not obey back to the driver. Switch to another backend, or try again after a wait."""
        self._release()
        # If the fans have obeyed once, this backend works, and the fault has another cause.
        result = None if self._read_back.proven else self.gpu.fall_back(reason_sentence(fault))
        nothing = Decision(None, fault)
        if result is not None and result.switched:
            self._start_over(now_s)
            self._wait_released.reset()
            self.state = self._state(Control.RELEASED, nothing, reading, remedy=Remedy.OTHER_BACKEND)
            return
        wait_s = self._wait_released.next_s()
        self._start_over(now_s + wait_s)
        self.state = self._state(
            Control.RELEASED,
            nothing,
            reading,
            remedy=Remedy.RETRY,
            retry_after_s=wait_s,
            x_error="" if result is None else result.x_error,
        )

    def _wait_released_on(self, reading: Reading) -> None:
        """Set nothing in this tick: after a fault the driver controls the fans until the wait ends."""
        if self._release_error is not None:
            self._release()
        last = self.state
        self.state = self._state(
            Control.RELEASED,
            Decision(None, last.reason),
            reading,
            remedy=last.remedy,
            retry_after_s=last.retry_after_s,
            x_error=last.x_error,
        )

    def _release(self) -> None:
        """Give the fans back; store an error in `_release_error`. Raises GpuLost."""
        self._release_error = None
        try:
            release_verified(self.gpu)
        except GpuLost:
            raise
        except (GpuError, NoPermission) as error:
            self._counters.count_error("not_given_back")
            self._release_error = str(error)
            return
        if self._taken is not None:
            self._taken.remove(self.gpu.info.uuid)

    def _lose(self, now_s: float, error: GpuLost) -> None:
        if self.state.control is Control.OURS:
            # Perhaps only the readings fail: then the driver should control the fans.
            with suppress(GpuError, NoPermission):
                self.gpu.release()
        wait_s = self._wait_lost.next_s()
        self._start_over(now_s + wait_s)
        self._counters.count_error("lost")
        self.state = self._state(
            Control.LOST, Decision(None, lost_reason(error)), remedy=Remedy.RETRY, retry_after_s=wait_s
        )

    def _start_over(self, wait_until_s: float) -> None:
        """Forget the duty that was set, and set no fans before `wait_until_s`."""
        self._wait_until_s = wait_until_s
        self._failures = 0
        self._read_back.forget()
        if self._info is not None:
            self._controller.forget()

    def _state(self, control: Control, decision: Decision, reading: Reading | None = None, **details: Any) -> GpuState:
        """The state after a tick. `details`: fault, remedy, retry_after_s, x_error."""
        return card_state(
            self.gpu.info,
            self._counters,
            control,
            decision,
            reading,
            release_error=(self._release_error or "") if control is Control.RELEASED else "",
            settings=self._settings_text,
            target_c=self._target_c,
            **details,
        )
