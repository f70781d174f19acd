"""`gpufan status --watch`: what the snapshot tells, again and again, and what systemd says of the service.

It reads the snapshot and nothing else of the run, so it outlives a restart of that, and whatever it does or fails to
do is nothing to control.
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
from typing import Protocol

import msgspec
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.text import Text

from gpufan.core.sentences import clock
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.daemon import snapshot_file as snapshot
from gpufan.daemon.recording import Row
from gpufan.errors import GpufanError, NoAnswer
from gpufan.history import DEFAULT_FOLDER
from gpufan.system import systemctl as systemd
from gpufan.system.background import BackgroundCall
from gpufan.terminal.drawing import SCALE_C, bars, cards_table, hide_control_characters
from gpufan.terminal.log import ChangeLog, LogHandler

POLL_S = 0.5
"""Between two looks at the snapshot, s."""

SPAN_S = 600.0
"""What the lines of a card show, s."""

_BARS = (30, 60)
"""Bars to a line, where there is room for so many; each stands for the same number of seconds."""

_UNIT = "gpufan.service"
_UNIT_KEYS = ("LoadState", "ActiveState", "SubState", "Result", "NRestarts", "StateChangeTimestamp")
_UNIT_EVERY_S = 5.0
_UNIT_LIMIT_S = 3.0


@dataclass(frozen=True)
class Look:
    """What is to be seen at one moment."""

    snapshot: Snapshot | None
    trouble: str | None
    """Why there is no snapshot, or why this one is not to be trusted."""
    unit: str | None
    """What systemd says of the service; None where it has nothing to do with it."""


class View(Protocol):
    """Where it is shown."""

    def show(self, look: Look) -> None:
        """Show what has changed."""

    def close(self) -> None:
        """Show what is left."""


def watch(
    path: Path, *, service: bool = False, as_json: bool = False, pause: Callable[[float], None] = time.sleep
) -> None:
    """Show the snapshot in `path` until Ctrl-C: a table on a terminal, lines in a pipe, or snapshots for programs.

    `service` says that it is the one of the service, so that what systemd says of that belongs to it, and what its
    history knows of the minutes before. Raises BrokenPipeError once nobody reads the lines any more.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the cursor is shown again
    unit = UnitWatch() if service else None
    view = _view(as_json)
    if service and isinstance(view, TableView):
        view.history.fill(recent(DEFAULT_FOLDER))
    try:
        while True:
            view.show(look(path, unit))
            pause(POLL_S)
    except KeyboardInterrupt:
        pass
    finally:
        view.close()


def recent(folder: Path) -> list[Row]:
    """The last ten minutes as the history in `folder` has them; nothing where none is kept, or it may not be read."""
    from gpufan.history.reader import HistoryReader, TimeRange  # SQLite, for this alone

    now_s = time.time()
    with suppress(GpufanError), HistoryReader(folder) as reader:
        return list(reader.readings(reader.cards(), TimeRange(now_s - SPAN_S, now_s)))
    return []


def look(path: Path, unit: "UnitWatch | None") -> Look:
    """What is to be seen now."""
    told = None if unit is None else unit.text()
    try:
        taken = snapshot.read(path)
    except GpufanError as error:
        return Look(None, str(error), told)
    return Look(taken, snapshot.complaint(taken), told)


class UnitWatch:
    """Asks systemd aside, since it may take its time."""

    def __init__(self) -> None:
        self._text: str | None = None
        self._asked_s = -math.inf
        self._pending: BackgroundCall[str | None] | None = None

    def text(self) -> str | None:
        """What systemd has said last; None as long as it has said nothing."""
        if self._pending is not None:
            with suppress(NoAnswer):  # not yet
                self._text = self._pending.result(0)
                self._pending = None
        elif time.monotonic() - self._asked_s >= _UNIT_EVERY_S:
            self._asked_s = time.monotonic()
            self._pending = BackgroundCall(unit_text)
        return self._text


def unit_text() -> str | None:
    """What systemd says of the service, in a line; None on a machine without systemd or without the service."""
    try:
        found = systemd.unit_properties(_UNIT, *_UNIT_KEYS, limit_s=_UNIT_LIMIT_S)
    except GpufanError as error:
        return f"{_UNIT}: {error}" if systemd.is_running() else None
    if found["LoadState"] == "not-found":
        return None
    if found["LoadState"] != "loaded":
        return f"{_UNIT}: {found['LoadState']}"
    parts = [f"{_UNIT}: {found['ActiveState']} ({found['SubState']})"]
    if found["StateChangeTimestamp"]:
        parts.append(f"since {found['StateChangeTimestamp']}")
    if found["NRestarts"] not in ("", "0"):
        parts.append(f"started again {found['NRestarts']}x")
    if found["Result"] not in ("", "success"):
        parts.append(f"last result: {found['Result']}")
    return ", ".join(parts)


Quantity = Callable[[GpuState | Row], float | None]
"""One value of a card's state, or of what the history has of it; None where it is not known."""


