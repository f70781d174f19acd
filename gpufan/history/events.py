"""Detects the events of the history by comparing each snapshot with the previous one. It uses no file and no clock."""

from dataclasses import dataclass
from enum import Enum

from gpufan.core.gpu import Throttle
from gpufan.core.reasons import Cause, Group
from gpufan.core.sentences import h_mm_ss, limits_in_words, sentence_about, settings_sentence, state_sentence
from gpufan.core.snapshot import GpuState, Snapshot


class EventKind(str, Enum):
    """Kinds of events. The values are stored in the database, so they must not change."""

    FAIL_SAFE = "fail-safe"
    FAULT = "fault"
    FAN_STILL = "fan-still"
    FAN_SLOW = "fan-slow"
    LOST = "lost"
    HANG = "hang"
    THROTTLED = "throttled"
    """Heat lowered the clocks of the card."""
    GIVING_WAY = "giving-way"
    """The card lowered its clocks to stay under the limits that gpufan sets when the fans may not go higher."""
    OVERRIDE = "override"
    """The fan speed that was read back differed from the duty that gpufan had set."""
    ERROR = "error"
    CONTROL = "control"
    """Control of the fans changed, without a fault."""
    SETTINGS = "settings"
    RESTART = "restart"
    RELOAD = "reload"
    """A reload of the settings was refused."""
    CLOCK = "clock"
    """The wall clock was set."""
    GAP = "gap"
    """There are no readings."""


TROUBLES = {
    Group.FAIL_SAFE: EventKind.FAIL_SAFE,
    Group.FAULT: EventKind.FAULT,
    Group.LOST: EventKind.LOST,
    Group.HANG: EventKind.HANG,
}
"""The groups of causes that are a trouble, each with the kind of its event.

The event lasts as long as the cause of the duty belongs to the group.
"""

FAN_FAULTS = {Cause.FAN_STILL: EventKind.FAN_STILL, Cause.FAN_SLOW: EventKind.FAN_SLOW}
"""The faults that a fan can have while gpufan controls it, each with the kind of its event."""

_LASTING = (*TROUBLES.values(), *FAN_FAULTS.values(), EventKind.THROTTLED, EventKind.GIVING_WAY)
"""The kinds of events that last as long as a state of the card."""

MERGE_WITHIN_S = 90.0
"""Two overrides of one card become one event if at most this time (s) is between them. The event counts them.

The same applies to two errors of one card. The time is longer than the 60 s after which gpufan tries a lost card again.
"""

_MAX_TEXT = 300
"""The text of an event has at most this many characters. The end of a longer text is cut off."""


@dataclass
class Event:
    """An event that happened once, several times, or for a while."""

    begin_s: float
    """Seconds since the epoch."""
    uuid: str
    """`GpuState.key` of the card, which is its UUID if that is known. Empty if the event concerns all cards."""
    kind: EventKind
    end_s: float
    """Seconds since the epoch; `begin_s` if the event has no duration."""
    text: str
    count: int = 1

    @property
    def duration_text(self) -> str:
        """How long or how often the event happened: `for 0:04:10`, `3x in 0:01:00`.

        The text is empty for a single event without duration.
        """
        seconds = self.end_s - self.begin_s
        if self.count > 1:
            return f"{self.count}x in {h_mm_ss(seconds)}" if seconds >= 1 else f"{self.count}x"
        return f"for {h_mm_ss(seconds)}" if seconds >= 1 else ""

    @property
    def summary(self) -> str:
        """The event in one line: `fail-safe for 0:04:10: no temperature`, `override 3x in 0:01:00: ...`."""
        return f"{self.kind.value} {self.duration_text}".rstrip() + f": {self.text}"


