"""The live table on a terminal of the run itself: every card, what was done and why, and its last seconds as a line."""

import math
import time
from collections import deque
from contextlib import suppress

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from gpufan.core.sentences import clock
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.system.background import BackgroundWriter
from gpufan.terminal.drawing import SCALE_C, bars, cards_table, hide_control_characters

_HISTORY = 36
_FRAME_S = 0.1


class LiveReport:
    """Draws snapshots over one another, as fast as the terminal takes them but no faster than eyes do."""

    def __init__(self, console: Console, title: str) -> None:
        self._title = title
        self._history: dict[int, deque[float | None]] = {}
        self._drawn_s = -math.inf
        self._live = Live(console=console, auto_refresh=False)
        hide_control_characters()
        self._live.start()
        self._frames: BackgroundWriter[Snapshot | str] = BackgroundWriter(self._draw)

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
        headline = Text(self._headline(frame), style="dim")
        self._live.update(Group(headline, cards_table(frame.gpus, self._line)), refresh=True)

    def _headline(self, snapshot: Snapshot) -> str:
        return self._title if snapshot.simulated_s is None else f"{self._title} · {clock(snapshot.simulated_s)}"

    def _line(self, gpu: GpuState) -> Text:
        return Text(bars(self._history[gpu.index], *SCALE_C), style="cyan")
