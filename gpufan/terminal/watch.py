"""`gpufan status --watch`: shows each new snapshot, the readings of the last ten minutes and the state of the service.

This view only reads files, so it cannot disturb gpufan. It continues when gpufan restarts.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gpufan.core.sentences import h_mm_ss, settings_sentence
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.daemon import snapshot_file
from gpufan.daemon.recording import Row
from gpufan.errors import GpufanError
from gpufan.history import DEFAULT_FOLDER
from gpufan.system.own_command import with_own_command
from gpufan.system.printable import printable
from gpufan.terminal.drawing import cards_table, highest_screen_that_fits, prepare_terminal_for_live_view, settings_row
from gpufan.terminal.log import LogHandler, StateLog
from gpufan.terminal.recent_readings import (
    DUTY,
    POWER,
    TEMPERATURE,
    BarLine,
    RecentReadings,
    bar_scales_row,
    recent_readings,
)
from gpufan.terminal.service_state import ServiceState, ServiceStateReader

_POLL_S = 0.5
"""The time between two reads of the snapshot, s."""


@dataclass(frozen=True)
class WatchedMoment:
    """The snapshot and the state of the service that are shown at one time."""

    snapshot: Snapshot | None
    complaint: str | None = None
    """Why there is no snapshot, or why the snapshot is out of date; None if it is up to date."""
    service: ServiceState | None = None
    """The state of the service; None if no service writes the snapshot, or if systemd has not answered yet."""


def watch(
    path: Path, *, of_service: bool = False, as_json: bool = False, pause: Callable[[float], None] = time.sleep
) -> None:
    """Show the snapshot in `path` until Ctrl-C: as JSON, as a table on a terminal, or as lines in a pipe.

    `of_service` says whether the service writes the snapshot. If it does, the state and the history of the service are
    shown too. `pause` is called with the seconds to wait before the next read. Raises OSError if the output cannot be
    written any more; this is BrokenPipeError if nobody reads the output.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the cursor is shown again
    service = ServiceStateReader() if of_service else None
    view = _watch_view(as_json, of_service)
    try:
        while True:
            view.show(_watched_moment(path, service.latest() if service else None))
            pause(_POLL_S)
    except KeyboardInterrupt:
        pass
    finally:
        view.close()


def _watch_view(as_json: bool, of_service: bool) -> "WatchTable | WatchLines | WatchJson":
    """Return the view of the snapshots, which writes to standard output.

    Return a `WatchJson` if `as_json` is set. Otherwise return a `WatchTable` on a terminal, and `WatchLines` elsewhere.
    The table begins with the history if the service writes the snapshot (`of_service`).
    """
    if as_json:
        return WatchJson()
    if sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        return WatchTable(Console(), recent_readings(DEFAULT_FOLDER) if of_service else [])
    return WatchLines()


def _watched_moment(path: Path, service: ServiceState | None) -> WatchedMoment:
    """Read the snapshot in `path`. Return the snapshot, what is wrong with it, and `service`."""
    snapshot = None
    try:
        snapshot = snapshot_file.read_snapshot(path)
        complaint = snapshot_file.snapshot_complaint(snapshot)
    except snapshot_file.NotRunning as error:
        complaint = service.why_not_running if service else str(error)
    except GpufanError as error:
        complaint = str(error)
    return WatchedMoment(snapshot, None if complaint is None else with_own_command(complaint), service)


_SCALES = (TEMPERATURE, DUTY, POWER)
"""A card has a line of bars for each of these scales."""


