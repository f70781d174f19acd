"""The keeper: reads the snapshot once a second and keeps what it says. The daemon knows nothing of it."""

import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gpufan.core.snapshot import Snapshot
from gpufan.daemon import recording
from gpufan.daemon import snapshot_file as snapshot
from gpufan.errors import GpufanError
from gpufan.history.events import Event, Watcher
from gpufan.history.store import HistoryFile, Sample
from gpufan.system.lock import LockHeld, acquire_lock

POLL_S = 1.0
"""Between two looks at the snapshot, s."""

COMMIT_S = 10.0
"""Between two writes, s: what a kill can cost. Each second would keep the disk awake for nothing."""

THIN_S = 3600.0
"""Between two thinnings, s."""

WAITING = 1200
"""So many readings wait at most for a disk that is full; the oldest give way."""

_PATIENCE_S = 5.0
"""With no new snapshot for so long and two of the daemon's intervals, s, there is a gap."""


class Keeper:
    """Takes snapshots as they come. It is given the time, so a month is a loop."""

    def __init__(self, file: HistoryFile, read: Callable[[], Snapshot], tell: Callable[[str], None]) -> None:
        """`read` reads the snapshot or raises GpufanError; `tell` takes a line for people."""
        self._file = file
        self._read = read
        self._tell = tell
        self._watcher = Watcher()
        self._samples: deque[Sample] = deque(maxlen=WAITING)
        self._events: dict[tuple[float, str, str], Event] = {}
        self._last: Snapshot | None = None
        self._new_at_s = 0.0
        """When the last snapshot was new, by the clock that nobody sets."""
        self._seen_s: float | None = None
        """Time of the newest reading; None before there was any."""
        self._commit_at_s = self._thin_at_s = 0.0
        self._complained = False

    def start(self, now_s: float) -> None:
        """Take up the file where it was left."""
        self._new_at_s = now_s
        self._commit_at_s = now_s + COMMIT_S
        with self._trouble():
            self._seen_s = self._file.last_s()

    def tick(self, wall_s: float, now_s: float) -> None:
        """Look at the snapshot, and write if it is time; `now_s` is of a clock that nobody sets.

        Raises GpufanError where the file cannot be kept at all.
        """
        missing = self._look(wall_s, now_s)
        if missing and self._seen_s is not None and now_s - self._new_at_s > self._patience_s:
            self._watcher.miss(self._seen_s, wall_s, missing)
        if now_s >= self._commit_at_s:
            self._commit_at_s = now_s + COMMIT_S
            self.commit()
        if now_s >= self._thin_at_s:
            self._thin_at_s = now_s + COMMIT_S
            with self._trouble():
                self._file.thin(wall_s)
                self._thin_at_s = now_s + THIN_S

    def commit(self) -> None:
        """Write what has been gathered. Where that fails it is kept for the next time."""
        self._events.update({(event.begin_s, event.uuid, event.kind): event for event in self._watcher.take()})
        if not (self._samples or self._events):
            return
        with self._trouble():
            self._file.write(self._samples, self._events.values())
            self._samples.clear()
            self._events.clear()
            if self._complained:
                self._tell(f"{self._file.path} is written again")
            self._complained = False

    def close(self) -> None:
        """Write what is left, and close the file."""
        self.commit()
        self._file.close()

    @property
    def _patience_s(self) -> float:
        return _PATIENCE_S + (0.0 if self._last is None else 2 * self._last.interval_s)

    def _look(self, wall_s: float, now_s: float) -> str:
        """Take the snapshot if it is a new one; why it is not, in words."""
        try:
            taken = self._read()
        except GpufanError as error:
            return "no gpufan ran" if isinstance(error.__context__, FileNotFoundError) else str(error)
        if self._last is None:
            if abs(wall_s - taken.time_s) > _PATIENCE_S + 2 * taken.interval_s:
                return "gpufan hung, or was killed"
        elif taken.time_s == self._last.time_s:
            return "gpufan hung, or was killed"
        elapsed_s = now_s - self._new_at_s
        gap = self._last is None or elapsed_s > self._patience_s
        if gap and self._seen_s is not None and taken.time_s > self._seen_s + self._patience_s:
            self._watcher.miss(self._seen_s, taken.time_s, "no history was kept")
        self._add(taken, taken.interval_s if gap else elapsed_s)
        self._watcher.see(taken)
        self._last, self._new_at_s, self._seen_s = taken, now_s, taken.time_s
        return ""

    def _add(self, taken: Snapshot, seconds: float) -> None:
        for row, gpu in zip(recording.rows(taken), taken.gpus, strict=True):
            self._samples.append(
                Sample(
                    row._replace(time_s=taken.time_s),
                    seconds,
                    gpu.throttle == "heat",
                    (gpu.index, gpu.name, gpu.pci, gpu.settings),
                )
            )

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        """In this block a file that cannot be written is told once, and waited for."""
        try:
            yield
        except sqlite3.Error as error:
            if not self._complained:
                self._tell(f"{self._file.path} cannot be written: {error}; tried again every {COMMIT_S:g} s")
            self._complained = True


@contextmanager
def only_keeper(folder: Path) -> Iterator[None]:
    """Hold the lock of the history in `folder`, which is made if need be. Raises GpufanError."""
    try:
        descriptor = acquire_lock(folder / "lock", 0o644)
    except LockHeld as held:
        raise GpufanError(
            f"process {held} keeps the history in {folder} already: nothing to do here, or another --state-dir"
        ) from None
    except OSError as error:
        raise GpufanError(
            f"{folder}/lock: {error.strerror}: name a folder that you can write to with --state-dir"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def keep(snapshot_path: Path, folder: Path, tell: Callable[[str], None]) -> None:
    """Keep the history until a signal comes. Raises GpufanError where the folder cannot be used."""
    from gpufan.system.signals import StopInbox

    inbox = StopInbox()
    inbox.catch_signals()
    with only_keeper(folder):
        keeper = Keeper(HistoryFile(folder, tell), lambda: snapshot.read(snapshot_path), tell)
        keeper.start(_now_s())
        try:
            while True:
                keeper.tick(time.time(), _now_s())
                if inbox.wait(POLL_S):
                    break
        finally:
            keeper.close()


def _now_s() -> float:
    """Of the clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
