"""Receivers of snapshots: the snapshot file and a recording. A receiver never delays control."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from gpufan.core.snapshot import Snapshot
from gpufan.daemon.snapshot_file import SnapshotFile
from gpufan.system.background import BackgroundWriter
from gpufan.system.lock import ControllerLock
from gpufan.system.paths import SNAPSHOT

_log = logging.getLogger(__name__)

T = TypeVar("T")

Publish = Callable[[Snapshot], None]
"""Receives every snapshot, from one thread. An error that it raises is a bug, and ends the run."""


def write_or_warn_once(write: Callable[[T], None], path: Path) -> Callable[[T], None]:
    """Return a function that calls `write`, and logs an OSError instead of raising it.

    After an error, further errors are not logged until a write succeeds. `path` is the file that the log line names.
    """
    failed = False

    def write_or_warn(item: T) -> None:
        nonlocal failed
        try:
            write(item)
            failed = False
        except OSError as error:
            if not failed:
                _log.warning("%s cannot be written: %s; control goes on", path, error.strerror)
            failed = True

    return write_or_warn


@contextmanager
def publish_to_snapshot_file(folder: Path | None, lock: ControllerLock | None) -> Iterator[list[Publish]]:
    """Give the block a list with one receiver, which writes snapshots to a file in `folder`.

    If `folder` is None, the list is empty. The file is removed after the block. If somebody removes the folder, the
    next write creates the folder, the file and the file of `lock` again.
    """
    if folder is None:
        yield []
        return
    file = SnapshotFile(folder / SNAPSHOT)

    def write_snapshot(snapshot: Snapshot) -> None:
        if lock is not None:
            lock.renew()
        file.write(snapshot)

    try:
        yield [write_or_warn_once(write_snapshot, folder / SNAPSHOT)]
    finally:
        with suppress(OSError):
            file.remove()


@contextmanager
def publish_to_recording(path: Path | None) -> Iterator[list[Publish]]:
    """Give the block a list with one receiver, which appends a row for each card to the recording `path`.

    If `path` is None, the list is empty. Raises InputError.
    """
    if path is None:
        yield []
        return
    from gpufan.daemon.recording import RecordingFile

    with RecordingFile(path) as file:
        yield [write_or_warn_once(file.write, path)]


@contextmanager
def publish_in_background(sinks: Sequence[Publish]) -> Iterator[list[Publish]]:
    """Give the block a list with one receiver for each of `sinks`. A separate thread passes the snapshots to the sink.

    A disk that hangs then delays neither control nor the end of the run.
    """
    writers = [BackgroundWriter(sink) for sink in sinks]
    try:
        yield [writer.put for writer in writers]
    finally:
        for writer in writers:
            writer.close(0.5)
