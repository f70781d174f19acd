"""`gpufan restore` and `gpufan list`: give fans back to the driver, or show the cards. No card is controlled here."""

import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from gpufan.config.settings import Settings, Source
from gpufan.core.gpu import Gpu, GpuInfo, Reading
from gpufan.core.reasons import Control
from gpufan.core.selection import select_cards, split_controllable_cards
from gpufan.core.snapshot import Snapshot
from gpufan.daemon import snapshot_file, taken
from gpufan.daemon.read_back import release_and_read_back
from gpufan.daemon.snapshot_file import SnapshotFile
from gpufan.errors import DriverError, GpuError, GpufanError, GpuLost, InputError, NoAnswer
from gpufan.gpu import release_fans
from gpufan.system.background import call_all, call_with_timeout
from gpufan.system.files import remove_unsynced
from gpufan.system.lock import controller_lock
from gpufan.system.paths import SNAPSHOT, TAKEN

CARD_TIMEOUT_S = 5.0
"""Time limit for one card to answer, s."""

_NOT_GIVEN_BACK = "fans not given back to the driver: "

_log = logging.getLogger(__name__)


def restore_cards(names: Sequence[str], runtime_folder: Path, source: Source) -> list[str]:
    """Give the fans of every card in `names`, or of all, back to the driver. Returns a line for each card.

    `source` has the settings, which name the backend and the display. Raises InputError or DriverError. If fans could
    not be given back, raises GpufanError that names the cards.
    """
    from gpufan.gpu.cards import open_cards

    try:
        run = source.read().run_settings()
    except InputError as error:
        _log.warning("%s; gpufan goes on without this file", error)
        run = Settings(options=source.options).run_settings()
    failed: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(controller_lock(_lock_folder_for_restore(runtime_folder)))
        channel_lines = [] if names else _restore_channels(runtime_folder, None, failed)
        try:
            cards = stack.enter_context(closing(open_cards(run.backend, run.display, runtime_folder, names)))
        except DriverError as error:  # fans on headers of the motherboard do not need the driver
            raise type(error)("; ".join([*channel_lines, *failed, str(error)])) from error
        chosen = select_cards(cards.gpus, names)
        cards.start_x_server(chosen)
        usable, uncontrollable = split_controllable_cards(chosen)
        lines = [f"{line}: nothing to give back" for line in uncontrollable]
        # All cards at the same time: a card that hangs must not use up the time of the others.
        results = call_all(3 * CARD_TIMEOUT_S, [partial(_restore_card, gpu) for gpu in usable])
        for gpu, result in zip(usable, results, strict=True):
            if result is None:
                lines.append(f"{gpu.info.label}: the driver controls its fans")
            elif isinstance(result, GpufanError):
                failed.append(f"{gpu.info.label}: {result}")
            else:
                raise result
        uuids = [gpu.info.uuid for gpu in chosen]
        lines += _restore_channels(runtime_folder, uuids, failed) if names else channel_lines
        lines += _restore_limits(runtime_folder, uuids, failed)
    if failed:
        raise GpufanError(_NOT_GIVEN_BACK + "; ".join(failed))
    if not names:
        _forget_restored_run(runtime_folder)
    return lines


