"""The live table of a run: each card, its duty with the reason, and its temperature in the last ten minutes."""

import math
import time
from contextlib import suppress

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from gpufan.core.sentences import h_mm_ss
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.system.background import BackgroundWriter
from gpufan.terminal.drawing import cards_table, highest_screen_that_fits, prepare_terminal_for_live_view
from gpufan.terminal.log import ChangeLog, LogHandler
from gpufan.terminal.recent_readings import TEMPERATURE, BarLine, RecentReadings, bar_scales_row

_FRAME_S = 0.1
"""The shortest time between two drawings of the table, s."""


class LiveTable:
    """Draws the newest snapshot as a table, in place of the last table. Log lines appear above the table.

    The table is drawn at most ten times a second.
    """

    def __init__(self, console: Console, title: str, log: LogHandler) -> None:
        self._title = title
        self._log = log
        self._changes = ChangeLog()
        self._readings = RecentReadings()
        self._drawn_s = -math.inf
        self._live = Live(console=console, auto_refresh=False)
        prepare_terminal_for_live_view()
        self._live.start()
        self._frames: BackgroundWriter[Snapshot | str] = BackgroundWriter(self._draw)
        self._write_line, log.write_line = log.write_line, self._frames.put

    every_tick = True

    def publish(self, snapshot: Snapshot) -> None:
        """Log the news of the snapshot, and draw the snapshot if the last drawing is at least `_FRAME_S` old."""
        self._changes.publish_news(snapshot)
        now_s = time.monotonic()
        if now_s - self._drawn_s >= _FRAME_S:
            self._drawn_s = now_s
            self._frames.put(snapshot)

    def close(self) -> None:
        """Leave the last table on the terminal. Later log lines appear below it."""
        self._log.write_line = self._write_line
        self._frames.close(0.5)
        if not self._frames.is_busy:
            with suppress(OSError, ValueError):  # the terminal may be gone
                self._live.stop()

    def _draw(self, frame: Snapshot | str) -> None:
        """Draw `frame` as the table if it is a snapshot. If it is a log line, print it above the table."""
        if isinstance(frame, str):
            self._live.console.print(Text(frame, style="yellow"))
            return
        self._readings.add(frame)
        headline = Text(self._headline(frame), style="dim")
        footer = bar_scales_row([TEMPERATURE])
        screens: list[RenderableType] = [
            Group(headline, cards_table(frame.states, self._line), footer),
            Group(headline, cards_table(frame.states, self._line, reason="ellipsis"), footer),
            Group(headline, cards_table(frame.states, lambda _: (), reason="ellipsis")),
        ]
        self._live.update(highest_screen_that_fits(self._live.console, screens), refresh=True)

    def _headline(self, snapshot: Snapshot) -> str:
        """Return the line above the table: the title of the run, and the simulated time if the cards are simulated."""
        return self._title if snapshot.simulated_s is None else f"{self._title} · {h_mm_ss(snapshot.simulated_s)}"

    def _line(self, gpu: GpuState) -> list[BarLine]:
        """Return the line of bars that stands below the row of a card."""
        return [BarLine(self._readings, gpu.key, TEMPERATURE)]
