"""Makes the running daemon read its settings again, and waits until the snapshot shows that it follows them."""

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from pathlib import Path

from gpufan.config.settings import Source
from gpufan.core.gpu import ASSUMED_DUTY_RANGE, GpuInfo
from gpufan.core.quiet_hours import quiet_at
from gpufan.core.sentences import refused_settings_sentence
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.daemon import snapshot_file
from gpufan.errors import GpufanError, InputError
from gpufan.system.clock import local_clock_time
from gpufan.system.files import read_file
from gpufan.system.paths import SNAPSHOT
from gpufan.system.processes import PROC

WAIT_S = 5.0
"""After a change, the daemon must follow the new settings within this time, s."""
_POLL_S = 0.1


class DaemonReply(str, Enum):
    """Whether the daemon follows changed settings, as the page reads it."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    NOT_RUNNING = "not running"


def reload_by_hand(runtime_folder: Path) -> None:
    """Make a gpufan that is not a service read its settings again.

    Nothing happens if it reads them only at its start.
    """
    with suppress(GpufanError, OSError):
        snapshot = snapshot_file.read_snapshot(runtime_folder / SNAPSHOT)
        if snapshot.simulated_s is None and _why_only_at_start(snapshot.pid) == "":
            os.kill(snapshot.pid, signal.SIGHUP)


def _why_only_at_start(pid: int) -> str | None:
    """Return why the process `pid` reads its settings only at its start; empty if it also reads them at SIGHUP.

    Returns None if it is no `gpufan run`. Raises OSError.
    """
    folder = PROC / str(pid)
    words = read_file(folder / "cmdline").decode("utf-8", "replace").split("\0")
    if "run" not in words or not any("gpufan" in word for word in words):
        return None
    if read_file(folder / "stat").rpartition(b") ")[2].split()[4] != b"0":
        return "it runs in a terminal"  # there, SIGHUP ends it
    caught = re.search(rb"^SigCgt:\s*([0-9a-f]+)$", read_file(folder / "status"), re.MULTILINE)
    is_caught = caught is not None and bool(int(caught[1], 16) & 1 << signal.SIGHUP - 1)
    return "" if is_caught else "it ignores SIGHUP"


def _why_not_reloaded(snapshot: Snapshot) -> str:
    """Return why the gpufan that published `snapshot` reads its settings only at its start.

    The text is empty if it reads them again, or if this is unknown.
    """
    if snapshot.simulated_s is not None:
        is_own = snapshot.pid == os.getpid()  # the simulation of this page, which reads them again
        return "" if is_own else "it is a simulation"
    with suppress(OSError):
        return _why_only_at_start(snapshot.pid) or ""
    return ""


def wait_until_followed(
    path: Path, runtime_folder: Path, pause: Callable[[float], None] = time.sleep
) -> tuple[DaemonReply, str]:
    """Wait until the snapshot shows that the daemon follows the settings file `path`, or has refused it.

    Returns the reply of the daemon, and a sentence about it; the sentence is empty if the daemon follows the file.
    `pause` waits for a number of seconds.
    """
    begin_s = time.time()
    for _ in range(round(WAIT_S / _POLL_S)):
        try:
            snapshot = snapshot_file.read_snapshot(runtime_folder / SNAPSHOT)
        except GpufanError as error:
            return DaemonReply.NOT_RUNNING, str(error)
        if complaint := snapshot_file.snapshot_complaint(snapshot):
            return DaemonReply.NOT_RUNNING, complaint
        if why := _why_not_reloaded(snapshot):
            return DaemonReply.REFUSED, (
                f"gpufan (process {snapshot.pid}) does not follow it: {why},"
                " so it reads its settings only at its start; start it again"
            )
        # The daemon may have published this snapshot just before it read the file.
        if snapshot.time_s > begin_s + snapshot.interval_s:
            if snapshot.reload_refused is not None:
                return DaemonReply.REFUSED, refused_settings_sentence(snapshot.reload_refused)
            try:
                if _is_followed(path, snapshot):
                    return DaemonReply.ACCEPTED, ""
            except InputError as error:  # somebody else has changed the file meanwhile
                return DaemonReply.REFUSED, str(error)
        pause(_POLL_S)
    why = "an option of its command line counts more, or it uses another file, or it must be restarted"
    return DaemonReply.REFUSED, f"gpufan runs, but does not follow it: {why}"


def _is_followed(path: Path, snapshot: Snapshot) -> bool:
    """Whether all cards of `snapshot` follow the settings file. A card that follows an order is not considered."""
    settings = Source(path, required=False).read()
    for gpu in snapshot.gpus:
        of_card = settings.for_card(info_of_state(gpu))
        quiet = quiet_at(of_card.quiet_hours, local_clock_time())
        if gpu.settings and not gpu.order and gpu.settings != str(of_card.in_quiet_hours(quiet)):
            return False
    return True


def info_of_state(gpu: GpuState) -> GpuInfo:
    """Return the properties of a card of which a snapshot shows the state. An unknown range of duties is assumed."""
    return GpuInfo(
        uuid=gpu.uuid,
        pci=gpu.pci,
        index=gpu.index,
        name=gpu.name,
        fan_count=len(gpu.fans),
        duty_range=gpu.duty_range or ASSUMED_DUTY_RANGE,
        slowdown_c=gpu.slowdown_c,
        backend=gpu.backend,
    )
