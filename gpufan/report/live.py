"""The live table on a terminal: every card, what was done and why, and its last minutes as a line."""

import math
import sys
import termios
import time
from collections import deque
from contextlib import suppress

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gpufan.bounded import Aside
from gpufan.gpu import FanReading
from gpufan.report.snapshot import GpuState, Snapshot
from gpufan.report.text import clock, duty_text, notes

_BARS = "▁▂▃▄▅▆▇█"
_SCALE_C = (30, 90)
_HISTORY = 36
_FRAME_S = 0.1
_STYLE = {"fail-safe": "bold red", "fault": "bold red", "lost": "bold red", "hang": "bold red", "full": "yellow"}


class LiveReport:
    """Draws snapshots over one another, as fast as the terminal takes them but no faster than eyes do."""

    def __init__(self, console: Console, title: str) -> None:
        self._title = title
        self._history: dict[int, deque[float | None]] = {}
        self._drawn_s = -math.inf
        self._live = Live(console=console, auto_refresh=False)
        _hide_control_characters()
        self._live.start()
        self._frames: Aside[Snapshot | str] = Aside(self._draw)

    def publish(self, snapshot: Snapshot) -> None:
        """Take the next snapshot."""
        now_s = time.monotonic()
        if now_s - self._drawn_s >= _FRAME_S:
            self._drawn_s = now_s
            self._frames.put(snapshot)

    def warn(self, text: str) -> None:
        """Show a warning above the table."""
        self._frames.put(text)

    def note(self, text: str) -> None:
        """Show above the table that something went as it should."""
        self._frames.put(text)

    def close(self) -> None:
        """Leave the last table on the terminal."""
        self._frames.close(0.5)
        if not self._frames.busy:
            with suppress(OSError, ValueError):  # the terminal may be gone
                self._live.stop()

    def _draw(self, frame: Snapshot | str) -> None:
        if isinstance(frame, str):
            self._live.console.print(Text(frame, style="yellow"))
            return
        for gpu in frame.gpus:
            self._history.setdefault(gpu.index, deque(maxlen=_HISTORY)).append(gpu.temperature_c)
        self._live.update(Group(Text(self._headline(frame), style="dim"), self._table(frame)), refresh=True)

    def _headline(self, snapshot: Snapshot) -> str:
        return self._title if snapshot.simulated_s is None else f"{self._title} · {clock(snapshot.simulated_s)}"

    def _table(self, snapshot: Snapshot) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
        table.add_column("GPU", no_wrap=True)
        table.add_column("°C", justify="right", no_wrap=True)
        table.add_column("W", justify="right", no_wrap=True)
        table.add_column("set", justify="right", no_wrap=True)
        table.add_column("read", justify="right", no_wrap=True)
        table.add_column("why", ratio=1)
        for gpu in snapshot.gpus:
            table.add_row(
                Text(gpu.label),
                _whole(gpu.temperature_c),
                _whole(gpu.power_w),
                duty_text(gpu),
                " ".join(_speed(fan) for fan in gpu.fans) or "-",
                Group(Text(_why(gpu), style=_STYLE.get(gpu.kind, "")), Text(self._line(gpu.index), style="cyan")),
            )
        return table

    def _line(self, index: int) -> str:
        low, high = _SCALE_C
        bars = ""
        for temperature_c in self._history.get(index, ()):
            if temperature_c is None:
                bars += " "
            else:
                step = int((temperature_c - low) / (high - low) * len(_BARS))
                bars += _BARS[min(max(step, 0), len(_BARS) - 1)]
        return bars


def _hide_control_characters() -> None:
    """Keep the terminal from echoing `^C`, which would shift the last table by a line. Harmless if it stays so."""
    with suppress(OSError, ValueError, termios.error):
        attributes = termios.tcgetattr(sys.stdin.fileno())
        attributes[3] &= ~termios.ECHOCTL
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, attributes)


def _why(gpu: GpuState) -> str:
    return "; ".join([gpu.reason, *notes(gpu)])


def _speed(fan: FanReading) -> str:
    return "-" if fan.speed_percent is None else str(fan.speed_percent)


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
