"""What was learnt of each card, kept from one run to the next: a small file per UUID, which nothing depends on."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gpufan.control.model import Learnt
from gpufan.report.snapshot import Snapshot

if TYPE_CHECKING:
    from gpufan.worker import Worker

SAVE_S = 600.0
"""Seconds from one save to the next; a crash costs what was learnt since."""

_FORMAT = 1
"""Raised when a number changes its meaning: what an older gpufan wrote is then learnt anew."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of a file."""

    format: int
    uuid: str
    learnt: Learnt


def default_folder() -> Path:
    """Where it is kept: in the state directory that systemd gives a service, which is the same for all others."""
    return Path(os.environ.get("STATE_DIRECTORY", "/var/lib/gpufan")) / "learnt"


def read(folder: Path, uuid: str) -> Learnt | None:
    """What was learnt of the card `uuid`; None where nothing is kept, or nothing that makes sense."""
    try:
        content = msgspec.json.decode((folder / f"{uuid}.json").read_bytes(), type=_File)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    numbers = (*content.learnt.values, *content.learnt.deviations)
    sound = all(map(math.isfinite, numbers)) and min(content.learnt.deviations) > 0
    return content.learnt if sound and content.format == _FORMAT and content.uuid == uuid else None


def write(folder: Path, uuid: str, learnt: Learnt) -> None:
    """Keep what was learnt of the card `uuid`, all of it or nothing. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{uuid}.json.new"
    with temporary.open("wb") as file:
        file.write(msgspec.json.encode(_File(_FORMAT, uuid, learnt)) + b"\n")
    temporary.replace(folder / f"{uuid}.json")


class Keeper:
    """Writes what the cards of a run have taught, every `SAVE_S` seconds and at the end."""

    def __init__(self, folder: Path, workers: Sequence["Worker"]) -> None:
        self.folder = folder
        self._workers = workers
        self._saved_s: float | None = None

    def publish(self, snapshot: Snapshot) -> None:
        """Save if it is time. Raises OSError."""
        if self._saved_s is None or not 0 <= snapshot.time_s - self._saved_s < SAVE_S:
            first, self._saved_s = self._saved_s is None, snapshot.time_s
            if not first:
                self.save()

    def save(self) -> None:
        """Save now. Raises OSError."""
        for worker in self._workers:
            if worker.learnt is not None:
                write(self.folder, worker.gpu.info.uuid, worker.learnt)
