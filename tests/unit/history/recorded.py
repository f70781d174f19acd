"""A recorder with simulated clocks: a snapshot a second as a test wants it, and a real file below."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from gpufan.core.snapshot import FORMAT, GpuState, Snapshot
from gpufan.errors import GpufanError
from gpufan.history import FILE_NAME
from gpufan.history.recorder import HistoryRecorder
from gpufan.history.writer import HistoryWriter
from tests.unit.builders import gpu_state

NOON_S = 1_795_348_800.0
"""22 November 2026, 12:00 UTC: the beginning of these tests."""


class RecordedRun:
    """A run of gpufan from noon on, whose snapshots `recorder` reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        self.wall_s = NOON_S
        self.monotonic_s = 1000.0
        self.runs = True
        """Whether there is a snapshot."""
        self.hangs = False
        """Whether the snapshot stays as it is."""
        self.snapshot: dict[str, Any] = {"pid": 4711}
        self.last = self._snapshot((gpu_state(),))
        self.recorder = self.new_recorder()

    def new_recorder(self) -> HistoryRecorder:
        """As after a restart or a kill: what the old recorder had not written is lost."""
        self.recorder = HistoryRecorder(HistoryWriter(self.folder), self._read, self.monotonic_s)
        return self.recorder

    def second(self, *gpus: GpuState, seconds: float = 1.0) -> None:
        """A second passes; at its end the cards have these states."""
        self.wall_s += seconds
        self.monotonic_s += seconds
        if not self.hangs:
            self.last = self._snapshot(gpus or (gpu_state(),))
        self.recorder.tick(self.wall_s, self.monotonic_s)

    def seconds(self, count: int, **changes: Any) -> None:
        """This many seconds with one card, in the usual state but for `changes`."""
        for _ in range(count):
            self.second(gpu_state(**changes))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the file."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchall()

    def events(self, *columns: str) -> list[tuple[Any, ...]]:
        """Events of the file, after everything has been written."""
        self.recorder.write()
        return self.rows(f"SELECT {', '.join(columns or ('kind', 'text'))} FROM event ORDER BY begin_s, kind")

    def _snapshot(self, gpus: tuple[GpuState, ...]) -> Snapshot:
        return Snapshot(
            **{
                "format": FORMAT,
                "version": "0.1.0",
                "time_s": self.wall_s,
                "interval_s": 1.0,
                "dry_run": False,
                "gpus": gpus,
                **self.snapshot,
            }
        )

    def _read(self) -> Snapshot:
        if self.runs:
            return self.last
        try:
            raise FileNotFoundError
        except FileNotFoundError:
            raise GpufanError("no gpufan is running") from None