def restore_taken(runtime_folder: Path, source: Source) -> list[str]:
    """Give the fans and limits back that a killed run has set. Returns a line for each card and each limit.

    The record in `runtime_folder` names the cards, and no other card is opened. `source` has the settings. If fans or
    limits could not be given back, raises GpufanError that names the cards.
    """
    path = runtime_folder / TAKEN
    lines: list[str] = []
    failed: list[str] = []
    left: set[str] = set()
    with controller_lock(_lock_folder_for_restore(runtime_folder)):
        cards = taken.read_taken(path)
        over_x = [card for card in cards if card.backend == "x11"]
        over_nvml = [card for card in cards if card.backend != "x11"]
        notes: dict[str, list[str]] = {}
        reasons = release_fans.release_fans_and_limits([msgspec.to_builtins(card) for card in over_nvml], notes=notes)
        for card in over_nvml:
            if card.uuid in reasons:
                failed.append(f"{card.label}: {reasons[card.uuid]}")
            else:
                lines.append(f"{card.label}: {_restored_card_text(card)}")
            lines += [f"{card.label}: {note}" for note in notes.get(card.uuid, [])]
        left.update(reasons)
    if over_x:
        # All of them use the same X server. Its cookie file is the one of the process that set the fans.
        os.environ.setdefault("XAUTHORITY", over_x[0].xauthority or "")
        options = msgspec.structs.replace(source.options, backend="x11", display=over_x[0].display)
        try:
            lines += restore_cards([card.uuid for card in over_x], runtime_folder, replace(source, options=options))
        except GpufanError as error:
            failed.append(str(error).removeprefix(_NOT_GIVEN_BACK))
            left.update(card.uuid for card in over_x)
    if failed:
        with suppress(OSError):
            release_fans.leave_cards_in_record(path, left)
        raise GpufanError(_NOT_GIVEN_BACK + "; ".join(failed))
    _forget_restored_run(runtime_folder)
    return lines


def _restored_card_text(card: taken.TakenCard) -> str:
    """Return a text that says who controls the fans of `card`, which were given back."""
    names = ", ".join(channel.name for channel in card.channels)
    return f"{names} is as it was before gpufan" if names else "the driver controls its fans"


def _restore_channels(runtime_folder: Path, uuids: Sequence[str] | None, failed: list[str]) -> list[str]:
    """Put the channels back that a killed run has set for the cards `uuids`, or all if it is None.

    Returns a line for each card. For each failure, a line is added to `failed`. Lasts at most `CARD_TIMEOUT_S`.
    """
    lines: list[str] = []
    cards: list[taken.TakenCard] = []
    with suppress(GpufanError):  # `_restore_limits` warns of a damaged record
        recorded = taken.read_taken(runtime_folder / TAKEN)
        cards = [card for card in recorded if card.channels and (uuids is None or card.uuid in uuids)]
    calls = [partial(release_fans.release_channels, msgspec.to_builtins(card.channels)) for card in cards]
    for card, reason in zip(cards, call_all(CARD_TIMEOUT_S, calls), strict=True):
        (failed if reason else lines).append(f"{card.label}: {reason or _restored_card_text(card)}")
    return lines


def _restore_limits(runtime_folder: Path, uuids: Sequence[str], failed: list[str]) -> list[str]:
    """Give the limits back that a killed run has changed on the cards `uuids`. Returns a line for each limit.

    For each card whose limits could not be given back, a line is added to `failed`.
    """
    cards: Sequence[taken.TakenCard] = ()
    try:
        cards = [card for card in taken.read_taken(runtime_folder / TAKEN) if card.limits and card.uuid in uuids]
    except GpufanError:
        look = "look at them with `nvidia-smi -q -d POWER,TEMPERATURE`"
        _log.warning("%s cannot be read, so limits that gpufan has set may still be set: %s", TAKEN, look)
    notes: dict[str, list[str]] = {}
    reasons = release_fans.release_limits([msgspec.to_builtins(card) for card in cards], notes)
    failed += [f"{card.label}: {reasons[card.uuid]}" for card in cards if card.uuid in reasons]
    return [f"{card.label}: {note}" for card in cards for note in notes.get(card.uuid, [])]


def _lock_folder_for_restore(runtime_folder: Path) -> Path | None:
    """Return the folder of the lock that a restore must hold; None if the restore must do without a lock.

    That is so if systemd has killed the daemon: the daemon may hang in the driver and still hold the lock.
    """
    return None if os.environ.get("EXIT_CODE") in ("killed", "dumped") else runtime_folder


def _forget_restored_run(runtime_folder: Path) -> None:
    """Remove the snapshot and the record of a killed gpufan, since they are no longer true."""
    with suppress(OSError):
        SnapshotFile(runtime_folder / SNAPSHOT).remove()
        remove_unsynced(runtime_folder / TAKEN)


