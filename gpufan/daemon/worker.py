"""The tick of one card: sense, decide, act, and make the state to publish. The time is an argument."""

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from gpufan.config.order import Order
from gpufan.control.controller import Controller
from gpufan.control.law import Decision, Learnt
from gpufan.core.gpu import FallBack, Gpu, GpuInfo, Reading, Throttle
from gpufan.core.reasons import Cause, Control, Reason, Remedy
from gpufan.core.sentences import reason_sentence
from gpufan.core.snapshot import GpuState
from gpufan.daemon.card_reader import CardReader
from gpufan.daemon.card_state import card_state, lost_state_reason
from gpufan.daemon.counters import Counters
from gpufan.daemon.fans import Fans
from gpufan.daemon.instructions import Instructions, LocalTime, SettingsFor
from gpufan.daemon.neighbours import Neighbours
from gpufan.daemon.recovery import Backoff, Recovery
from gpufan.daemon.taken import Taken
from gpufan.errors import GpuLost

FAILURES = 3
"""The fans are given back to the driver after this many ticks in a row in which they did not obey."""

CONTESTED_S = 30.0
"""A card counts as contested for this long after another program has changed its fans, s."""

OTHER_BACKEND_S = 600.0
"""If fans do not move, setting them through another backend is tried at most once in this time, s."""


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
        wall_clock: LocalTime | None = None,
    ) -> None:
        """`settings_for` returns the settings of the card. If `dry_run` is set, nothing is set on the card.

        `learnt` is the model that an earlier run has learnt of the card; None if there is no model. `taken` writes the
        record of cards; None for no record. `wall_clock` returns the local time for quiet hours; None for the clock of
        this machine.
        """
        self.gpu = gpu
        self.instructions = Instructions(settings_for, wall_clock)
        self._dry_run = dry_run
        self._info: GpuInfo | None = None
        self._controller: Controller
        self._learnt = learnt
        self.box: Sequence[Worker] = ()
        """The workers of all cards of the box."""
        self._neighbours = Neighbours()
        self._reader = CardReader(gpu)
        self._steady = False
        """Whether the same temperature would give the same state again."""
        self.quiet = False
        """Whether the last tick had nothing to do: the card is as it was at the tick before."""
        self.paused = self.closed = False
        """`paused`: whether the fans were given back for a pause. `closed`: whether the card was closed after that."""
        self._failures = 0
        self._counters = Counters()
        self._fans = Fans(gpu, self._counters, taken)
        self._limits = self._fans.limits
        self._read_back = self._fans.read_back
        self.last_s = -math.inf
        self._wait_until_s = -math.inf
        self._wait_lost = Backoff(1, 5)
        # A fault of less than 40 s is over less than 10 s before the next attempt.
        self._wait_released = Backoff(5, 60, growth=1.2)
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
        before, self.last_s, self.quiet = self.state, now_s, False
        self.paused = self.closed = False
        if force_write:
            self._wait_until_s = -math.inf
        waiting = now_s < self._wait_until_s
        if waiting and before.control is Control.LOST:
            return
        try:
            reading = self._read(now_s, force_write)
            self._adopt_card_and_settings(now_s)
            if self._steady and self._reader.is_same and not self._reader.has_fans and self._trusts(now_s, reading):
                self._stay(now_s, reading)
                return
            self._counters.count_time(now_s, before)
            if reading.temperature_c is None:
                self._counters.count_error("unreadable")
            self._wait_lost.reset()
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
            self._steady = self._controller.steady and self.state.remedy is None and self._limits.at_rest
        except GpuLost as error:
            self._lose(now_s, error)
        self._finish(now_s, before)

    def _stay(self, now_s: float, reading: Reading) -> None:
        """End a tick without a new decision, since the card is as before. Only the power in `reading` may be new."""
        self.quiet = True
        self.recovery.controlled(now_s)
        if reading.power_w != self.state.power_w:
            self.state = msgspec.structs.replace(self.state, power_w=reading.power_w)

    def _finish(self, now_s: float, before: GpuState) -> None:
        """End a tick. Open the card anew if that is due. Count the state if it says more than the state `before`."""
        if self.recovery.reopen_is_due(now_s, self.state):
            self.gpu.reopen()
        self.news += self.state.says_more_than(before)

    def make_safe_while_hanging(self) -> None:
        """Run the fans at full speed if they are on the motherboard. Another thread may hang in a call to the card."""
        if self.gpu.info.channels and self.state.control is Control.OURS and not self.stopped:
            self._fans.make_safe_while_hanging()

    def pause(self, now_s: float, left_s: float) -> None:
        """Pause the card for another `left_s` seconds. This is called in place of `tick`.

        The first call gives the fans back to the driver. Later calls do not touch the card. A card that does not answer
        twice in a row is paused too, since a person may pause it for that reason.
        """
        before, self.last_s, self.quiet = self.state, now_s, False
        if not self.paused:
            is_given_back = True
            if not self._dry_run and self.gpu.info.uncontrollable_reason is None:
                is_given_back = before.control in (Control.LOST, Control.RELEASED)
                with suppress(GpuLost):
                    is_given_back = self._fans.release()
            self._start_over(-math.inf)
            self._reader.forget()
            self.paused = is_given_back  # not earlier, since a call may hang and `stop` must give the fans back then
        cause = Cause.PAUSED if self.closed else Cause.CLOSING
        control = Control.DRIVER if self.paused else Control.RELEASED
        self.state = self._state(control, Decision(None, Reason(cause, seconds=round(left_s))))
        self._finish(now_s, before)

    def recheck(self, now_s: float) -> None:
        """Set the fans again if another program has changed them since the tick. Raises the same errors as `tick`."""
        if self.stopped or self._dry_run or self.state.control is not Control.OURS or self.state.duty_percent is None:
            return
        try:
            self._read_back.check(now_s, self.gpu.read())
            if self._read_back.rival is not None:
                self._contested_s = now_s
                self._counters.overrides += 1
                self._fans.set(now_s, self.state.duty_percent)
        except GpuLost as error:
            self._lose(now_s, error)

    @property
    def contested(self) -> bool:
        """Whether another program has changed the fans in the last 30 s."""
        return self.last_s - self._contested_s < CONTESTED_S

    def follow(self, settings_for: SettingsFor) -> None:
        """From the next tick on, use the settings that `settings_for` returns. Any thread may call this."""
        self.instructions.follow(settings_for)

    def obey(self, order: Order | None, left_s: float | None = None) -> None:
        """From the next tick on, follow `order` in place of curve or target in the settings; None ends the order.

        `left_s` says how long the order still lasts, s. It is None for an order without an end.
        """
        self.instructions.obey(order, left_s)

    @property
    def learnt(self) -> Learnt | None:
        """The learnt model of the card; None if no target was ever held. Any thread may read it."""
        return self._learnt if self._info is None else self._controller.learnt

    @property
    def local_demand_percent(self) -> int | None:
        """The duty that the card needs for its own heat, percent; None if gpufan does not control its fans.

        A card whose fans cannot be set needs a duty all the same: that of a case fan. Any thread may read it.
        """
        if self._info is None or (self.state.duty_percent is None and self._info.uncontrollable_reason is None):
            return None
        return self._controller.local_demand_percent

    @property
    def saturated(self) -> bool:
        """Whether the card is too hot at full fan speed, so that all other cards help it. Any thread may read it."""
        return self.state.control is Control.OURS and self._controller.saturated

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._fans.stopped

    def stop(self) -> None:
        """Give the fans back, and never set them again. Raises GpuError, GpuLost or NoPermission."""
        if self.paused or self._dry_run or self.gpu.info.uncontrollable_reason is not None:
            self._fans.stopped = True
            self._limits.give_back()
            self._limits.require_given_back()
        else:
            self._fans.stop()

    def _read(self, now_s: float, force: bool) -> Reading:
        """Read the card at `now_s`. The fans are read if that is due, or if `force` is set. Raises GpuLost."""
        at_rest = self._read_back.at_rest and self.state.control in (Control.OURS, Control.DRIVER)
        reading = self._reader.read(now_s, fans=force or not at_rest, dry_run=self._dry_run)
        return self._limits.judged(reading)

    def _adopt_card_and_settings(self, now_s: float) -> None:
        """Make a new controller if the properties of the card are new. Else pass new settings to the old controller."""
        info = self.gpu.info
        if not self.instructions.update(info, now_s):
            return
        settings = self.instructions.current
        if info is self._info:
            self._controller.follow(settings)
        else:
            same = self._info is None or self._info.uuid == info.uuid
            self._controller = Controller(
                settings, info.duty_range, info.slowdown_c, self.learnt if same else None, info.power_limit_w
            )
        self._info = info
        self._steady = False
        self._neighbours.follow([str(name) for name in settings.neighbours])

    def _trusts(self, now_s: float, reading: Reading) -> bool:
        """Whether the sensor guard trusts `reading`. It needs every reading to notice that the sensor has stopped."""
        is_steered = reading.throttle is Throttle.HEAT or self._limits.power_is_steered(now_s, reading.temperature_c)
        return self._controller.trusts(now_s, reading.temperature_c, reading.power_w, is_steered=is_steered)

    def _decide(self, now_s: float, reading: Reading) -> Decision:
        """Return the decision of the controller on `reading`. It includes the demands of the neighbours."""
        speed_percent = next((fan.speed_percent for fan in reading.fans if fan.speed_percent is not None), None)
        return self._controller.decide(
            now_s,
            reading.temperature_c,
            reading.power_w,
            speed_percent,
            self._demands_percent(now_s),
            throttled=reading.throttle is Throttle.HEAT,
            power_is_steered=self._limits.power_is_steered(now_s, reading.temperature_c),
        )

    def _demands_percent(self, now_s: float) -> list[int]:
        """Return the duties that other cards need from the fans of this card, percent."""
        return self._neighbours.demands_percent(now_s, self, self.box)

    def _act(self, now_s: float, decision: Decision, reading: Reading, force_write: bool) -> None:
        """Judge the fans in `reading`. Set fans and limits if needed, or if `force_write` is set."""
        read_back = self._read_back
        if self._reader.has_fans:
            read_back.check(now_s, reading)
        if read_back.still is not None and decision.duty_percent is not None:
            # The other fans of the card must replace the one that stands still.
            decision = Decision(self.gpu.info.duty_range[1], decision.reason)
        fault, slow, rival, disobeyed = read_back.fault, read_back.slow, read_back.rival, read_back.disobeyed
        if rival is not None:
            self._contested_s = now_s
        self._counters.overrides += (rival or disobeyed) is not None
        refused = None
        if rival or disobeyed or force_write or read_back.differs(decision.duty_percent):
            refused = self._fans.set(now_s, decision.duty_percent)
        disobeyed = refused or disobeyed
        self._failures = self._failures + 1 if disobeyed else 0
        if disobeyed is not None and self._failures >= FAILURES:
            self._give_up(now_s, reading, disobeyed)
            return
        if slow is not None:
            if read_back.driver_is_faster:
                self._give_up(now_s, reading, slow)
                return
            if not read_back.proven and now_s >= self._other_backend_at_s:
                self._other_backend_at_s = now_s + OTHER_BACKEND_S
                if self._switched_backend(now_s, reading, slow):
                    return
                self._fans.set(now_s, decision.duty_percent)  # the duty may still help
        if now_s > self._wait_until_s + self._wait_released.last_s:
            self._wait_released.reset()
        if force_write:
            self._limits.forget()
        if not self.stopped:
            self._limits.follow(now_s, self.instructions.current, self._controller, reading)
        control = Control.DRIVER if decision.duty_percent is None else Control.OURS
        self.state = self._state(
            control,
            decision,
            reading,
            fault=refused or fault or read_back.remark,
            remedy=Remedy.SET_AGAIN if rival or disobeyed else None,
            x_error=self._x_error if fault is slow else "",
        )

    def _give_up(self, now_s: float, reading: Reading, fault: Reason) -> None:
        """Give the fans back to the driver because of `fault`. Switch to another backend, or try again after a wait."""
        if self._switched_backend(now_s, reading, fault):
            return
        wait_s = self._wait_released.next_s()
        self._start_over(now_s + wait_s)
        self.state = self._state(
            Control.RELEASED,
            Decision(None, fault),
            reading,
            remedy=Remedy.RETRY,
            retry_after_s=wait_s,
            x_error=self._x_error,
        )

    def _switched_backend(self, now_s: float, reading: Reading, fault: Reason) -> bool:
        """Give the fans back, and try another backend. Returns whether the other backend sets the fans from now on.

        If the fans have ever obeyed, no other backend is tried, since the backend is not the cause of `fault` then.
        """
        self._fans.make_safe()
        result = FallBack(False) if self._read_back.proven else self.gpu.fall_back(reason_sentence(fault))
        self._x_error = result.x_error
        if result.switched:
            self._start_over(now_s)
            self._wait_released.reset()
            self.state = self._state(Control.RELEASED, Decision(None, fault), reading, remedy=Remedy.OTHER_BACKEND)
        return result.switched

    def _wait_released_on(self, reading: Reading) -> None:
        """End a tick in which no fan is set. After a fault the driver controls the fans until the wait ends."""
        if self._fans.release_error:
            self._fans.make_safe()
        last = self.state
        self.state = self._state(
            Control.RELEASED,
            Decision(None, last.reason),
            reading,
            remedy=last.remedy,
            retry_after_s=last.retry_after_s,
            x_error=last.x_error,
        )

    def _lose(self, now_s: float, error: GpuLost) -> None:
        """Record that the card does not answer, because of `error`. Later ticks wait before they try again."""
        if not self._dry_run and self.gpu.info.uncontrollable_reason is None:
            # Perhaps only the readings fail: then the driver should control the fans, or they should run at full speed.
            self._fans.hand_over_if_held()
        wait_s = self._wait_lost.next_s()
        self._start_over(now_s + wait_s)
        self._counters.count_error("lost")
        self.state = self._state(
            Control.LOST, Decision(None, lost_state_reason(error)), remedy=Remedy.RETRY, retry_after_s=wait_s
        )

    def _start_over(self, wait_until_s: float) -> None:
        """Forget the duty that was set, and set no fans before `wait_until_s`."""
        self._wait_until_s = wait_until_s
        self._failures = 0
        self._read_back.forget()
        self._limits.forget()
        if self._info is not None:
            self._controller.forget()

    def _state(self, control: Control, decision: Decision, reading: Reading | None = None, **details: Any) -> GpuState:
        """Return the state after a tick. `details` are values for fault, remedy, retry_after_s and x_error."""
        return card_state(
            self.gpu.info,
            self._counters,
            control,
            decision,
            reading,
            release_error=self._fans.release_error if control is Control.RELEASED else "",
            contested=self.contested,
            settings="" if self._info is None else str(self.instructions),
            target_c=self.instructions.current.target_c,
            order=self.instructions.order_text,
            **self._limits.state,
            order_left_s=self.instructions.order_left_s,
            **details,
        )
