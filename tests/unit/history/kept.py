"""A keeper in a time of its own: a snapshot a second as the tests would have it, and the real file below."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.errors import GpufanError
from gpufan.history import FILE
from gpufan.history.keeper import Keeper
from gpufan.history.store import HistoryFile
from tests.unit.builders import gpu_state

NOON_S = 1_795_348_800.0
"""22 November 2026, 12:00 UTC: where these tests begin."""


class Kept:
    """A gpufan whose snapshots `keeper` reads, from noon on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE
        self.told: list[str] = []
        self.wall_s = NOON_S
        """The clock on the wall."""
        self.now_s = 1000.0
        """The clock that nobody sets."""
        self.runs = True
        """Whether there is a snapshot; it is written anew each second unless `hangs`."""
        self.hangs = False
        self.snapshot: dict[str, Any] = {"pid": 4711}
        self._last = self._take((gpu_state(),))
        self.keeper = self.new_keeper()

    def new_keeper(self) -> Keeper:
        """As after a restart, or a kill: what the one before had not written is lost."""
        self.keeper = Keeper(HistoryFile(self.folder, self.told.append), self._read, self.told.append)
        self.keeper.start(self.now_s)
        return self.keeper

    def second(self, *gpus: GpuState, seconds: float = 1.0) -> None:
        """A second passes, at the end of which the cards are like this."""
        self.wall_s += seconds
        self.now_s += seconds
        if not self.hangs:
            self._last = self._take(gpus or (gpu_state(),))
        self.keeper.tick(self.wall_s, self.now_s)

    def seconds(self, count: int, **changes: Any) -> None:
        """So many seconds in which one card is as usual but for `changes`."""
        for _ in range(count):
            self.second(gpu_state(**changes))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What is in the file."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchall()

    def events(self, *columns: str) -> list[tuple[Any, ...]]:
        """What happened, with what is waiting to be written."""
        self.keeper.commit()
        return self.rows(f"SELECT {', '.join(columns or ('kind', 'text'))} FROM event ORDER BY begin_s, kind")

    def _take(self, gpus: tuple[GpuState, ...]) -> Snapshot:
        return Snapshot(
            **{
                "format": 1,
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
            return self._last
        try:
            raise FileNotFoundError
        except FileNotFoundError:
            raise GpufanError("no gpufan is running") from None


def numbers(rows: list[tuple[Any, ...]]) -> Iterator[Any]:
    """The only column of each row."""
    return (row[0] for row in rows)
