"""Saves what the target law has learnt of each card, in one file per card. A lost file does no harm."""

import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gpufan.control.law import Learnt
from gpufan.core.snapshot import Snapshot
from gpufan.daemon.publish import write_or_warn_once
from gpufan.errors import NoAnswer
from gpufan.system.background import BackgroundWriter, call_with_timeout
from gpufan.system.files import read_file, replace_unsynced
from gpufan.system.paths import state_folder

if TYPE_CHECKING:
    from gpufan.daemon.worker import Worker

_log = logging.getLogger(__name__)

SAVE_S = 600.0
"""Seconds from one save to the next. A crash loses what was learnt since the last save."""

READ_TIMEOUT_S = 1.0
"""Time limit for reading all files, s. A disk that hangs must not delay control."""

_FORMAT = 3
"""Number of the file format. It increases when a value in the file changes its meaning.

A file with another number is ignored.
"""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of the file for one card."""

    format: int
    uuid: str
    learnt: msgspec.Raw
    """A `Learnt` as JSON, if `format` is the present one."""


def learnt_folder() -> Path:
    """Return the folder of the files with learnt models, in the state folder of this user."""
    return state_folder() / "learnt"


def read_all_learnt(folder: Path, uuids: Iterable[str]) -> dict[str, Learnt]:
    """Return the learnt models of the cards `uuids`, by UUID.

    A card without a valid file is left out. If the disk does not answer within 1 s, all cards are left out.
    """
    try:
        return call_with_timeout(
            READ_TIMEOUT_S, lambda: {uuid: known for uuid in uuids if (known := read_learnt(folder, uuid))}
        )
    except NoAnswer:
        return {}


def read_learnt(folder: Path, uuid: str) -> Learnt | None:
    """Return the learnt model of the card `uuid`; None if there is no valid file."""
    if not _is_learnt_file_name(uuid):
        return None
    path = folder / f"{uuid}.json"
    try:
        content = msgspec.json.decode(read_file(path), type=_File)
        if content.format < _FORMAT:
            _log.warning("%s was written by an older gpufan and is ignored: the card is learnt anew", path)
            return None
        learnt = msgspec.json.decode(content.learnt, type=Learnt)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    sound = math.isfinite(learnt.full_power_percent) and learnt.full_power_percent > 0
    return learnt if sound and content.format == _FORMAT and content.uuid == uuid else None


def write_learnt(folder: Path, uuid: str, learnt: Learnt) -> None:
    """Save `learnt` in the file for the card `uuid`. If OSError is raised, the old file is unchanged.

    Nothing is saved if `uuid` is not safe as the name of a file.
    """
    if not _is_learnt_file_name(uuid):
        return
    folder.mkdir(parents=True, exist_ok=True)
    replace_unsynced(
        folder / f"{uuid}.json",
        msgspec.json.encode(_File(_FORMAT, uuid, msgspec.Raw(msgspec.json.encode(learnt)))) + b"\n",
    )


def _is_learnt_file_name(uuid: str) -> bool:
    """Whether `uuid` is safe as the name of a file. The driver may report any text as a UUID."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:.-]{0,99}", uuid) is not None


class LearntSaver:
    """Saves the learnt models of all cards of a run, in its own thread: every `SAVE_S` seconds, and at the end."""

    def __init__(self, folder: Path, workers: Sequence["Worker"]) -> None:
        self._workers = workers
        self._saved_s: float | None = None

        def write_all_learnt(learnt_by_uuid: Mapping[str, Learnt]) -> None:
            for uuid, known in learnt_by_uuid.items():
                write_learnt(folder, uuid, known)

        self._writer = BackgroundWriter(write_or_warn_once(write_all_learnt, folder))

    def publish(self, snapshot: Snapshot) -> None:
        """Save if `SAVE_S` seconds have passed since the last save, or since the first call of this method."""
        if self._saved_s is None:
            self._saved_s = snapshot.time_s
        elif not 0 <= snapshot.time_s - self._saved_s < SAVE_S:
            self._saved_s = snapshot.time_s
            self._save()

    def close(self) -> None:
        """Save at the end of a run. Waits at most half a second for the disk."""
        self._save()
        self._writer.close(0.5)

    def _save(self) -> None:
        """Pass the learnt models to the thread that writes them."""
        if known := {worker.gpu.info.uuid: learnt for worker in self._workers if (learnt := worker.learnt) is not None}:
            self._writer.put(known)
