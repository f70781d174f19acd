"""The snapshot file: written by the daemon, read by everything that looks on."""

import time
from pathlib import Path

import msgspec

from gpufan.core.snapshot import FORMAT, Snapshot
from gpufan.errors import GpufanError
from gpufan.system.files import read_file, remove_unsynced, replace_unsynced
from gpufan.system.printable import printable_values


class SnapshotFile:
    """Writes snapshots. A failure is for the caller to report; the next write tries anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encoder = msgspec.json.Encoder()

    def write(self, snapshot: Snapshot) -> None:
        """Replace the file. Raises OSError."""
        replace_unsynced(self._path, self._encoder.encode(snapshot))

    def remove(self) -> None:
        """Remove the file, if there is one. Raises OSError."""
        remove_unsynced(self._path)


def read(path: Path) -> Snapshot:
    """Read the snapshot of a running daemon. Raises GpufanError when there is none to be trusted."""
    try:
        snapshot = msgspec.convert(printable_values(msgspec.json.decode(read_file(path))), Snapshot)
    except FileNotFoundError:
        raise GpufanError(f"no gpufan is running (no {path}): start it with `sudo gpufan run`") from None
    except OSError as error:
        raise GpufanError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise GpufanError(f"{path} is not a snapshot of this version of gpufan: {error}") from error
    if snapshot.format != FORMAT:
        raise GpufanError(f"{path} was written by gpufan {snapshot.version}: restart the daemon")
    return snapshot


def is_orphan(snapshot: Snapshot) -> bool:
    """Whether the process that wrote `snapshot` is gone, and so has not given the fans back."""
    return not Path(f"/proc/{snapshot.pid}").exists()


def stale_s(snapshot: Snapshot) -> float | None:
    """Seconds between `snapshot` and now, where a living daemon would have written another; else None."""
    # A snapshot from the future was written before the clock was set back.
    age_s = abs(time.time() - snapshot.time_s)
    return age_s if age_s > 5 + 2 * snapshot.interval_s else None


def complaint(snapshot: Snapshot) -> str | None:
    """What is wrong with the gpufan that wrote `snapshot`, and what to do; None where it lives."""
    if is_orphan(snapshot):
        return f"process {snapshot.pid} ended without giving the fans back: `sudo gpufan restore`"
    if stale_s(snapshot) is None:
        return None
    return (
        f"nothing new since {time.strftime('%F %T', time.localtime(snapshot.time_s))}: process {snapshot.pid} hangs;"
        f" `sudo kill -9 {snapshot.pid}`, then `sudo gpufan restore`"
    )
