"""The present: reads each new snapshot, and makes the event `now` from it, with sentences for people.

A daemon that ends, hangs or returns is noticed here. The readings of the last ten minutes are stored for the plots.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from gpufan.core.reasons import Cause
from gpufan.core.sentences import settings_sentence
from gpufan.core.snapshot import Snapshot
from gpufan.daemon import snapshot_file
from gpufan.daemon.recording import Row
from gpufan.errors import GpufanError
from gpufan.system.own_command import with_own_command
from gpufan.system.processes import process_is_alive
from gpufan.web.card_words import now_card

POLL_S = 0.25
"""The time between two looks at the snapshot, s."""
REPEAT_S = 2.0
"""The event `now` is repeated after this time, s, even if nothing is new."""
RECENT_S = 600.0
"""The plots of the present cover this time, s."""
_STARTED_S = 60.0
"""The page mentions a start of gpufan for this time, s."""
_LATE_S = 2.5
"""The daemon publishes at least every 2 s, or once in each interval. It is late if it needs this much longer, s."""

_RECENT_COLUMNS = ("time_s", "temperature_c", "power_w", "duty_percent", "speed_percent", "rpm")


class DaemonState(str, Enum):
    """The state of the daemon, as the page reads it."""

    RUNNING = "running"
    STARTING = "starting"
    """It has not read any card yet."""
    HUNG = "hung"
    """It publishes nothing."""
    STOPPED = "stopped"


class Daemon(NamedTuple):
    """The state of the daemon, and what a person can do."""

    state: DaemonState
    text: str
    remedy: str = ""


class Moment(NamedTuple):
    """The result of one look at the snapshot file."""

    snapshot: Snapshot | None
    daemon: Daemon


class SnapshotWatch:
    """Looks at the snapshot file, and judges whether the daemon works."""

    def __init__(self, path: Path, why_stopped: Callable[[], str | None], clock: Callable[[], float]) -> None:
        """`why_stopped` returns why no gpufan runs, if it is known. `clock` returns seconds, like `time.monotonic`."""
        self._path = path
        self._why_stopped = why_stopped
        self._clock = clock
        self._last: Snapshot | None = None
        self._new_s = clock()
        """When the last new snapshot was found."""

    def look(self) -> Moment:
        """Read the snapshot, and judge the daemon. This never raises."""
        try:
            snapshot = snapshot_file.read_snapshot(self._path)
        except snapshot_file.NotRunning:
            self._last = None
            if why := self._why_stopped():
                return Moment(None, Daemon(DaemonState.STOPPED, why))
            remedy = "run `sudo systemctl start gpufan` if it is installed as a service, else `sudo gpufan run`"
            return Moment(None, Daemon(DaemonState.STOPPED, "no gpufan is running", remedy))
        except GpufanError as error:
            self._last = None
            return Moment(None, Daemon(DaemonState.STOPPED, str(error), "restart gpufan"))
        if self._last is None or snapshot.time_s != self._last.time_s or snapshot.pid != self._last.pid:
            self._last, self._new_s = snapshot, self._clock()
        return Moment(snapshot, self._judge(snapshot))

    def _judge(self, snapshot: Snapshot) -> Daemon:
        """Return the state of the daemon that wrote `snapshot`."""
        pid = snapshot.pid
        can_see = process_is_alive(1)  # the sandbox of the service, or an option of /proc, may hide other processes
        if can_see and snapshot_file.snapshot_writer_has_ended(snapshot):
            text = f"gpufan (process {pid}) ended without giving the fans back"
            return Daemon(DaemonState.STOPPED, text, "run `sudo gpufan restore`, then start gpufan again")
        silent_s = self._clock() - self._new_s
        if (stale_s := snapshot_file.snapshot_stale_s(snapshot)) is not None:
            silent_s = max(silent_s, stale_s)
            remedy = f"run `sudo kill -9 {pid}`, then `sudo gpufan restore`, and start gpufan again"
        else:
            remedy = "wait a moment; if this lasts, run `gpufan doctor`"
        if silent_s > max(2.0, snapshot.interval_s) + _LATE_S:
            if not can_see and (why := self._why_stopped()):
                return Daemon(DaemonState.STOPPED, why)
            text = f"gpufan (process {pid}) has published nothing for {silent_s:.0f} s: it hangs"
            return Daemon(DaemonState.HUNG, text, remedy)
        if all(gpu.reason.cause is Cause.START for gpu in snapshot.gpus):
            return Daemon(DaemonState.STARTING, "gpufan starts: no card has been read yet")
        if trouble := settings_sentence(snapshot):
            return Daemon(DaemonState.RUNNING, trouble, "run `gpufan config check`, and correct the settings file")
        text = f"gpufan {snapshot.version} runs{' (dry run)' if snapshot.dry_run else ''}"
        up_s = _STARTED_S if snapshot.started_s is None else snapshot.time_s - snapshot.started_s
        if 0 <= up_s < _STARTED_S and snapshot.simulated_s is None:
            text += f"; it started {up_s:.0f} s ago"
        return Daemon(DaemonState.RUNNING, text)


class Recent:
    """The readings of each card in the last ten minutes, as columns."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        """Begin with `rows` of the history, the oldest first."""
        self._cards: dict[str, deque[tuple[float | None, ...]]] = {}
        for row in rows:
            values = (row.time_s, row.temperature_c, row.power_w, row.duty_percent, row.speed_percent, row.speed_rpm)
            self._add(row.uuid, values)

    def add(self, snapshot: Snapshot) -> None:
        """Add the readings of `snapshot`."""
        for gpu in snapshot.gpus:
            speed = next((fan.speed_percent for fan in gpu.fans if fan.speed_percent is not None), None)
            rpm = next((fan.speed_rpm for fan in gpu.fans if fan.speed_rpm is not None), None)
            self._add(gpu.key, (snapshot.time_s, gpu.temperature_c, gpu.power_w, gpu.duty_percent, speed, rpm))

    def _add(self, key: str, values: tuple[float | None, ...]) -> None:
        """Add the `values` of a card. The first is the time. Forget values that are older than ten minutes."""
        readings = self._cards.setdefault(key, deque())
        time_s = values[0] or 0.0
        while readings and (readings[-1][0] or 0.0) > time_s:  # made before the clock was set back
            readings.pop()
        if readings and time_s == readings[-1][0]:
            return
        readings.append(values)
        while (readings[0][0] or 0.0) <= time_s - RECENT_S:
            readings.popleft()

    def columns(self) -> dict[str, dict[str, list[float | None]]]:
        """Return the readings: for each card a list for each quantity."""
        return {
            key: {name: [row[place] for row in readings] for place, name in enumerate(_RECENT_COLUMNS)}
            for key, readings in self._cards.items()
        }


class Live:
    """Follows the snapshot in a task, and wakes those who wait for the next event."""

    def __init__(
        self,
        watch: SnapshotWatch,
        quiet_text: Callable[[], str],
        recent: Recent,
        settings_version: Callable[[], str] = lambda: "",
    ) -> None:
        """`quiet_text` returns which quiet hours are in effect now; empty for none.

        `settings_version` returns a text that differs after each change of the settings file.
        """
        self._settings_version = settings_version
        self._watch = watch
        self._quiet_text = quiet_text
        self.recent = recent
        self.moment = watch.look()
        self._number = 0
        self._news = asyncio.Condition()
        self.ends = False
        self._event = b""
        self._use(self.moment)

    async def follow(self) -> None:
        """Look at the snapshot again and again, until this task is cancelled."""
        sent_s = time.monotonic()
        loop = asyncio.get_running_loop()
        looking = ThreadPoolExecutor(1, "look")  # its own thread, so that slow answers do not delay it
        while True:
            await asyncio.sleep(POLL_S)
            before, moment = self.moment, await loop.run_in_executor(looking, self._watch.look)
            is_same = moment.snapshot == before.snapshot and moment.daemon == before.daemon
            if is_same and time.monotonic() - sent_s < REPEAT_S:
                continue
            sent_s = time.monotonic()
            await self.publish(moment)

    async def publish(self, moment: Moment) -> None:
        """Use `moment`, and wake those who wait for the next event."""
        self._use(moment)
        async with self._news:
            self._news.notify_all()

    def _use(self, moment: Moment) -> None:
        """Remember `moment` and its readings, and make its event."""
        if moment.snapshot is not None and moment.daemon.state is not DaemonState.HUNG:
            self.recent.add(moment.snapshot)
        self.moment = moment
        self._number += 1
        self._event = msgspec.json.encode(self.now())

    def now(self) -> dict[str, Any]:
        """Return the content of the event `now`."""
        snapshot, daemon = self.moment
        quiet = self._quiet_text()
        return {
            "time_s": time.time(),
            "daemon": {"state": daemon.state.value, "text": daemon.text, "remedy": with_own_command(daemon.remedy)},
            "interval_s": None if snapshot is None else snapshot.interval_s,
            "cards": [] if snapshot is None else [now_card(gpu, quiet) for gpu in snapshot.gpus],
            "quiet": quiet,
            "settings_version": self._settings_version(),
            "case_fans": [] if snapshot is None else [now_card(fan, quiet) for fan in snapshot.case_fans],
        }

    async def next_event(self, after: int) -> tuple[int, bytes] | None:
        """Wait for an event with a number above `after`. Return its number and its JSON; None if the page ends."""
        async with self._news:
            await self._news.wait_for(lambda: self._number > after or self.ends)
        return None if self.ends else (self._number, self._event)

    async def end(self) -> None:
        """End every wait for an event."""
        self.ends = True
        async with self._news:
            self._news.notify_all()
