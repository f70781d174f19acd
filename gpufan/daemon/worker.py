"""One card's tick: sense, decide, act, and say what was done. Pure of time and threads: `daemon` drives it."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from gpufan.control.card_model import Learnt
from gpufan.control.controller import Controller
from gpufan.core.card_settings import CardSettings
from gpufan.core.gpu import FallBack, Gpu, GpuInfo, Reading
from gpufan.core.selection import matches
from gpufan.core.snapshot import Errors, GpuState
from gpufan.errors import GpuError, GpuLost, NoPermission

FAILURES = 3
"""So many ticks in a row with a refused or unheeded set, and the fans are given back to the driver."""

TARGET_TOLERANCE = 2
"""Points by which a target read back may differ from the one set: drivers round."""

SETTLE_S = 15.0
"""A fan must be near its target this long after it was set, s."""

SETTLE_TOLERANCE = 10
"""Points by which a settled fan's speed may differ from its target."""

_GAP_S = 15.0
"""Longest time between ticks that counts as time spent in a state, s: over a longer one the machine slept."""

_SILENT_S = 30.0
"""A card whose worker has done nothing for so long says nothing of its heat any more, s."""

SettingsFor = Callable[[GpuInfo], CardSettings]
"""Tells how a card is to be kept. Pure, and the same for the same card."""

_NEVER = -1
"""In place of a duty: nothing has been set yet, or what was set is no longer known."""


class Backoff:
    """Waits that double from `first_s` to `last_s` seconds.

    >>> backoff = Backoff(20, 60)
    >>> backoff.next_s(), backoff.next_s(), backoff.next_s()
    (20, 40, 60)
    """

    def __init__(self, first_s: float, last_s: float) -> None:
        self._first_s = self._wait_s = first_s
        self.last_s = last_s

    def next_s(self) -> float:
        """Seconds to wait now."""
        wait_s, self._wait_s = self._wait_s, min(self._wait_s * 2, self.last_s)
        return wait_s

    def reset(self) -> None:
        """All is well again: the next wait is the first."""
        self._wait_s = self._first_s


def give_back(gpu: Gpu) -> None:
    """Give the fans of `gpu` to the driver, and make sure by reading back, twice if need be.

    Raises GpuError, GpuLost or NoPermission.
    """
    try:
        gpu.release()
        if not _manual_fans(gpu.read()):
            return
    except GpuLost:
        raise
    except GpuError:
        pass  # once more before giving up
    gpu.release()
    if still_manual := _manual_fans(gpu.read()):
        raise GpuError(f"fan {still_manual[0]} is still in manual mode after it was given back")


def _manual_fans(reading: Reading) -> list[int]:
    return [number for number, fan in enumerate(reading.fans) if fan.manual]