def _restore_card(gpu: Gpu) -> None:
    """Give the fans of `gpu` back to the driver. If NVML cannot do this, try it over X. Raises GpufanError."""
    try:
        call_with_timeout(CARD_TIMEOUT_S, partial(release_and_read_back, gpu))
    except GpuLost:
        # Its driver may have restarted, or may be slow in opening it.
        gpu.reopen()
        call_with_timeout(CARD_TIMEOUT_S, partial(release_and_read_back, gpu))
    except NoAnswer:
        raise
    except GpuError as error:
        result = gpu.fall_back(str(error))
        if result.x_error:
            raise GpuError(f"{error}; over X it fails too: {result.x_error}") from error
        if not result.switched:
            raise
        try:
            call_with_timeout(CARD_TIMEOUT_S, partial(release_and_read_back, gpu))
        except GpufanError as x_error:
            raise GpuError(f"{error}; over X it fails too: {x_error}") from x_error


def cards_to_list(
    names: Sequence[str], profile: str | None, backend: str, display: str | None, runtime_folder: Path
) -> list[tuple[GpuInfo, Reading | None]]:
    """Return properties and reading of every card in `names`, or of all. The reading of a card that hangs is None.

    If `profile` is not None, the cards are simulated. `backend` and `display` are those of the settings. If gpufan
    runs, its snapshot in `runtime_folder` shows which cards need X. Raises InputError, DriverError or GpufanError.
    """
    if profile is not None:
        from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox

        box = SimulatedBox(PROFILES[profile], WORKLOADS["idle"])
        return [(gpu.info, gpu.read()) for gpu in select_cards(box.cards, names)]
    from gpufan.gpu.cards import open_cards, read_all_cards

    cards_of: list[tuple[GpuInfo, Reading | None]] = []
    backends = _backends_to_list(runtime_folder) if backend == "auto" else {}
    with (
        TemporaryDirectory(prefix="gpufan-") as folder,
        closing(open_cards(backend, display, Path(folder), names)) as cards,
    ):
        chosen = select_cards(cards.gpus, names)
        readings = read_all_cards([gpu.observe for gpu in chosen])
        for gpu, reading in zip(chosen, readings, strict=True):
            info = gpu.info
            if info.uuid in backends:
                used, reason = backends[info.uuid]
                info = replace(info, backend=used, backend_reason=reason)
                if used == "hwmon":
                    info = replace(info, uncontrollable_reason=None)
            cards_of.append((info, reading))
    return cards_of


def controllers_to_list(runtime_folder: Path) -> dict[str, int]:
    """Return an entry for each card whose fans a running gpufan sets. If no gpufan runs, there is no entry.

    The key is the UUID of the card. The value is the number of the process of gpufan.
    """
    if (snapshot := live_snapshot_to_list(runtime_folder)) is None:
        return {}
    return {gpu.uuid: snapshot.pid for gpu in snapshot.gpus if gpu.control is Control.OURS}


def _backends_to_list(runtime_folder: Path) -> dict[str, tuple[str, str]]:
    """Return an entry for each card whose fans a running gpufan does not set through NVML; none if no gpufan runs.

    The key is the UUID of the card. The value is the backend, and why the fans are not set through NVML.
    """
    if (snapshot := live_snapshot_to_list(runtime_folder)) is None:
        return {}
    return {gpu.uuid: (gpu.backend, gpu.backend_reason) for gpu in snapshot.gpus if gpu.backend_reason}


def live_snapshot_to_list(runtime_folder: Path) -> Snapshot | None:
    """Return the snapshot of the gpufan that runs; None if no gpufan runs."""
    with suppress(GpufanError):
        snapshot = snapshot_file.read_snapshot(runtime_folder / SNAPSHOT)
        if snapshot_file.snapshot_complaint(snapshot) is None:
            return snapshot
    return None
