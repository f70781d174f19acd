"""`gpufan status --watch`: shows the snapshot again and again, with the last ten minutes and the state of the service.

It only reads, so it cannot disturb gpufan, and it continues when gpufan restarts.
"""

import logging
import math
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.text import Text

from gpufan.core.sentences import clock, refused_settings
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.daemon import snapshot_file
from gpufan.daemon.recording import Row
from gpufan.errors import GpufanError, NoAnswer
from gpufan.history import DEFAULT_FOLDER
from gpufan.system import systemctl
from gpufan.system.background import BackgroundCall
from gpufan.system.unit_state import unit_state
from gpufan.terminal.drawing import SCALE_C, bars, cards_table, hide_control_characters
from gpufan.terminal.log import ChangeLog, LogHandler

_POLL_S = 0.5
"""Time between two reads of the snapshot, s."""

_SPAN_S = 600.0
"""Time span of the bars, s."""

_BARS = (30, 60)
"""Numbers of bars in a line, so that each bar stands for the same number of seconds; the largest that fits is used."""

_SERVICE = "gpufan.service"
_SERVICE_POLL_S = 5.0
_SERVICE_LIMIT_S = 3.0
"""Time that systemd has to answer, s."""


@dataclass(frozen=True)
class Unit:
    """The service as systemd sees it."""

    text: str
    is_active: bool


@dataclass(frozen=True)
class Moment:
    """Everything that is shown at one time."""

    snapshot: Snapshot | None
    complaint: str | None = None
    """Why there is no snapshot, or why this one is out of date."""
    unit: Unit | None = None
    """None if systemd does not run the service, or has not answered yet."""


def watch(
    path: Path, *, service: bool = False, as_json: bool = False, pause: Callable[[float], None] = time.sleep
) -> None:
    """Show the snapshot in `path` until Ctrl-C: as a table on a terminal, as lines in a pipe, or as JSON.

    `service` says that the service writes it: then its state and its history are shown too. Raises BrokenPipeError
    when nobody reads the lines any more.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the cursor is shown again
    unit = UnitWatch() if service else None
    view = _view(as_json, service)
    try:
        while True:
            view.show(_moment(path, unit.latest() if unit else None))
            pause(_POLL_S)
    except KeyboardInterrupt:
        pass
    finally:
        view.close()


def _view(as_json: bool, service: bool) -> "TableView | LineView | JsonView":
    if as_json:
        return JsonView()
    if sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        return TableView(Console(), recent_rows(DEFAULT_FOLDER) if service else [])
    return LineView()


def _moment(path: Path, unit: Unit | None) -> Moment:
    try:
        snapshot = snapshot_file.read(path)
    except GpufanError as error:
        return Moment(None, str(error), unit)
    return Moment(snapshot, snapshot_file.complaint(snapshot), unit)


def recent_rows(folder: Path) -> list[Row]:
    """The last ten minutes of the history in `folder`; empty if there is none, or if it cannot be read."""
    from gpufan.history.reader import HistoryReader, TimeRange  # needs SQLite, which only this function uses

    now_s = time.time()
    with suppress(GpufanError), HistoryReader(folder) as reader:
        return list(reader.readings(reader.cards(), TimeRange(now_s - _SPAN_S, now_s)))
    return []


class UnitWatch:
    """Asks systemd in the background, because the answer may be slow."""

    def __init__(self) -> None:
        self._latest: Unit | None = None
        self._asked_s = -math.inf
        self._call: BackgroundCall[Unit | None] | None = None

    def latest(self) -> Unit | None:
        """The last answer of systemd; None before the first."""
        if self._call is not None:
            with suppress(NoAnswer):  # not yet
                self._latest = self._call.result(0)
                self._call = None
        elif time.monotonic() - self._asked_s >= _SERVICE_POLL_S:
            self._asked_s = time.monotonic()
            self._call = BackgroundCall(service_unit)
        return self._latest


def service_unit() -> Unit | None:
    """The present state of the service; None without systemd, or if the service is not installed."""
    try:
        state = unit_state(_SERVICE, _SERVICE_LIMIT_S)
    except GpufanError as error:
        return Unit(f"{_SERVICE}: {error}", is_active=False) if systemctl.is_running() else None
    if not state.exists:
        return None
    if state.load != "loaded":
        return Unit(f"{_SERVICE}: {state.load}", is_active=False)
    parts = [f"{_SERVICE}: {state.active} ({state.sub})"]
    if state.since:
        parts.append(f"since {state.since}")
    if state.restarts:
        parts.append(f"restarts: {state.restarts}")
    if state.has_failed and state.result:
        parts.append(f"last result: {state.result}")
    return Unit(", ".join(parts), state.is_active)


Quantity = Callable[[GpuState | Row], float | None]
"""A value of a card's state, or of a row of its history; None if it is unknown."""


