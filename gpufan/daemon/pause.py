"""`gpufan pause` and `gpufan resume`: let another program have a card, for a reset, a virtual machine or an unbind.

The daemon listens on nothing. The commands write into the file `pause.json` until when each card is paused, and the
daemon looks at this file at every tick.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from gpufan.core.gpu import GpuInfo
from gpufan.core.reasons import Cause, Group
from gpufan.core.selection import matches
from gpufan.core.sentences import card_line, h_mm_ss
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.daemon import snapshot_file
from gpufan.errors import GpufanError, InputError, NoPermission
from gpufan.system.clock import since_boot_s
from gpufan.system.files import read_file, remove_unsynced, replace_unsynced
from gpufan.system.paths import PAUSE, SNAPSHOT

WAIT_S = 4.0
"""The commands wait this long and one interval for the daemon, s."""

_log = logging.getLogger(__name__)


class _File(msgspec.Struct, frozen=True):
    until_s: dict[str, float]
    """End of the pause of each card, by its UUID, or by its PCI address if its UUID is unknown; s since boot."""


class Pauses:
    """The pauses that the file asks for. The file is removed at both ends of a `with` block."""

    def __init__(self, path: Path | None) -> None:
        """`path` is None if there is no file, so that no card is ever paused."""
        self._path = path
        self._version: tuple[int, int] | None = None
        self._until_s: dict[str, float] = {}

    def __enter__(self) -> "Pauses":
        self._remove()
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def look(self) -> None:
        """Read the file if it has changed. A file that is damaged, or another user's, pauses nothing."""
        if self._path is None:
            return
        status = None
        if os.access(self._path, os.F_OK):  # usually there is no file, and an exception needs three times as long
            with suppress(OSError):
                status = self._path.lstat()
        if status is None:
            self._version, self._until_s = None, {}
            return
        version = (status.st_mtime_ns, status.st_ino)
        if version == self._version:
            return
        self._version, self._until_s = version, {}
        try:
            if status.st_uid != os.geteuid():
                raise GpufanError("it belongs to another user")
            self._until_s = _read(self._path)
        except GpufanError as error:
            _log.warning("%s pauses no card: %s", self._path, error)

    def left_s(self, info: GpuInfo, now_s: float) -> float:
        """For how long the card is still paused; 0 if it is not. `now_s` is in seconds since boot."""
        if not self._until_s:
            return 0.0
        return max(self._until_s.get(info.uuid, 0.0), self._until_s.get(info.pci, 0.0), now_s) - now_s

    def _remove(self) -> None:
        if self._path is not None:
            with suppress(OSError):
                remove_unsynced(self._path)


def _read(path: Path) -> dict[str, float]:
    """The ends of pauses in the file; none if there is no file. Raises GpufanError."""
    try:
        return msgspec.json.decode(read_file(path), type=_File).until_s
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise GpufanError(f"it cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GpufanError(f"it is damaged: {error}") from error


def pause(names: Sequence[str], runtime_folder: Path, for_s: float) -> list[str]:
    """Pause the cards in `names`, or all, for `for_s` seconds, and wait until the daemon has closed them.

    Returns a line for each card. Raises InputError or GpufanError, also if the daemon has not done it in time.
    """
    cards = _controlled(names, runtime_folder)
    if any(gpu.backend == "x11" for gpu in _running(runtime_folder).gpus):
        # The X server has all cards open, as long as it runs.
        raise GpufanError("fans are set over an X server, which has every card open: stop gpufan and the X server")
    until_s = since_boot_s() + for_s
    _write(runtime_folder, _ends(runtime_folder) | {_key(gpu): until_s for gpu in cards})
    found = _wait(runtime_folder, cards, lambda gpu: gpu.reason.cause is Cause.PAUSED)
    if late := [card_line(gpu) for gpu in found if gpu.reason.cause is not Cause.PAUSED]:
        text = "; ".join(late)
        raise GpufanError(f"not paused yet: {text}; gpufan goes on trying, and `sudo gpufan resume` ends that")
    return [
        f"{gpu.label}: paused for {h_mm_ss(for_s)}: the driver controls its fans, gpufan has closed it" for gpu in found
    ]


def resume(names: Sequence[str], runtime_folder: Path) -> list[str]:
    """End the pause of the cards in `names`, or of all, and wait until the daemon has opened them again.

    Returns a line for each card. Raises InputError or GpufanError, also if the daemon has not done it in time.
    """
    cards = _controlled(names, runtime_folder)
    ended = {_key(gpu) for gpu in cards}
    _write(runtime_folder, {key: until_s for key, until_s in _ends(runtime_folder).items() if key not in ended})
    found = _wait(runtime_folder, cards, lambda gpu: gpu.reason.cause.group is not Group.PAUSED)
    if late := [card_line(gpu) for gpu in found if gpu.reason.cause.group is Group.PAUSED]:
        raise GpufanError(f"still paused: {'; '.join(late)}: look at `gpufan status`")
    return [card_line(gpu) for gpu in found]


def _running(runtime_folder: Path) -> Snapshot:
    """The snapshot of a running daemon with real cards. Raises GpufanError."""
    snapshot = snapshot_file.read(runtime_folder / SNAPSHOT)
    if problem := snapshot_file.complaint(snapshot):
        raise GpufanError(problem)
    if snapshot.simulated_s is not None:
        raise GpufanError("simulated cards cannot be paused")
    return snapshot


def _controlled(names: Sequence[str], runtime_folder: Path) -> list[GpuState]:
    """The cards of the running daemon that match one of `names`, or all. Raises InputError or GpufanError."""
    gpus = _running(runtime_folder).gpus
    for name in names:
        if not any(matches(gpu, name) for gpu in gpus):
            known = ", ".join(f"{gpu.label} ({gpu.pci or 'not answering'})" for gpu in gpus)
            raise InputError(f"--gpu {name}: gpufan controls no such card; it controls {known}")
    chosen = [gpu for gpu in gpus if not names or any(matches(gpu, name) for name in names)]
    if unknown := [gpu.label for gpu in chosen if not _key(gpu)]:
        raise GpufanError(f"{', '.join(unknown)}: the card has never answered, so it is not open: there is no need")
    return chosen


def _key(gpu: GpuState) -> str:
    return gpu.uuid or gpu.pci


def _ends(runtime_folder: Path) -> dict[str, float]:
    """The ends of all pauses. A damaged file is replaced; one that may not be read is left to `_write`."""
    try:
        return _read(runtime_folder / PAUSE)
    except GpufanError:
        return {}


def _write(runtime_folder: Path, until_s: dict[str, float]) -> None:
    try:
        replace_unsynced(runtime_folder / PAUSE, msgspec.json.encode(_File(until_s)), 0o600)
    except PermissionError:
        raise NoPermission("only root can pause and resume cards: run this with sudo") from None
    except OSError as error:
        raise GpufanError(f"cannot write {runtime_folder / PAUSE}: {error.strerror}") from error


def _wait(runtime_folder: Path, cards: Sequence[GpuState], is_done: Callable[[GpuState], bool]) -> list[GpuState]:
    """Wait until `is_done` holds for each of `cards`, or until it is too late; returns their last states."""
    keys = {_key(gpu) for gpu in cards}
    end_s = time.monotonic() + WAIT_S + _running(runtime_folder).interval_s
    while True:
        found = [gpu for gpu in _running(runtime_folder).gpus if _key(gpu) in keys]
        if all(map(is_done, found)) or time.monotonic() > end_s:
            return found
        time.sleep(0.05)