class EventDetector:
    """Detects events by comparing each snapshot with the previous one."""

    def __init__(self) -> None:
        self.changed: dict[tuple[float, str, EventKind], Event] = {}
        """The new and changed events, by beginning, `Event.uuid` and kind.

        After each write, `HistoryRecorder` removes the written events.
        """
        self._last: Snapshot | None = None
        self._open: dict[tuple[str, EventKind], Event] = {}
        """The events that can still change, by `Event.uuid` and kind."""
        self._held_back_j: dict[str, float] = {}
        """`GpuState.held_back_j` of each card when its clocks last began to give way, J. The key is `GpuState.key`."""

    def add(self, snapshot: Snapshot) -> None:
        """Compare `snapshot` with the previous snapshot, and add the events found to `changed`."""
        last, self._last = self._last, snapshot
        self._open.pop(("", EventKind.GAP), None)
        before: dict[str, GpuState] = {}
        restarted = False
        if last is not None:
            before = {gpu.key: gpu for gpu in last.states}
            restarted = snapshot.pid != last.pid
            self._compare_runs(last, snapshot, restarted)
        for gpu in snapshot.states:
            self._check_state(gpu, snapshot.time_s)
            if gpu.key in before:
                self._compare_cards(before[gpu.key], gpu, snapshot.time_s, restarted)

    def add_gap(self, begin_s: float, now_s: float, text: str) -> None:
        """Add a gap from `begin_s` to `now_s`, or extend the open gap. `text` says why there is no snapshot."""
        self._extend("", EventKind.GAP, begin_s, now_s, text)

    def _compare_runs(self, last: Snapshot, snapshot: Snapshot, restarted: bool) -> None:
        """Add the events that concern all cards: a restart of gpufan, a step of the wall clock, refused settings.

        `last` is the previous snapshot. `restarted` says whether another process of gpufan wrote it.
        """
        now_s = snapshot.time_s
        if restarted:
            self._add("", EventKind.RESTART, now_s, f"gpufan {snapshot.version} started, process {snapshot.pid}")
        elif snapshot.clock_steps > last.clock_steps:
            direction = "back" if snapshot.clock_step_s < 0 else "forward"
            self._add(
                "", EventKind.CLOCK, now_s, f"the clock was set {direction} by {abs(snapshot.clock_step_s):.0f} s"
            )
        if (trouble := settings_sentence(snapshot)) not in (None, settings_sentence(last)):
            self._add("", EventKind.RELOAD, now_s, str(trouble))

    def _check_state(self, gpu: GpuState, now_s: float) -> None:
        """Begin, extend or end the events of the card `gpu` that last as long as a state of the card."""
        active: dict[EventKind, str] = {}
        if gpu.reason.cause.group in TROUBLES:
            active[TROUBLES[gpu.reason.cause.group]] = state_sentence(gpu)
        if gpu.fault is not None and gpu.fault.cause in FAN_FAULTS:
            active[FAN_FAULTS[gpu.fault.cause]] = sentence_about(gpu, gpu.fault)
        if gpu.throttle == Throttle.HEAT.value:
            active[EventKind.THROTTLED] = "heat has lowered the clocks"
        if gpu.gives_way:
            active[EventKind.GIVING_WAY] = self._giving_way_text(gpu)
        for kind in _LASTING:
            if kind in active:
                self._extend(gpu.key, kind, now_s, now_s, active[kind])
                if kind is EventKind.GIVING_WAY:
                    self._open[gpu.key, kind].text = active[kind]
            else:
                self._open.pop((gpu.key, kind), None)

    def _giving_way_text(self, gpu: GpuState) -> str:
        """Return a text with the present limits of the card, and with the energy that they have held back (Wh).

        The energy counts from the time when the clocks of the card began to give way.
        """
        total_j = gpu.held_back_j or 0.0
        if (gpu.key, EventKind.GIVING_WAY) not in self._open:
            self._held_back_j[gpu.key] = total_j
        held_back_wh = max(total_j - self._held_back_j[gpu.key], 0.0) / 3600
        return f"{limits_in_words(gpu) or 'the clocks give way'}, {held_back_wh:.0f} Wh in total"

    def _compare_cards(self, last: GpuState, gpu: GpuState, now_s: float, restarted: bool) -> None:
        """Add the events of a card: changes of settings and control, overrides, errors.

        `last` is the state of the card in the previous snapshot. `restarted` says whether another process of gpufan
        wrote that snapshot.
        """
        if gpu.settings != last.settings:
            self._add(gpu.key, EventKind.SETTINGS, now_s, f"{last.settings} -> {gpu.settings}")
        # Starts and troubles imply a change of control.
        groups = {last.reason.cause.group, gpu.reason.cause.group}
        if gpu.control is not last.control and not groups & {*TROUBLES, Group.START}:
            text = f"{last.control.value} -> {gpu.control.value}: {state_sentence(gpu)}"
            self._add(gpu.key, EventKind.CONTROL, now_s, text)
        # The counters of a new process begin at 0.
        overrides = gpu.overrides - (0 if restarted else last.overrides)
        errors = gpu.errors - (0 if restarted else last.errors)
        if overrides > 0:
            text = sentence_about(gpu, gpu.fault or gpu.reason)
            self._extend(gpu.key, EventKind.OVERRIDE, now_s, now_s, text, times=overrides)
        if errors > 0:
            self._extend(gpu.key, EventKind.ERROR, now_s, now_s, state_sentence(gpu), times=errors)

    def _add(self, uuid: str, kind: EventKind, now_s: float, text: str) -> None:
        """Add an event without duration. `uuid` is the value for `Event.uuid`."""
        self.changed[now_s, uuid, kind] = Event(now_s, uuid, kind, now_s, text[:_MAX_TEXT])

    def _extend(self, uuid: str, kind: EventKind, begin_s: float, now_s: float, text: str, *, times: int = 0) -> None:
        """Extend the open event of this card and kind to `now_s`, and add `times` to the count of the event.

        If no event is open, a new event begins at `begin_s` with the text `text`. `times` is above 0 for overrides and
        errors. For them a new event also begins if the open event ended more than `MERGE_WITHIN_S` ago.
        """
        event = self._open.get((uuid, kind))
        if event is None or (times and abs(now_s - event.end_s) > MERGE_WITHIN_S):
            event = self._open[uuid, kind] = Event(begin_s, uuid, kind, begin_s, text[:_MAX_TEXT], count=0)
        event.count = max(event.count + times, 1)
        event.end_s = max(event.end_s, now_s)  # the clock may have been set back
        self.changed[event.begin_s, uuid, kind] = event
