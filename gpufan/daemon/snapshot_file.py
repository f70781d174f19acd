"""The snapshot file: the daemon writes it, and all other commands read it."""

import os
import time
from pathlib import Path

import msgspec

from gpufan import __version__
from gpufan.core.sentences import state_sentence
from gpufan.core.snapshot import FORMAT, GpuState, SettingsInUse, Snapshot
from gpufan.errors import GpufanError
from gpufan.system.files import read_file, remove_unsynced, replace_unsynced
from gpufan.system.printable import printable_values
from gpufan.system.processes import process_is_alive

_STARTED_S = time.time()


class SnapshotFile:
    """Writes snapshots. After an error the next write tries again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encoder = msgspec.json.Encoder()

    def write(self, snapshot: Snapshot) -> None:
        """Replace the file. Raises OSError."""
        replace_unsynced(self._path, self._encoder.encode(snapshot))

    def remove(self) -> None:
        """Remove the file, if it exists. Raises OSError."""
        remove_unsynced(self._path)


def snapshot_now(
    gpus: tuple[GpuState, ...],
    *,
    case_fans: tuple[GpuState, ...] = (),
    interval_s: float,
    dry_run: bool = False,
    simulated_s: float | None = None,
    reload_refused: str | None = None,
    settings_in_use: SettingsInUse = SettingsInUse.CHOSEN,
    settings_refused: str | None = None,
    clock_steps: int = 0,
    clock_step_s: float = 0.0,
) -> Snapshot:
    """Return a snapshot with the states `gpus`, the present time, and the number of this process.

    The other parameters are fields of `Snapshot`.
    """
    return Snapshot(
        format=FORMAT,
        version=__version__,
        pid=os.getpid(),
        time_s=time.time(),
        interval_s=interval_s,
        dry_run=dry_run,
        gpus=gpus,
        simulated_s=simulated_s,
        reload_refused=reload_refused,
        settings_in_use=settings_in_use,
        settings_refused=settings_refused,
        started_s=_STARTED_S,
        clock_steps=clock_steps,
        clock_step_s=round(clock_step_s, 3),
        case_fans=case_fans,
    )


class _Header(msgspec.Struct):
    """The fields that a snapshot of any format has."""

    format: int
    version: str


class NotRunning(GpufanError):
    """There is no snapshot, so no daemon is running."""


def read_snapshot(path: Path) -> Snapshot:
    """Return the snapshot in the file. Raises NotRunning if there is no file.

    Raises GpufanError if the file cannot be read, or has no valid snapshot.
    """
    try:
        content = printable_values(msgspec.json.decode(read_file(path)))
        header = msgspec.convert(content, _Header)
        if header.format != FORMAT:
            remedy = "use that version"
            if header.format < FORMAT:
                remedy = "run `install-service` again, or restart the gpufan that you started by hand"
            raise GpufanError(f"{path} was written by gpufan {header.version}, this is {__version__}: {remedy}")
        snapshot = msgspec.convert(content, Snapshot)
        for gpu in snapshot.states:
            state_sentence(gpu)  # raises TypeError if a number is missing
    except FileNotFoundError:
        raise NotRunning(f"no gpufan is running (no {path}): start it with `sudo gpufan run`") from None
    except OSError as error:
        remedy = "remove it, or name another folder with --runtime-dir"
        if isinstance(error, PermissionError):
            remedy = "run this with sudo"
        raise GpufanError(f"cannot read {path}: {error.strerror}: {remedy}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
        remedy = "restart gpufan, or name another folder with --runtime-dir"
        raise GpufanError(f"{path} is not a snapshot of this version of gpufan: {error}: {remedy}") from error
    return snapshot


def snapshot_writer_has_ended(snapshot: Snapshot) -> bool:
    """Whether the process that wrote `snapshot` has ended without giving the fans back."""
    return not process_is_alive(snapshot.pid)


def snapshot_stale_s(snapshot: Snapshot) -> float | None:
    """Return the age of `snapshot`, s, if it is too old for a daemon that works; else None."""
    # A snapshot from the future was written before the clock was set back.
    age_s = abs(time.time() - snapshot.time_s)
    return age_s if age_s > 5 + 2 * snapshot.interval_s else None


def snapshot_complaint(snapshot: Snapshot) -> str | None:
    """Return why the gpufan that wrote `snapshot` no longer works, and the remedy; None while it works."""
    if snapshot_writer_has_ended(snapshot):
        return f"process {snapshot.pid} ended without giving the fans back: `sudo gpufan restore`"
    if snapshot_stale_s(snapshot) is None:
        return None
    return (
        f"nothing new since {time.strftime('%F %T', time.localtime(snapshot.time_s))}: process {snapshot.pid} hangs;"
        f" `sudo kill -9 {snapshot.pid}`, then `sudo gpufan restore`"
    )
