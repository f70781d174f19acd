"""Records the history: reads the snapshot once a second, and writes new samples and events every ten seconds."""

import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gpufan.core.snapshot import Snapshot
from gpufan.daemon import recording, snapshot_file
from gpufan.errors import GpufanError
from gpufan.history.events import EventDetector
from gpufan.history.writer import HistoryWriter, Sample
from gpufan.system.clock import since_boot_s
from gpufan.system.lock import LockHeld, acquire_lock
from gpufan.system.signals import StopInbox

POLL_S = 1.0
"""Interval between two reads of the snapshot, s."""

WRITE_INTERVAL_S = 10.0
"""Interval between two writes, s. If the recorder is killed, at most the samples of this time are lost.

A shorter interval would keep the disk awake.
"""

CLEANUP_INTERVAL_S = 3600.0
"""Interval between two deletions of old rows, s."""

MAX_WAITING = 1200
"""While the disk is full, at most this many samples wait in memory for the next write. The oldest are dropped."""

_GAP_AFTER_S = 5.0
"""The history gets a gap if no new snapshot arrives within this time (s) plus two intervals of the daemon."""

_log = logging.getLogger("gpufan.history")


class HistoryRecorder:
    """Makes samples and events from the snapshots, and writes both. It reads no clock: times are arguments."""

    def __init__(self, writer: HistoryWriter, read_snapshot: Callable[[], Snapshot], monotonic_s: float) -> None:
        """Continue the history that `writer` writes.

        `read_snapshot` returns the snapshot, or raises GpufanError. `monotonic_s` is the present time of the monotonic
        clock, s.
        """
        self._writer = writer
        self._read_snapshot = read_snapshot
        self._detector = EventDetector()
        self._samples: deque[Sample] = deque(maxlen=MAX_WAITING)
        self._last: Snapshot | None = None
        self._new_at_s = monotonic_s
        """Time of the monotonic clock when a new snapshot was last read, s."""
        self._write_at_s, self._cleanup_at_s = monotonic_s + WRITE_INTERVAL_S, monotonic_s
        self._failing = False
        self._last_reading_s: float | None = None
        """Time of the newest reading, seconds since the epoch; None if there is none."""
        with self._log_failures():
            self._last_reading_s = writer.last_reading_s()

    def tick(self, wall_s: float, monotonic_s: float) -> None:
        """Read the snapshot. Write samples and events if a write is due. Delete old rows if a deletion is due.

        `wall_s` is the time of the wall clock, seconds since the epoch; people can set this clock. `monotonic_s` is the
        time of the monotonic clock, s, which continues while the machine sleeps. Raises GpufanError if the history file
        is damaged and cannot be renamed.
        """
        problem = self._read(wall_s, monotonic_s)
        last_s, waited_s = self._last_reading_s, monotonic_s - self._new_at_s
        if problem and last_s is not None and waited_s > self._gap_after_s(self._last):
            self._detector.add_gap(last_s, wall_s, problem)
        if monotonic_s >= self._write_at_s:
            self._write_at_s = monotonic_s + WRITE_INTERVAL_S
            self.write()
        if monotonic_s >= self._cleanup_at_s:
            self._cleanup_at_s = monotonic_s + WRITE_INTERVAL_S
            with self._log_failures():
                self._writer.delete_old_rows(wall_s)
                self._cleanup_at_s = monotonic_s + CLEANUP_INTERVAL_S

    def write(self) -> None:
        """Write new samples and events. If the write fails, they stay in memory for the next write."""
        if not (self._samples or self._detector.changed):
            return
        with self._log_failures():
            self._writer.write(self._samples, self._detector.changed.values())
            self._samples.clear()
            self._detector.changed.clear()
            if self._failing:
                _log.info("%s is written again", self._writer.path)
            self._failing = False

    def close(self) -> None:
        """Write new samples and events, and close the file."""
        self.write()
        self._writer.close()

    def _read(self, wall_s: float, monotonic_s: float) -> str:
        """Read the snapshot. If it is new, add its samples and events to those that wait for the next write.

        Returns an empty text if the snapshot is new, else the reason why there is no new snapshot. `wall_s` and
        `monotonic_s` are those of `tick`.
        """
        try:
            snapshot = self._read_snapshot()
        except GpufanError as error:
            return "gpufan did not run" if isinstance(error.__context__, FileNotFoundError) else str(error)
        if self._last is None:
            # A daemon that was killed leaves its last snapshot.
            is_new = abs(wall_s - snapshot.time_s) <= self._gap_after_s(snapshot)
        else:
            is_new = snapshot.time_s != self._last.time_s
        if not is_new:
            return "gpufan hung, or was killed"
        elapsed_s = monotonic_s - self._new_at_s
        after_gap = self._last is None or elapsed_s > self._gap_after_s(self._last)
        last_s = self._last_reading_s
        if after_gap and last_s is not None and snapshot.time_s > last_s + self._gap_after_s(self._last):
            self._detector.add_gap(last_s, snapshot.time_s, "no history was recorded")
        seconds = snapshot.interval_s if after_gap else elapsed_s
        rows = recording.rows_of_states(snapshot, snapshot.states)
        for row, gpu in zip(rows, snapshot.states, strict=True):
            self._samples.append(Sample(row._replace(time_s=snapshot.time_s), seconds, gpu))
        self._detector.add(snapshot)
        self._last, self._new_at_s, self._last_reading_s = snapshot, monotonic_s, snapshot.time_s
        return ""

    @staticmethod
    def _gap_after_s(snapshot: Snapshot | None) -> float:
        """Return the time within which a snapshot must follow `snapshot`, s. A longer time is a gap.

        `snapshot` is None before the first snapshot.
        """
        return _GAP_AFTER_S + (0.0 if snapshot is None else 2 * snapshot.interval_s)

    @contextmanager
    def _log_failures(self) -> Iterator[None]:
        """Suppress any sqlite3.Error in the `with` block. Only the first error since a successful write is logged."""
        try:
            yield
        except sqlite3.Error as error:
            if not self._failing:
                _log.warning(
                    "%s cannot be written: %s; tried again every %g s", self._writer.path, error, WRITE_INTERVAL_S
                )
            self._failing = True


@contextmanager
def recorder_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of the history in `folder` during the `with` block. With it, only one process records there.

    Creates the folder if it is missing. Raises GpufanError if another process holds the lock, or if the lock cannot be
    written.
    """
    try:
        descriptor = acquire_lock(folder / "lock", 0o644)
    except LockHeld as held:
        raise GpufanError(
            f"process {held} already records the history in {folder}: stop it, or name another folder with --state-dir"
        ) from None
    except OSError as error:
        raise GpufanError(
            f"{folder}/lock: {error.strerror}: name a folder that you can write to with --state-dir"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def record_history(snapshot_path: Path, folder: Path) -> None:
    """Record the history of the snapshots in the file `snapshot_path` to `folder`, until a signal arrives.

    Raises GpufanError if another process records to `folder`, or if `folder` or the history file cannot be used.
    """
    inbox = StopInbox()
    inbox.catch_signals()
    with recorder_lock(folder):
        recorder = HistoryRecorder(
            HistoryWriter(folder), lambda: snapshot_file.read_snapshot(snapshot_path), since_boot_s()
        )
        try:
            while True:
                recorder.tick(time.time(), since_boot_s())
                if inbox.wait(POLL_S):
                    break
        finally:
            recorder.close()
