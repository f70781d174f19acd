"""What was learnt of each card, kept from one run to the next: a small file per UUID, which nothing depends on."""

import math
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gpufan.control.card_model import Learnt
from gpufan.core.snapshot import Snapshot
from gpufan.errors import NoAnswer
from gpufan.system.background import call_with_timeout
from gpufan.system.files import read_file, replace_unsynced

if TYPE_CHECKING:
    from gpufan.daemon.worker import Worker

SAVE_S = 600.0
"""Seconds from one save to the next; a crash costs what was learnt since."""

PATIENCE_S = 1.0
"""A disk that does not give what was learnt within this, s, is not waited for: cards grow warm meanwhile."""

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


def read_all(folder: Path, uuids: Iterable[str]) -> dict[str, Learnt]:
    """What was learnt of the cards `uuids`, of those of which something is kept; nothing where the disk hangs."""
    try:
        return call_with_timeout(PATIENCE_S, lambda: {uuid: known for uuid in uuids if (known := read(folder, uuid))})
    except NoAnswer:
        return {}


def read(folder: Path, uuid: str) -> Learnt | None:
    """What was learnt of the card `uuid`; None where nothing is kept, or nothing that makes sense."""
    if not _makes_a_name(uuid):
        return None
    try:
        content = msgspec.json.decode(read_file(folder / f"{uuid}.json"), type=_File)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    numbers = (*content.learnt.values, *content.learnt.deviations)
    sound = all(map(math.isfinite, numbers)) and min(content.learnt.deviations) > 0
    return content.learnt if sound and content.format == _FORMAT and content.uuid == uuid else None


def write(folder: Path, uuid: str, learnt: Learnt) -> None:
    """Keep what was learnt of the card `uuid`, all of it or nothing. Raises OSError."""
    if not _makes_a_name(uuid):
        return
    folder.mkdir(parents=True, exist_ok=True)
    replace_unsynced(folder / f"{uuid}.json", msgspec.json.encode(_File(_FORMAT, uuid, learnt)) + b"\n")


def _makes_a_name(uuid: str) -> bool:
    """Whether a file can have this name, and none elsewhere; what a driver says may be anything."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:.-]{0,99}", uuid) is not None


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