class WatchTable:
    """Draws each snapshot as a table on a terminal, over the last table."""

    def __init__(self, console: Console, rows: Iterable[Row] = ()) -> None:
        self._console = console
        self.readings = RecentReadings(rows)
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        prepare_terminal_for_live_view()
        self._live.start()

    def show(self, moment: WatchedMoment) -> None:
        """Draw the table, the state of the service and what is wrong with the snapshot."""
        snapshot, service = moment.snapshot, moment.service
        parts: list[RenderableType] = [Text(_watch_headline(snapshot), style="dim")]
        if service is not None:
            parts.append(Text(service.text, style="dim" if service.is_active else "yellow"))
        if moment.complaint is not None:
            parts.append(Text(moment.complaint, style="bold red"))
        if snapshot is not None:
            if trouble := settings_sentence(snapshot):
                parts.append(Text(trouble, style="yellow"))
            self.readings.add(snapshot)
            screens = [Group(*parts, cards) for cards in self._tables(snapshot.states)]
        else:
            screens = [Group(*parts)]
        self._live.update(highest_screen_that_fits(self._console, screens), refresh=True)

    def _tables(self, gpus: Sequence[GpuState]) -> Iterator[Group]:
        """Yield the table of the cards several times, each time with fewer rows. The first one that fits is shown."""

        def bar_lines(gpu: GpuState) -> list[RenderableType]:
            return [BarLine(self.readings, gpu.key, scale) for scale in _SCALES]

        def with_scales(table: Table, count: int) -> Group:
            return Group(table, bar_scales_row(_SCALES[:count]))

        yield with_scales(cards_table(gpus, lambda gpu: [settings_row(gpu), *bar_lines(gpu)]), 3)
        yield with_scales(cards_table(gpus, bar_lines), 3)
        yield with_scales(cards_table(gpus, lambda gpu: bar_lines(gpu)[:1]), 1)
        yield with_scales(cards_table(gpus, lambda gpu: bar_lines(gpu)[:1], reason="ellipsis"), 1)
        yield Group(cards_table(gpus, lambda _: (), reason="ellipsis"))

    def close(self) -> None:
        """Leave the last table on the terminal."""
        self._live.stop()


def _watch_headline(snapshot: Snapshot | None) -> str:
    """Return the line above the table: the time, and which gpufan wrote the snapshot.

    If there is no snapshot, the line says how to end the view.
    """
    parts = [time.strftime("%T")]
    if snapshot is None:
        return f"{parts[0]} · Ctrl-C ends this view, and does not stop gpufan"
    parts.append(f"gpufan {snapshot.version}, process {snapshot.pid}")
    if snapshot.simulated_s is not None:
        parts.append(f"simulated {h_mm_ss(snapshot.simulated_s)}")
    elif snapshot.started_s is not None:
        parts.append(f"up {h_mm_ss(max(snapshot.time_s - snapshot.started_s, 0))}")
    if snapshot.dry_run:
        parts.append("dry run")
    return " · ".join(parts)


class WatchLines:
    """Writes a line for each change of a card or of the service."""

    def __init__(self) -> None:
        self._log = logging.Logger("status", logging.INFO)
        self._handler = LogHandler(sys.stdout)
        self._log.addHandler(self._handler)
        self._states = StateLog(self._log)
        self._complaint: str | None = None
        self._service: ServiceState | None = None

    def show(self, moment: WatchedMoment) -> None:
        """Write a line for each change since the last call. Raises OSError if an earlier line could not be written."""
        if error := self._handler.write_error:
            raise error
        if moment.service is not None and moment.service != self._service:
            self._log.info("%s", moment.service.text)
        if moment.complaint is not None and moment.complaint != self._complaint:
            self._log.warning("%s", moment.complaint)
        self._complaint, self._service = moment.complaint, moment.service or self._service
        if moment.snapshot is not None:
            self._states.publish(moment.snapshot)

    def close(self) -> None:
        """Write the lines that still wait. This takes at most half a second."""
        self._handler.close()


class WatchJson:
    """Writes each snapshot as a line of JSON. A complaint is a line on standard error."""

    def __init__(self) -> None:
        self._last: Snapshot | None = None
        self._is_well = True

    def show(self, moment: WatchedMoment) -> None:
        """Write the snapshot if it differs from that of the last call. Write the complaint if the last call had none.

        So a program that waits for lines shows why none comes.
        """
        if moment.complaint is not None and self._is_well:
            print(f"gpufan: {printable(moment.complaint)}", file=sys.stderr, flush=True)
        self._is_well = moment.complaint is None
        if moment.snapshot is not None and moment.snapshot != self._last:
            print(msgspec.json.encode(moment.snapshot).decode(), flush=True)
        self._last = moment.snapshot

    def close(self) -> None:
        """Do nothing, since each line was written at once."""
