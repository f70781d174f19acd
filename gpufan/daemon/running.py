"""The running daemon as commands see it: its cards, and whether it has done what a command has ordered."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gpufan.core.selection import card_matches
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.daemon import snapshot_file
from gpufan.errors import GpufanError, InputError
from gpufan.system.paths import SNAPSHOT

WAIT_S = 4.0
"""A command waits this long and one interval for the daemon, s."""


def running_snapshot(runtime_folder: Path) -> Snapshot:
    """The snapshot of a running daemon with real cards. Raises GpufanError."""
    snapshot = snapshot_file.read(runtime_folder / SNAPSHOT)
    if problem := snapshot_file.complaint(snapshot):
        raise GpufanError(problem)
    if snapshot.simulated_s is not None:
        raise GpufanError("simulated cards obey no orders: run gpufan without --simulate")
    return snapshot


def is_running(runtime_folder: Path) -> bool:
    """Whether a daemon is alive, even one that hangs. Raises GpufanError if its snapshot cannot be read."""
    try:
        return not snapshot_file.is_orphan(snapshot_file.read(runtime_folder / SNAPSHOT))
    except snapshot_file.NotRunning:
        return False


def controlled_cards(names: Sequence[str], runtime_folder: Path) -> list[GpuState]:
    """The cards of the running daemon that match one of `names`, or all. Raises InputError or GpufanError."""
    gpus = running_snapshot(runtime_folder).gpus
    for name in names:
        if not any(card_matches(gpu, name) for gpu in gpus):
            known = ", ".join(f"{gpu.label} ({gpu.pci or 'not answering'})" for gpu in gpus)
            raise InputError(f"--gpu {name}: gpufan controls no such card; it controls {known}")
    chosen = [gpu for gpu in gpus if not names or any(card_matches(gpu, name) for name in names)]
    if unknown := [gpu.label for gpu in chosen if not card_key(gpu)]:
        raise GpufanError(f"{', '.join(unknown)}: the card has never answered, so gpufan does not control it yet")
    return chosen


def card_key(gpu: GpuState) -> str:
    """The key of a card in the file of orders: its UUID, or its PCI address if the UUID is unknown."""
    return gpu.uuid or gpu.pci


def wait_until(
    runtime_folder: Path, cards: Sequence[GpuState], is_done: Callable[[GpuState], bool]
) -> tuple[list[GpuState], list[GpuState]]:
    """Wait until `is_done` holds for each of `cards`, or until it is too late.

    Returns their last states, and those for which it does not hold.
    """
    keys = {card_key(gpu) for gpu in cards}
    end_s = time.monotonic() + WAIT_S + running_snapshot(runtime_folder).interval_s
    while True:
        found = [gpu for gpu in running_snapshot(runtime_folder).gpus if card_key(gpu) in keys]
        late = [gpu for gpu in found if not is_done(gpu)]
        if not late or time.monotonic() > end_s:
            return found, late
        time.sleep(0.05)
