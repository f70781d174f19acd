"""What is worth a line in a week's history: found by comparing each snapshot with the one before. Pure of files."""

from dataclasses import dataclass

from gpufan.core.sentences import reason_sentence, refused_settings, state_sentence
from gpufan.core.snapshot import GpuState, Snapshot

TROUBLES = ("fail-safe", "fault", "lost", "hang")
"""Kinds of a card's state that are told as an event that lasts, from its first tick to its last."""

TOGETHER_S = 90.0
"""Overrides and errors of one card that are no further apart than this, s, are told as one event with a count. A lost
card is asked again after 60 s at the latest."""

_LONGEST_TEXT = 300
"""Characters of a reason that are kept."""


@dataclass
class Event:
    """Something that happened, once or several times, or for a while."""

    begin_s: float
    """Seconds since the epoch."""
    uuid: str
    """Of the card; empty where it concerns all."""
    kind: str
    """One of `TROUBLES`, or `throttled`, `override`, `error`, `control`, `settings`, `restart`, `reload`, `clock`,
    `gap`."""
    end_s: float
    text: str
    count: int = 1


class Watcher:
    """Compares snapshots as they come; `take` hands over what is new."""

    def __init__(self) -> None:
        self._last: Snapshot | None = None
        self._under_way: dict[tuple[str, str], Event] = {}
        self._changed: dict[tuple[float, str, str], Event] = {}

    def see(self, snapshot: Snapshot) -> None:
        """Take the next snapshot."""
        last, self._last = self._last, snapshot
        self._end("", "gap")
        if last is None:
            before: dict[str, GpuState] = {}
        else:
            before = {gpu.uuid: gpu for gpu in last.gpus}
            self._compare(last, snapshot)
        restarted = last is not None and last.pid != snapshot.pid
        for gpu in snapshot.gpus:
            self._see_card(before.get(gpu.uuid), gpu, snapshot.time_s, restarted)

    def miss(self, begin_s: float, now_s: float, text: str) -> None:
        """There has been no snapshot since `begin_s`; `text` says why."""
        self._last_for("", "gap", begin_s, text, now_s)

    def take(self) -> list[Event]:
        """What began or went on since the last time; what goes on comes again, with the same beginning."""
        events, self._changed = list(self._changed.values()), {}
        return events

    def _compare(self, last: Snapshot, snapshot: Snapshot) -> None:
        now_s = snapshot.time_s
        if snapshot.pid != last.pid:
            self._happen("", "restart", now_s, f"gpufan {snapshot.version} started, process {snapshot.pid}")
        elif snapshot.clock_steps > last.clock_steps:
            way = "back" if snapshot.clock_step_s < 0 else "forward"
            self._happen("", "clock", now_s, f"the clock was set {way} by {abs(snapshot.clock_step_s):.0f} s")
        if snapshot.reload_refused not in (None, last.reload_refused):
            self._happen("", "reload", now_s, refused_settings(snapshot.reload_refused))

    def _see_card(self, last: GpuState | None, gpu: GpuState, now_s: float, restarted: bool) -> None:
        group = gpu.reason.cause.group
        for kind in TROUBLES:
            self._last_while(group.value == kind, gpu, kind, now_s, state_sentence(gpu))
        self._last_while(gpu.throttle == "heat", gpu, "throttled", now_s, "heat has lowered the clocks")
        if last is None:
            return
        if gpu.settings != last.settings:
            self._happen(gpu.uuid, "settings", now_s, f"{last.settings} -> {gpu.settings}")
        if gpu.control is not last.control and not {group.value, last.reason.cause.group.value} & {*TROUBLES, "start"}:
            text = f"{last.control.value} -> {gpu.control.value}: {state_sentence(gpu)}"
            self._happen(gpu.uuid, "control", now_s, text)
        # The counters of a new process begin at 0.
        overrides = gpu.overrides - (0 if restarted else last.overrides)
        errors = gpu.errors - (0 if restarted else last.errors)
        if overrides > 0:
            self._count(gpu.uuid, "override", now_s, overrides, reason_sentence(gpu.fault or gpu.reason))
        if errors > 0:
            self._count(gpu.uuid, "error", now_s, errors, state_sentence(gpu))

    def _last_while(self, true: bool, gpu: GpuState, kind: str, now_s: float, text: str) -> None:
        if true:
            self._last_for(gpu.uuid, kind, now_s, text, now_s)
        else:
            self._end(gpu.uuid, kind)

    def _last_for(self, uuid: str, kind: str, begin_s: float, text: str, now_s: float) -> None:
        """Begin an event, or let the one under way go on until now."""
        event = self._under_way.get((uuid, kind))
        if event is None:
            event = self._begin(uuid, kind, begin_s, text)
        # The clock may have been set back.
        event.end_s = max(event.end_s, now_s)
        self._put(event)

    def _count(self, uuid: str, kind: str, now_s: float, times: int, text: str) -> None:
        event = self._under_way.get((uuid, kind))
        if event is None or abs(now_s - event.end_s) > TOGETHER_S:
            event = self._begin(uuid, kind, now_s, text)
            event.count = 0
        event.end_s = max(event.end_s, now_s)
        event.count += times
        self._put(event)

    def _happen(self, uuid: str, kind: str, now_s: float, text: str) -> None:
        self._put(Event(now_s, uuid, kind, now_s, text[:_LONGEST_TEXT]))

    def _begin(self, uuid: str, kind: str, begin_s: float, text: str) -> Event:
        event = self._under_way[uuid, kind] = Event(begin_s, uuid, kind, begin_s, text[:_LONGEST_TEXT])
        return event

    def _end(self, uuid: str, kind: str) -> None:
        self._under_way.pop((uuid, kind), None)

    def _put(self, event: Event) -> None:
        self._changed[event.begin_s, event.uuid, event.kind] = event