class History:
    """Readings of each card in the last ten minutes."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        """`rows` are from before the first snapshot, the oldest first."""
        self._latest_s = -math.inf
        self._readings: dict[str, deque[tuple[float, GpuState | Row]]] = {}
        for row in rows:
            self._readings.setdefault(row.uuid, deque()).append((row.time_s, row))
            self._latest_s = row.time_s

    def add(self, snapshot: Snapshot) -> None:
        """Add the next snapshot, unless it is the same as before."""
        now_s = snapshot.time_s if snapshot.simulated_s is None else snapshot.simulated_s
        if now_s < self._latest_s:  # the clock was set back, or another simulation began
            self._readings.clear()
        elif now_s == self._latest_s:
            return
        self._latest_s = now_s
        for gpu in snapshot.gpus:
            readings = self._readings.setdefault(gpu.uuid, deque())
            readings.append((now_s, gpu))
            while readings[0][0] <= now_s - _SPAN_S:
                readings.popleft()

    def extremes(self, uuid: str, quantity: Quantity) -> tuple[float, float] | None:
        """The lowest and the highest value; None if no value is known."""
        values = [value for _, gpu in self._readings.get(uuid, ()) if (value := quantity(gpu)) is not None]
        return (min(values), max(values)) if values else None

    def maxima(self, uuid: str, quantity: Quantity, count: int) -> list[float | None]:
        """The highest value in each of `count` equal parts of the ten minutes, the oldest first; None if unknown."""
        part_s = _SPAN_S / count
        last = math.floor(self._latest_s / part_s)
        found: list[float | None] = [None] * count
        for time_s, gpu in self._readings.get(uuid, ()):
            place = math.floor(time_s / part_s) - last + count - 1
            value = quantity(gpu)
            if value is not None and place >= 0:
                found[place] = max(value, found[place] or -math.inf)
        return found


@dataclass(frozen=True)
class _BarLine:
    """One quantity of one card: its unit, as many bars as fit, the lowest and the highest value."""

    history: History
    uuid: str
    unit: str
    quantity: Quantity
    scale: tuple[float, float]
    """Values of the lowest and the highest bar; a higher value extends the scale."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        room = options.max_width - len("°C  100..999")
        count = max((count for count in _BARS if count <= room), default=max(room, 1))
        extremes = self.history.extremes(self.uuid, self.quantity) or ()
        low, high = self.scale
        line = Text(f"{self.unit:2} ", style="dim", no_wrap=True, overflow="crop")
        values = self.history.maxima(self.uuid, self.quantity, count)
        line.append(bars(values, low, max(high, *extremes)), style="not dim cyan")
        line.append(" " + "..".join(dict.fromkeys(f"{value:.0f}" for value in extremes)))
        yield line


_QUANTITIES: tuple[tuple[str, Quantity, tuple[float, float]], ...] = (
    ("°C", lambda gpu: gpu.temperature_c, SCALE_C),
    ("%", lambda gpu: gpu.duty_percent, (0, 100)),
    ("W", lambda gpu: gpu.power_w, (0, 250)),
)
"""Unit, quantity and scale of each line."""


class TableView:
    """Draws a table on a terminal over the one before."""

    def __init__(self, console: Console, rows: Iterable[Row] = ()) -> None:
        self._console = console
        self.history = History(rows)
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        hide_control_characters()
        self._live.start()

    def show(self, moment: Moment) -> None:
        """Draw the table."""
        snapshot, unit = moment.snapshot, moment.unit
        parts: list[RenderableType] = [Text(_headline(snapshot), style="dim")]
        if unit is not None:
            parts.append(Text(unit.text, style="dim" if unit.is_active else "yellow"))
        if moment.complaint is not None:
            parts.append(Text(moment.complaint, style="bold red"))
        if snapshot is not None:
            if snapshot.reload_refused is not None:
                parts.append(Text(refused_settings(snapshot.reload_refused), style="yellow"))
            self.history.add(snapshot)
            # A card has up to two rows of text above its lines. If that is too high, only temperature is drawn.
            fits = len(parts) + 1 + len(snapshot.gpus) * (2 + len(_QUANTITIES)) < self._console.height
            quantities = _QUANTITIES if fits else _QUANTITIES[:1]

            def lines(gpu: GpuState) -> Group:
                return Group(*(_BarLine(self.history, gpu.uuid, *quantity) for quantity in quantities))

            parts.append(cards_table(snapshot.gpus, lines))
        self._live.update(Group(*parts), refresh=True)

    def close(self) -> None:
        """Leave the last table on the terminal."""
        self._live.stop()


def _headline(snapshot: Snapshot | None) -> str:
    parts = [time.strftime("%T")]
    if snapshot is None:
        return f"{parts[0]} · Ctrl-C ends this view, and does not stop gpufan"
    parts.append(f"gpufan {snapshot.version}, process {snapshot.pid}")
    if snapshot.simulated_s is not None:
        parts.append(f"simulated {clock(snapshot.simulated_s)}")
    elif snapshot.started_s is not None:
        parts.append(f"up {clock(max(snapshot.time_s - snapshot.started_s, 0))}")
    if snapshot.dry_run:
        parts.append("dry run")
    return " · ".join([*parts, "bars: 10 minutes"])


class LineView:
    """Writes a line for each change."""

    def __init__(self) -> None:
        self._log = logging.Logger("status", logging.INFO)
        self._handler = LogHandler(sys.stdout)
        self._log.addHandler(self._handler)
        self._changes = ChangeLog(self._log)
        self._complaint: str | None = None
        self._unit: Unit | None = None

    def show(self, moment: Moment) -> None:
        """Write the changes since the moment before. Raises BrokenPipeError when nobody reads them any more."""
        if not self._handler.is_read:
            raise BrokenPipeError
        if moment.unit is not None and moment.unit != self._unit:
            self._log.info("%s", moment.unit.text)
        if moment.complaint is not None and moment.complaint != self._complaint:
            self._log.warning("%s", moment.complaint)
        self._complaint, self._unit = moment.complaint, moment.unit or self._unit
        if moment.snapshot is not None:
            self._changes.publish(moment.snapshot)

    def close(self) -> None:
        """Write the rest."""
        self._handler.close()


class JsonView:
    """Writes each snapshot as a line of JSON."""

    def __init__(self) -> None:
        self._last: Snapshot | None = None

    def show(self, moment: Moment) -> None:
        """Write the snapshot if it has changed."""
        if moment.snapshot is not None and moment.snapshot != self._last:
            print(msgspec.json.encode(moment.snapshot).decode(), flush=True)
        self._last = moment.snapshot

    def close(self) -> None:
        """Do nothing."""