class History:
    """Readings of the last ten minutes, card by card."""

    def __init__(self) -> None:
        self._latest_s = -math.inf
        self._readings: dict[str, deque[tuple[float, GpuState | Row]]] = {}

    def fill(self, rows: Iterable[Row]) -> None:
        """Take what was before the first snapshot, oldest first."""
        for row in rows:
            self._readings.setdefault(row.uuid, deque()).append((row.time_s, row))
            self._latest_s = row.time_s

    def add(self, taken: Snapshot) -> None:
        """Take the next snapshot; the one before again changes nothing."""
        now_s = taken.time_s if taken.simulated_s is None else taken.simulated_s
        if now_s < self._latest_s:  # the clock was set back, or another simulation began
            self._readings.clear()
        elif now_s == self._latest_s:
            return
        self._latest_s = now_s
        for gpu in taken.gpus:
            readings = self._readings.setdefault(gpu.uuid, deque())
            readings.append((now_s, gpu))
            while readings[0][0] <= now_s - SPAN_S:
                readings.popleft()

    def ends(self, uuid: str, value: Quantity) -> tuple[float, float] | None:
        """The lowest and the highest value of the last ten minutes; None where there is none."""
        known = [number for _, gpu in self._readings.get(uuid, ()) if (number := value(gpu)) is not None]
        return (min(known), max(known)) if known else None

    def highest(self, uuid: str, value: Quantity, count: int) -> list[float | None]:
        """The last ten minutes in `count` parts, oldest first: the highest value of each, None where there is none."""
        part_s = SPAN_S / count
        last = math.floor(self._latest_s / part_s)
        found: list[float | None] = [None] * count
        for time_s, gpu in self._readings.get(uuid, ()):
            place = math.floor(time_s / part_s) - last + count - 1
            number = value(gpu)
            if number is not None and place >= 0:
                found[place] = max(number, found[place] or -math.inf)
        return found


@dataclass(frozen=True)
class _Line:
    """One quantity of one card as bars, as many as there is room for, with the lowest and the highest of them."""

    history: History
    uuid: str
    unit: str
    value: Quantity
    scale: tuple[float, float]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        room = options.max_width - len("°C  100..999")
        count = max((count for count in _BARS if count <= room), default=max(room, 1))
        values = self.history.highest(self.uuid, self.value, count)
        ends = self.history.ends(self.uuid, self.value)
        low, high = self.scale
        line = Text(f"{self.unit:2} ", style="dim", no_wrap=True, overflow="crop")
        line.append(bars(values, low, max(high, *ends) if ends else high), style="not dim cyan")
        line.append(" " + "..".join(dict.fromkeys(f"{end:.0f}" for end in ends or ())))
        yield line


_QUANTITIES: tuple[tuple[str, Quantity, tuple[float, float]], ...] = (
    ("°C", lambda gpu: gpu.temperature_c, SCALE_C),
    ("%", lambda gpu: gpu.duty_percent, (0, 100)),
    ("W", lambda gpu: gpu.power_w, (0, 250)),
)
"""What is drawn of a card: unit, value, and what the lowest and the highest bar stand for unless it goes beyond."""


class TableView:
    """Draws over itself on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.history = History()
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        hide_control_characters()
        self._live.start()

    def show(self, look: Look) -> None:
        """Draw the table anew."""
        parts: list[RenderableType] = [Text(_headline(look.snapshot), style="dim")]
        if look.unit is not None:
            parts.append(Text(look.unit, style="dim" if ": active" in look.unit else "yellow"))
        if look.trouble is not None:
            parts.append(Text(look.trouble, style="bold red"))
        if look.snapshot is not None:
            if look.snapshot.reload_refused is not None:
                parts.append(Text(f"settings not reloaded: {look.snapshot.reload_refused}", style="yellow"))
            self.history.add(look.snapshot)
            # A card takes up to two rows beside its lines; where that is too high, temperature is what counts.
            fits = len(parts) + 1 + len(look.snapshot.gpus) * (2 + len(_QUANTITIES)) < self._console.height
            quantities = _QUANTITIES if fits else _QUANTITIES[:1]

            def lines(gpu: GpuState) -> Group:
                return Group(*(_Line(self.history, gpu.uuid, *quantity) for quantity in quantities))

            parts.append(cards_table(look.snapshot.gpus, lines))
        self._live.update(Group(*parts), refresh=True)

    def close(self) -> None:
        """Leave the last table on the terminal."""
        self._live.stop()


def _headline(taken: Snapshot | None) -> str:
    if taken is None:
        return f"{time.strftime('%T')} · ctrl-c ends this, and nothing else"
    parts = [time.strftime("%T"), f"gpufan {taken.version}, process {taken.pid}"]
    if taken.simulated_s is not None:
        parts.append(f"simulated {clock(taken.simulated_s)}")
    elif taken.started_s is not None:
        parts.append(f"up {clock(max(taken.time_s - taken.started_s, 0))}")
    if taken.dry_run:
        parts.append("dry run")
    return " · ".join([*parts, "bars: 10 minutes"])


class LineView:
    """A line for each change."""

    def __init__(self) -> None:
        self._log = logging.Logger("status", logging.INFO)
        self._handler = LogHandler(sys.stdout)
        self._log.addHandler(self._handler)
        self._changes = ChangeLog(self._log)
        self._trouble: str | None = None
        self._unit: str | None = None

    def show(self, look: Look) -> None:
        """Write what has changed. Raises BrokenPipeError once nobody reads it any more."""
        if not self._handler.is_read:
            raise BrokenPipeError
        if look.unit is not None and look.unit != self._unit:
            self._log.info("%s", look.unit)
        if look.trouble is not None and look.trouble != self._trouble:
            self._log.warning("%s", look.trouble)
        self._trouble, self._unit = look.trouble, look.unit or self._unit
        if look.snapshot is not None:
            self._changes.publish(look.snapshot)

    def close(self) -> None:
        """Write what is left."""
        self._handler.close()


class JsonView:
    """Every snapshot as it is, a line each."""

    def __init__(self) -> None:
        self._last: Snapshot | None = None

    def show(self, look: Look) -> None:
        """Write the snapshot if it is another than the last one."""
        if look.snapshot is not None and look.snapshot != self._last:
            print(msgspec.json.encode(look.snapshot).decode(), flush=True)
        self._last = look.snapshot

    def close(self) -> None:
        """Nothing is left."""


def _view(as_json: bool) -> View:
    if as_json:
        return JsonView()
    if sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        return TableView(Console())
    return LineView()