class Worker:
    """Keeps one card. `state` is what the last tick came to; it may be read from any thread."""

    def __init__(
        self,
        gpu: Gpu,
        settings_for: SettingsFor,
        *,
        dry_run: bool = False,
        learnt: Learnt | None = None,
    ) -> None:
        """`learnt` is what an earlier run learnt of the card."""
        self.gpu = gpu
        self._settings_for = self._followed = settings_for
        self._dry_run = dry_run
        self._info: GpuInfo | None = None
        self._controller: Controller
        self._learnt = learnt
        self.box: Sequence[Worker] = ()
        """The workers of all cards of the box, where cards may have neighbours."""
        self._neighbours: list[Worker] = []
        self._permitted = False
        self._proven = False
        """Whether fans were once found as they were set, after the time to settle."""
        self._stopped = False
        self._set: int | None = _NEVER
        self._settled_at_s = math.inf
        self._failures = 0
        self._overrides = 0
        self._errors = Errors()
        self._last_s = math.inf
        self._throttled_s = 0.0
        self._fail_safe_s = 0.0
        self._settings = ""
        self._trouble = ("", "")
        """Why fans were given back, and what comes next."""
        self._owed: str | None = None
        """Why fans that were to be given back are still ours; None where they are not."""
        self._wait_until_s = -math.inf
        self._wait_lost = Backoff(1, 60)
        self._wait_given_back = Backoff(5, 60)
        self.state = self._state("driver", None, "start", "not read yet")

    def tick(self, now_s: float, *, assert_anew: bool = False) -> None:
        """Do what is due at `now_s`; `assert_anew` sets the fans again whatever was set before.

        Raises NoPermission if the very first set is refused for that, and whatever is a fault of our own.
        """
        self._count_time(now_s)
        if assert_anew:
            self._wait_until_s = -math.inf
        waiting = now_s < self._wait_until_s
        if waiting and self.state.control == "lost":
            return
        try:
            reading = (self.gpu.observe if self._dry_run else self.gpu.read)()
            if reading.temperature_c is None:
                self._count_error("unreadable")
            self._wait_lost.reset()
            self._keep_up()
            self._act(now_s, reading, waiting, assert_anew)
        except GpuLost as error:
            self._lose(now_s, error)

    def follow(self, settings_for: SettingsFor) -> None:
        """Go by other settings from the next tick on, with the fans in hand. May be called from any thread."""
        self._settings_for = settings_for

    @property
    def learnt(self) -> Learnt | None:
        """What is known of the card, if a target was ever held. May be asked from any thread."""
        return self._learnt if self._info is None else self._controller.learnt

    @property
    def own_percent(self) -> int | None:
        """The duty that the card calls for by itself; None where its fans are not ours. From any thread."""
        return None if self.state.duty_percent is None else self._controller.own_percent

    @property
    def overwhelmed(self) -> bool:
        """Whether full fans leave the card too hot, so that all others are to help. From any thread."""
        return self.state.control == "ours" and self._controller.overwhelmed

    def stop(self) -> None:
        """Give the fans back, and set them no more. Raises GpuError, GpuLost or NoPermission."""
        # A tick that has hung may come back in its own thread while this runs in another.
        self._stopped = True
        if self._dry_run or self.gpu.info.uncontrollable_reason is not None:
            return
        try:
            give_back(self.gpu)
        except NoPermission:
            if self._permitted:
                raise
            # Whoever may not set fans has none to give back.

    def _keep_up(self) -> None:
        """Start afresh with a card that was found, or found again; take on new settings in passing."""
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
        self._settings = str(settings)
        self._neighbours = [
            worker
            for worker in self.box
            if worker is not self and any(matches(worker.gpu.info, str(name)) for name in settings.neighbours)
        ]

    def _act(self, now_s: float, reading: Reading, waiting: bool, assert_anew: bool) -> None:
        assert self._info is not None
        speed_percent = next((fan.speed_percent for fan in reading.fans if fan.speed_percent is not None), None)
        # A card that once could not do without help may breathe this one's air, listed or not.
        others = (worker for worker in self.box if worker is not self and worker not in self._neighbours)
        self._neighbours += [worker for worker in others if worker.overwhelmed]
        # One that is lost, given back or hung says nothing of the heat any more.
        neighbours = [
            own
            for worker in self._neighbours
            if now_s - worker._last_s <= _SILENT_S and (own := worker.own_percent) is not None
        ]
        decision = self._controller.decide(now_s, reading.temperature_c, reading.power_w, speed_percent, neighbours)
        if self._dry_run:
            self.state = self._state("driver", *decision, reading)
            return
        if self._info.uncontrollable_reason is not None:
            self.state = self._state("driver", None, "obstacle", self._info.uncontrollable_reason, reading)
            return
        if waiting:
            if self._owed is not None:
                self._owed = self._release()
            self._report_released(reading)
            return

        problem = self._mismatch(now_s, reading)
        if problem is not None:
            self._overrides += 1
        if problem is not None or assert_anew or decision.duty_percent != self._set:
            problem = self._write(now_s, decision.duty_percent) or problem
        elif self._set is not None and now_s >= self._settled_at_s:
            self._proven = True
        self._failures = self._failures + 1 if problem else 0
        if self._failures >= FAILURES:
            self._give_up(now_s, reading, problem or "")
            return
        if now_s > self._wait_until_s + self._wait_given_back.last_s:
            self._wait_given_back.reset()
        reason = (
            f"{decision.reason}; set again: {problem}" if problem else self._remark(now_s, decision.reason, reading)
        )
        control = "driver" if decision.duty_percent is None else "ours"
        self.state = self._state(control, decision.duty_percent, decision.kind, reason, reading)

    def _write(self, now_s: float, duty_percent: int | None) -> str | None:
        """Set the fans, or leave them to the driver; what went wrong, in words. Raises GpuLost or NoPermission."""
        if self._stopped:
            return None
        # Small changes leave the fan no less time: one that is jammed must not hide behind a duty that never rests.
        before = self._set
        resettles = before in (None, _NEVER) or duty_percent is None or abs(duty_percent - before) > SETTLE_TOLERANCE
        self._set = _NEVER
        try:
            if duty_percent is None:
                self.gpu.release()
            else:
                self.gpu.set_duty(duty_percent)
        except GpuLost:
            raise
        except (GpuError, NoPermission) as error:
            if isinstance(error, NoPermission) and not self._permitted:
                raise
            self._count_error("refused")
            return str(error)
        self._permitted = True
        self._set = duty_percent
        if resettles:
            self._settled_at_s = now_s + SETTLE_S
        return None

    def _mismatch(self, now_s: float, reading: Reading) -> str | None:
        """What was read back that is not as it was set."""
        if self._set == _NEVER:
            return None
        for number, fan in enumerate(reading.fans):
            if self._set is None:
                if fan.manual:
                    return f"fan {number} was taken from the driver by something else"
                continue
            if fan.manual is False:
                return f"fan {number} was given back to the driver by something else"
            if fan.target_percent is not None and abs(fan.target_percent - self._set) > TARGET_TOLERANCE:
                return f"fan {number} has a target of {fan.target_percent} % instead of {self._set} %"
            if (
                now_s >= self._settled_at_s
                and fan.speed_percent is not None
                and fan.speed_percent < self._set - SETTLE_TOLERANCE
            ):
                return f"fan {number} runs at {fan.speed_percent} %, {SETTLE_S:g} s after it was set to {self._set} %"
        return None

    def _remark(self, now_s: float, reason: str, reading: Reading) -> str:
        """The reason, and that the driver runs a fan faster than it was told, if it does."""
        if self._set is None or now_s < self._settled_at_s:
            return reason
        for number, fan in enumerate(reading.fans):
            if fan.speed_percent is not None and fan.speed_percent > self._set + SETTLE_TOLERANCE:
                return f"{reason}; the driver runs fan {number} at {fan.speed_percent} %"
        return reason

    def _give_up(self, now_s: float, reading: Reading, problem: str) -> None:
        """Let the driver have fans that do not obey, for a while."""
        self._owed = self._release()
        # What has moved the fans once can do so again; the trouble then is another's, or passes.
        result = FallBack(switched=False) if self._proven else self.gpu.fall_back(problem)
        if result.switched:
            self._start_over(now_s)
            self._wait_given_back.reset()
            self.state = self._state("released", None, "fault", f"{problem}; trying another way", reading)
            return
        x_trouble = f"over X neither: {result.x_error}" if result.x_error else ""
        wait_s = self._wait_given_back.next_s()
        self._start_over(now_s + wait_s)
        self._trouble = problem, "; ".join(filter(None, (x_trouble, f"trying again after {wait_s:g} s")))
        self._report_released(reading)

    def _release(self) -> str | None:
        """Give the fans back; why that failed, if it did. Raises GpuLost."""
        try:
            give_back(self.gpu)
        except GpuLost:
            raise
        except (GpuError, NoPermission) as error:
            self._count_error("not_given_back")
            return str(error)
        return None

    def _report_released(self, reading: Reading) -> None:
        problem, prospect = self._trouble
        if self._owed is None:
            reason = f"given back to the driver: {problem}; {prospect}"
        else:
            reason = f"out of control: {problem}, and giving back failed: {self._owed}; {prospect}"
        self.state = self._state("released", None, "fault", reason, reading)

    def _lose(self, now_s: float, error: GpuLost) -> None:
        if self.state.control == "ours":
            # Perhaps only its readings are lost, and then the driver had better have the fans.
            with suppress(GpuError, NoPermission):
                self.gpu.release()
        wait_s = self._wait_lost.next_s()
        self._start_over(now_s + wait_s)
        self._count_error("lost")
        self.state = self._state("lost", None, "lost", f"{error}; asking again after {wait_s:g} s")

    def _start_over(self, wait_until_s: float) -> None:
        """Nothing is known of the fans until `wait_until_s`, when all begins anew."""
        self._wait_until_s = wait_until_s
        self._failures = 0
        self._set = _NEVER
        if self._info is not None:
            self._controller.forget()

    def _count_error(self, kind: str) -> None:
        self._errors = msgspec.structs.replace(self._errors, **{kind: getattr(self._errors, kind) + 1})

    def _count_time(self, now_s: float) -> None:
        """The state of the last tick has lasted until `now_s`."""
        elapsed_s, self._last_s = now_s - self._last_s, now_s
        if 0 < elapsed_s <= _GAP_S:
            self._fail_safe_s += elapsed_s * (self.state.kind == "fail-safe")
            self._throttled_s += elapsed_s * (self.state.throttle == "heat")

    def _state(
        self, control: str, duty_percent: int | None, kind: str, reason: str, reading: Reading | None = None
    ) -> GpuState:
        info = self.gpu.info
        return GpuState(
            uuid=info.uuid,
            pci=info.pci,
            index=info.index,
            label=info.label,
            backend=info.backend,
            backend_reason=info.backend_reason,
            control=control,
            temperature_c=None if reading is None else reading.temperature_c,
            power_w=None if reading is None else reading.power_w,
            duty_percent=duty_percent,
            fans=() if reading is None else reading.fans,
            kind=kind,
            reason=reason,
            overrides=self._overrides,
            errors=sum(msgspec.structs.astuple(self._errors)),
            name=info.name,
            slowdown_c=info.slowdown_c,
            settings=self._settings,
            throttle=None if reading is None else reading.throttle,
            throttled_s=round(self._throttled_s, 3),
            fail_safe_s=round(self._fail_safe_s, 3),
            errors_by_kind=self._errors,
        )
