"""Receivers of snapshots: the snapshot file and a recording. None of them delays control."""

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


def warn_once(write: Callable[[T], None], path: Path) -> Callable[[T], None]:
    """Wrap `write`: an OSError is logged, not raised. Further errors are not logged until a write succeeds."""
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
def snapshot_file(folder: Path | None, lock: ControllerLock | None) -> Iterator[list[Publish]]:
    """Write snapshots to a file in `folder` during the block, and remove it afterwards. None writes no file.

    If somebody has removed the folder, the next write creates folder, `lock` and file again.
    """
    if folder is None:
        yield []
        return
    file = SnapshotFile(folder / SNAPSHOT)

    def write(snapshot: Snapshot) -> None:
        if lock is not None:
            lock.renew()
        file.write(snapshot)

    try:
        yield [warn_once(write, folder / SNAPSHOT)]
    finally:
        with suppress(OSError):
            file.remove()


@contextmanager
def recording(path: Path | None) -> Iterator[list[Publish]]:
    """Append a row for each card and tick to the recording in `path`. None records nothing. Raises InputError."""
    if path is None:
        yield []
        return
    from gpufan.daemon.recording import RecordingFile

    with RecordingFile(path) as file:
        yield [warn_once(file.write, path)]


@contextmanager
def in_background(sinks: Sequence[Publish]) -> Iterator[list[Publish]]:
    """Run each of `sinks` in its own thread: a disk that hangs delays neither control nor the end of the run."""
    writers = [BackgroundWriter(sink) for sink in sinks]
    try:
        yield [writer.put for writer in writers]
    finally:
        for writer in writers:
            writer.close(0.5)
