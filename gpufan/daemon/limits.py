"""Sets the power limit and the temperature limit of one card, reads them back, and restores the earlier limits.

A limit that another program has set is left alone. An error with a limit never disturbs the control of the fans. The
error is logged, and the limit is set again later.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

import msgspec

from gpufan.control.controller import Controller
from gpufan.control.give_way import GiveWay
from gpufan.core.card_settings import CardSettings
from gpufan.core.gpu import Gpu, Limits, Reading, Throttle
from gpufan.daemon.held_back import HeldBack
from gpufan.daemon.taken import ChangedLimit, Taken, is_same_taken_limit
from gpufan.errors import GpuError, GpufanError, GpuLost

LOOK_EVERY_S = 10.0
"""Interval between two searches for limits that another program has changed, s."""

RETRY_S = 60.0
"""A limit that could not be set is tried again after this time, s."""

_STEERED_S = 12.0
"""After a limit is set, the power of the card needs this long to settle, s."""

_AT_LIMIT_K = 3.0
"""A card counts as at its temperature limit if its temperature differs from the limit by at most this, K."""

_TEXTS = {"power_w": "power limit of {:g} W", "temperature_c": "temperature limit of {:g} °C"}
"""The text for a limit in log lines, by field of `Limits`."""

_log = logging.getLogger(__name__)


class CardLimits:
    """Sets the limits of one card, and gives them back. A limit that is given back has its value before gpufan."""

    def __init__(self, gpu: Gpu, taken: Taken | None) -> None:
        """`taken` writes a limit into the record before the limit is changed. It is None if no record is written."""
        self._gpu = gpu
        self._taken = taken
        self._changed: dict[str, ChangedLimit] = {}
        """The limits that gpufan has set and not given back, by field of `Limits`."""
        self._unsure: set[str] = set()
        """The names of limits that may have an unexpected value although no other program has changed them.

        This is so after an error, and after the driver was unloaded. A name is a field of `Limits`.
        """
        self._being_set = ""
        """The name of the limit that a call is setting now. The call may hang."""
        self._now = Limits()
        """The limits of the card when they were last read."""
        self._look_at_s = -math.inf
        self._retry_at_s: dict[str, float] = {}
        """When a limit may be set again, by field of `Limits`. Infinity if another program has set the limit."""
        self._errors: dict[str, str] = {}
        """Why a limit could not be set or given back, by field of `Limits`."""
        self._settings: CardSettings | None = None
        self._give_way = GiveWay()
        self._steered_s = -math.inf
        self._held_back = HeldBack()

    def follow(self, now_s: float, settings: CardSettings, controller: Controller, reading: Reading) -> None:
        """Set the limits that `settings` demand at `now_s`. An error of the card is not raised: the fans matter more.

        `reading` is the last reading of the card. `controller` has already decided on this reading.
        """
        if settings is not self._settings:
            self._settings = settings
            self._retry_at_s.clear()
            self._errors.clear()
            self._give_way.by_temperature = True
        try:
            if self._is_idle(settings):
                self._give_way = GiveWay()
            else:
                if now_s >= self._look_at_s:
                    self._look(now_s)
                limits = self._wanted(now_s, settings, controller, reading)
                for name, value in limits._asdict().items():
                    self._follow(now_s, name, value)
        except GpuLost:
            self.forget()  # the next reading of the card finds out whether it is lost
        before = self._changed.get("power_w")
        before_w = (self._now.power_w or 0.0) if before is None else before.before
        self._held_back.add(now_s, reading, self._in_effect("power_w"), before_w, self._in_effect("temperature_c"))

    def power_is_steered(self, now_s: float, temperature_c: float | None) -> bool:
        """Whether a limit that gpufan has set changes the power of the card at `now_s`.

        This is so for `_STEERED_S` after a limit was set, and while the card is at its temperature limit.
        """
        limit_c = self._in_effect("temperature_c")
        is_held = limit_c is not None and temperature_c is not None and abs(temperature_c - limit_c) <= _AT_LIMIT_K
        return is_held or now_s - self._steered_s < _STEERED_S

    def judged(self, reading: Reading) -> Reading:
        """Return `reading`, corrected if the card is at a temperature limit that gpufan has set.

        The driver then reports HEAT as the reason for lower clocks. GIVING_WAY replaces it.
        """
        limit_c, temperature_c = self._in_effect("temperature_c"), reading.temperature_c
        if reading.throttle is not Throttle.HEAT or limit_c is None or temperature_c is None:
            return reading
        is_ours = abs(temperature_c - limit_c) <= _AT_LIMIT_K
        return msgspec.structs.replace(reading, throttle=Throttle.GIVING_WAY) if is_ours else reading

    @property
    def at_rest(self) -> bool:
        """Whether the limits stay the same as long as the temperature stays the same."""
        return self._settings is None or self._settings.give_way == "off"

    @property
    def state(self) -> dict[str, Any]:
        """What the state of the card says about limits: the values of fields of `GpuState`, by name of the field."""
        chosen = {"power_w": self._give_way.limit_w, "temperature_c": self._give_way.limit_c}
        power_limit_w = self._in_effect("power_w")
        return {
            "power_limit_w": power_limit_w,
            "power_limit_before_w": None if power_limit_w is None else self._changed["power_w"].before,
            "temperature_limit_c": self._in_effect("temperature_c"),
            "gives_way": any(name in self._changed and limit is not None for name, limit in chosen.items()),
            "held_back_w": round(self._held_back.now_w, 1) if self._changed else None,
            "held_back_j": round(self._held_back.total_j, 1),
            "limits_error": "; ".join(self._errors.values()),
        }

    def forget(self) -> None:
        """Make the next `follow` set every limit again, since the driver may have changed the limits."""
        self._unsure = set(self._changed)

    def give_back(self) -> None:
        """Set every limit to its value before gpufan, and read it back. Raises GpuLost.

        Other errors are logged, and stored in `state`.
        """
        self._settings, self._give_way = None, GiveWay()
        self._errors.clear()
        if self._taken is not None and self._taken.limits_left_over(self._gpu.info.uuid):
            self._look(-math.inf)
        for name in tuple(self._changed):
            try:
                self._put_back(name)
            except GpuLost:
                raise
            except GpufanError as error:
                self._fail(math.inf, name, error)

    @property
    def given_back(self) -> bool:
        """Whether no limit has a value from gpufan: none was changed, or all were given back."""
        return not self._changed

    def require_given_back(self) -> None:
        """Raise GpuError if a limit could not be given back."""
        if not self.given_back:
            raise GpuError(f"limits not given back: {'; '.join(self._errors.values())}")

    def _is_idle(self, settings: CardSettings) -> bool:
        """Whether there is no limit to set, and no limit to give back."""
        if settings.power_limit_w is not None or settings.give_way != "off" or self._changed:
            return False
        return self._taken is None or not self._taken.limits_left_over(self._gpu.info.uuid)

    def _look(self, now_s: float) -> None:
        """Read the limits. If another program has changed a limit, leave it alone from now on. Raises GpuLost."""
        self._now = self._gpu.read_limits()
        if self._taken is not None:
            self._adopt(self._taken.limits_left_over(self._gpu.info.uuid))
        self._look_at_s = now_s + LOOK_EVERY_S
        for name in tuple(self._changed):
            found = getattr(self._now, name)
            if found is not None and self._is_foreign(name, found):
                self._leave_alone(name, found)

    def _adopt(self, left_over: Sequence[ChangedLimit]) -> None:
        """Treat the limits `left_over` as limits of this run. An earlier run has changed them and not given them back.

        A limit that cannot be read now is included. A limit that another program has changed since then is left out.
        """
        for change in left_over:
            found = getattr(self._now, change.name, None)
            if change.name in _TEXTS and (found is None or change.has_set(found)):
                self._changed[change.name] = change
                self._unsure.add(change.name)
        if left_over:
            self._record()

    def _wanted(self, now_s: float, settings: CardSettings, controller: Controller, reading: Reading) -> Limits:
        """Return the limits that the card should have. None stands for the value of a limit before gpufan.

        `controller` has already decided on `reading`.
        """
        range_w, range_c = self._gpu.info.power_range_w, self._gpu.info.temperature_limit_range_c
        limit_w = settings.power_limit_w
        if limit_w is not None and range_w is not None:
            limit_w = min(max(limit_w, range_w[0]), range_w[1])
        if settings.give_way == "off":
            self._give_way = GiveWay()
            return Limits(limit_w)
        before = self._changed.get("power_w")
        highest_w = limit_w or (self._now.power_w if before is None else before.before)
        choice_w = (range_w[0], highest_w) if range_w is not None and highest_w and highest_w > range_w[0] else None
        if range_w is None and range_c is None:
            self._fail(now_s, "power_w", GpuError("the driver does not let it be set"))
        give_way = Limits(self._give_way.limit_w, self._give_way.limit_c)
        if reading.temperature_c is not None and not controller.in_doubt:
            give_way = self._give_way.decide(
                now_s,
                reading.temperature_c,
                highest_w or 0.0 if reading.power_w is None else reading.power_w,
                controller.clocks_aim_c,
                choice_w,
                range_c,
                fans_at_limit=controller.fans_at_limit,
            )
        return Limits(limit_w if give_way.power_w is None else give_way.power_w, give_way.temperature_c)

    def _follow(self, now_s: float, name: str, value: float | None) -> None:
        """Set the limit `name` to `value`. If `value` is None, give the limit back. Raises GpuLost.

        Any other error is logged. Nothing happens if the limit has the value, or must not be tried again yet.
        """
        is_done = self._value(name) == value and name not in self._unsure
        if is_done or now_s < self._retry_at_s.get(name, -math.inf):
            return
        try:
            if value is None:
                self._put_back(name)
            else:
                self._set(now_s, name, value)
            self._errors.pop(name, None)
        except GpuLost:
            raise
        except GpufanError as error:
            self._fail(now_s, name, error)

    def _set(self, now_s: float, name: str, value: float) -> None:
        """Set the limit `name` to `value`, and read it back. Raises GpufanError.

        The present value is recorded before. A limit that another program has set is left alone.
        """
        found, before = self._read(name), self._changed.get(name)
        if before is None and is_same_taken_limit(found, value):
            return  # it has this value without gpufan
        if self._is_foreign(name, found):
            self._leave_alone(name, found)
            return
        change = ChangedLimit(name, found if before is None else before.before, (found, value))
        changed = self._changed | {name: change}
        if self._taken is not None and not self._taken.record_limits(self._gpu.info, changed.values()):
            raise GpuError("it is not set, since the limit before it cannot be recorded")
        self._changed = changed
        self._unsure.add(name)
        self._being_set = name
        try:
            self._gpu.set_limits(Limits(**{name: value}))
        finally:
            self._being_set = ""
        self._read_back(name, value)
        self._steered_s = now_s

    def _put_back(self, name: str) -> None:
        """Set the limit `name` to its value before gpufan, and read it back. Raises GpufanError.

        A limit that another program has set is left alone.
        """
        if self._being_set == name:  # when that call returns, it may set the limit again
            raise GpuError("the call that sets it has not returned")
        change, found = self._changed[name], self._read(name)
        if self._is_foreign(name, found):
            self._leave_alone(name, found)
            return
        if not is_same_taken_limit(found, change.before):
            self._unsure.add(name)
            self._gpu.set_limits(Limits(**{name: change.before}))
            self._read_back(name, change.before)
        self._unsure.discard(name)
        self._changed.pop(name, None)  # a call that hung may return in another thread after that
        self._record()

    def _is_foreign(self, name: str, found: float) -> bool:
        """Whether another program has set the limit `name` to the value `found`."""
        change = self._changed.get(name)
        return change is not None and name not in self._unsure and not is_same_taken_limit(found, change.set[1])

    def _leave_alone(self, name: str, found: float) -> None:
        """Leave the limit `name` unchanged until the settings change. Another program has set it to `found`."""
        change = self._changed.pop(name)
        self._record()
        self._retry_at_s[name] = math.inf
        texts = _TEXTS[name].format(found), _TEXTS[name].format(change.set[1])
        _log.warning("%s: another program has set a %s in place of the %s: it stays", self._gpu.info.label, *texts)

    def _record(self) -> None:
        """Write all limits that gpufan has changed on this card into the record, if there is a record."""
        if self._taken is not None:
            self._taken.record_limits(self._gpu.info, self._changed.values())

    def _read(self, name: str) -> float:
        """Read the limit `name`, and return its value. Raises GpuLost.

        Raises GpuError if the card does not report the limit.
        """
        self._now = self._gpu.read_limits()
        value: float | None = getattr(self._now, name)
        if value is None:
            raise GpuError("the card does not report it")
        return value

    def _read_back(self, name: str, value: float) -> None:
        """Read the limit `name`, which was set to `value`. Raises GpuError or GpuLost.

        If the card reports another value, that value is recorded, and GpuError is raised.
        """
        if not is_same_taken_limit(found := self._read(name), value):
            self._changed[name] = msgspec.structs.replace(self._changed[name], set=(value, found))
            self._record()
            raise GpuError(f"{found:g} is read back after {value:g} was set")
        self._unsure.discard(name)

    def _fail(self, now_s: float, name: str, error: GpufanError) -> None:
        """Store and log `error`, which says why the limit `name` could not be set or given back.

        The limit is tried again `RETRY_S` after `now_s`.
        """
        self._retry_at_s[name] = now_s + RETRY_S
        if name == "temperature_c":
            self._give_way.by_temperature = False
        text = f"{name.split('_')[0]} limit: {error}"
        if self._errors.get(name) != text:
            _log.warning("%s: %s; the fans are controlled all the same", self._gpu.info.label, text)
        self._errors[name] = text

    def _value(self, name: str) -> float | None:
        """Return the value that gpufan has set for the limit `name`, or has tried to set; None if there is none."""
        change = self._changed.get(name)
        return None if change is None else change.set[1]

    def _in_effect(self, name: str) -> float | None:
        """Return the limit `name` as it was last read; None if gpufan has not changed it."""
        change, found = self._changed.get(name), getattr(self._now, name)
        return None if change is None or found is None or is_same_taken_limit(found, change.before) else found
