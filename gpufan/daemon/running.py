"""Reads for commands which cards the running daemon has, and whether it has carried out an order."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gpufan.config.channel_names import is_same_channel
from gpufan.core.selection import card_matches
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.daemon import snapshot_file
from gpufan.errors import GpufanError, InputError
from gpufan.hwmon.channels import find_channels, is_channel_name
from gpufan.system.paths import SNAPSHOT

WAIT_S = 4.0
"""A command waits for the daemon for this long plus one interval of its ticks, s."""


def running_snapshot(runtime_folder: Path) -> Snapshot:
    """Return the snapshot of the running daemon. Raises GpufanError if no daemon works, or for simulated cards."""
    snapshot = snapshot_file.read_snapshot(runtime_folder / SNAPSHOT)
    if problem := snapshot_file.snapshot_complaint(snapshot):
        raise GpufanError(problem)
    if snapshot.simulated_s is not None:
        raise GpufanError("simulated cards obey no orders: run gpufan without --simulate")
    return snapshot


def daemon_is_running(runtime_folder: Path) -> bool:
    """Whether the process of a daemon is alive. It may hang. Raises GpufanError if the snapshot cannot be read."""
    try:
        return not snapshot_file.snapshot_writer_has_ended(snapshot_file.read_snapshot(runtime_folder / SNAPSHOT))
    except snapshot_file.NotRunning:
        return False


def cards_of_running_daemon(names: Sequence[str], runtime_folder: Path) -> list[GpuState]:
    """Return the cards and case fans of the running daemon that match `names`; all its cards if `names` is empty.

    Raises InputError if a name matches none. Raises GpufanError if no daemon works, or if a card never answered.
    """
    snapshot = running_snapshot(runtime_folder)
    if not names:
        chosen = list(snapshot.gpus)
    else:
        found = [_states_of_running_daemon(name, snapshot) for name in names]
        chosen = [state for state in snapshot.states if any(state in each for each in found)]
    if unknown := [gpu.label for gpu in chosen if not key_of_running_card(gpu)]:
        raise GpufanError(f"{', '.join(unknown)}: the card has never answered, so gpufan does not control it yet")
    return chosen


def _states_of_running_daemon(name: str, snapshot: Snapshot) -> list[GpuState]:
    """Return the cards or the case fan that `name` stands for. Raises InputError if there is none."""
    if found := [gpu for gpu in snapshot.gpus if card_matches(gpu, name)]:
        return found
    if is_channel_name(name):
        channels = find_channels()
        named = [
            state
            for state in snapshot.states
            if any(is_same_channel(name, each, channels) for each in state.channels or [state.name])
        ]
        if fans := [state for state in named if state.is_case_fan]:
            return fans
        if named:
            cards = " and ".join(gpu.label for gpu in named)
            raise InputError(f"--gpu {name}: this fan cools {cards}: name the card, such as --gpu {named[0].index}")
    known = [f"{gpu.label} ({gpu.pci or 'not answering'})" for gpu in snapshot.gpus]
    known += [fan.label for fan in snapshot.case_fans]
    kind = "case fan" if is_channel_name(name) else "card"
    raise InputError(f"--gpu {name}: gpufan controls no such {kind}; it controls {', '.join(known)}")


def key_of_running_card(gpu: GpuState) -> str:
    """Return the key of a card or case fan in the file of orders: its UUID, or its PCI address without a UUID."""
    return gpu.uuid or gpu.pci


def wait_for_running_daemon(
    runtime_folder: Path, cards: Sequence[GpuState], is_done: Callable[[GpuState], bool]
) -> tuple[list[GpuState], list[GpuState]]:
    """Wait until `is_done` is true for the state of each of `cards`. Wait at most 4 s plus one interval of the daemon.

    Returns two lists: the last states of these cards, and the states for which `is_done` is still false. Raises
    GpufanError if the daemon ends.
    """
    keys = {key_of_running_card(gpu) for gpu in cards}
    end_s = time.monotonic() + WAIT_S + running_snapshot(runtime_folder).interval_s
    while True:
        found = [gpu for gpu in running_snapshot(runtime_folder).states if key_of_running_card(gpu) in keys]
        late = [gpu for gpu in found if not is_done(gpu)]
        if not late or time.monotonic() > end_s:
            return found, late
        time.sleep(0.05)
