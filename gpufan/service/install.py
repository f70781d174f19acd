"""Install the service. The manifest records each change before it is made.

If a step fails before the service is active, all changes are undone.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from gpufan.errors import GpufanError
from gpufan.service import config_file, manifest, root_copy
from gpufan.service.disabled_unit import DisabledUnit
from gpufan.service.file_content import read_content, write_content
from gpufan.service.manifest import Manifest
from gpufan.service.plan import Plan, UnitStart
from gpufan.service.proof import guarded, prove_control
from gpufan.service.steps import AddUndo, Say, undone_on_failure, why_failed
from gpufan.service.units import SERVICE
from gpufan.system import files, signals
from gpufan.system.lock import controller_lock
from gpufan.system.paths import RUNTIME_FOLDER
from gpufan.system.systemctl import UNIT_FOLDER, journal_lines, systemctl, systemctl_show, systemctl_stop_and_disable

START_S = 30.0
"""Time limit for the service to become active, s."""
COMPANION_S = 2.0
"""A companion service counts as started when it has run for this time, s."""


def install(plan: Plan, say: Say) -> None:
    """Carry out `plan`. If a step fails before the service is active, undo all changes and raise its error."""
    before = manifest.load_manifest()
    now = manifest.load_manifest() or Manifest()
    signals.exit_at_signals()
    os.umask(0o022)  # only root may write the new files, everybody may read them
    for unit in plan.disabled:
        now.add_disabled(unit)
    now.copied = now.copied or plan.copy_reason is not None
    for file in (*map(Path, plan.units), *plan.command_files):
        now.add_file(file)
    with undone_on_failure(say, partial(_restore_manifest, before)) as undo:
        now.save()
        if plan.service.is_active:
            undo(systemctl, "start", SERVICE)
        for rival in plan.rivals if plan.options.start else ():
            undo(rival.start)
            rival.stop()
        if plan.gpus_to_prove:
            _prove_control(plan, say)
        if plan.copy_reason:
            _replace_copy(undo)
        if plan.config_text is not None:
            _write_file(config_file.CONFIG.resolve(), plan.config_text, undo, config_file.config_mode())
        if plan.options.alerts_text is not None:
            _write_file(config_file.ALERTS, plan.options.alerts_text, undo, config_file.ALERTS_MODE)
        undo(systemctl, "daemon-reload")
        for path, text in plan.units.items():
            _write_file(Path(path), text, undo)
        for unit in plan.disabled:
            _disable_unit(unit, plan.options.start, undo)
        systemctl("daemon-reload")
        _enable_service(plan.service, undo)
    for folder in root_copy.leftovers():
        with suppress(OSError):
            root_copy.remove_folder(folder)
    # The fans are under control now. A failure below does not change that, so it is only a warning.
    _warn_on_failure(say, _remove_units, plan.removed_units, now)
    for companion in plan.companions:
        _warn_on_failure(say, _enable_companion, companion)
    _warn_on_failure(say, _check_companions, [companion.unit for companion in plan.companions if companion.starts])
    for file, content in plan.command_files.items():
        _warn_on_failure(say, write_content, file, content)
    if plan.service.starts:
        now.digest = plan.digest
        _warn_on_failure(say, now.save)


def _warn_on_failure(say: Say, step: Callable[..., None], *arguments: object) -> None:
    try:
        step(*arguments)
    except (GpufanError, OSError) as error:
        say(f"warning: {why_failed(error)}; gpufan controls the fans nevertheless")


def _remove_units(units: list[str], now: Manifest) -> None:
    for unit in units:
        systemctl_stop_and_disable(unit)
        path = UNIT_FOLDER / unit
        write_content(path, now.files.pop(str(path)))
        now.save()
    if units:
        systemctl("daemon-reload")


def _enable_companion(companion: UnitStart) -> None:
    if not companion.is_enabled:
        systemctl("enable", "--quiet", companion.unit)
    if companion.starts:
        systemctl("restart", companion.unit)


def _check_companions(started: list[str]) -> None:
    """Raise GpufanError if one of the units has ended soon after its start."""
    if started:
        time.sleep(COMPANION_S)
    ended = [unit for unit in started if systemctl_show(unit, "ActiveState")["ActiveState"] != "active"]
    if ended:
        raise GpufanError(f"{', '.join(ended)} does not stay active: see `journalctl -u {ended[0]}`")


def _restore_manifest(before: Manifest | None) -> None:
    if before is None:
        manifest.delete_manifest()
    else:
        before.save()


def _prove_control(plan: Plan, say: Say) -> None:
    assert plan.cards is not None
    with controller_lock(RUNTIME_FOLDER, say):
        plan.cards.start_x_server(plan.gpus_to_prove)
        with guarded(RUNTIME_FOLDER, plan.gpus_to_prove):
            prove_control(plan.gpus_to_prove, say)
    plan.cards.stop_x_server()  # the service starts its own X server, and the driver may allow only one


def _replace_copy(undo: AddUndo) -> None:
    """Replace the copy of gpufan. For an undo, the old copy stays in the draft folder until the end of the install."""
    copy, draft, aside = root_copy.COPY, root_copy.draft_folder(), root_copy.aside_folder()
    undo(root_copy.remove_folder, draft)
    root_copy.make_copy()
    if copy.exists():
        root_copy.remove_folder(aside)
    elif aside.exists():  # an earlier install was killed between two renames
        aside.rename(copy)
    if copy.exists():
        undo(_restore_copy, copy.stat().st_ino)
        root_copy.exchange_with_draft()
    else:
        undo(root_copy.remove_folder, copy)
        draft.rename(copy)


def _restore_copy(inode: int) -> None:
    """Put the old copy back; `inode` is the inode number of its folder."""
    if root_copy.aside_folder().exists():
        root_copy.remove_folder(root_copy.COPY)
        root_copy.aside_folder().rename(root_copy.COPY)
    elif root_copy.COPY.stat().st_ino != inode:
        root_copy.exchange_with_draft()


def _write_file(path: Path, text: str, undo: AddUndo, mode: int = 0o644) -> None:
    """Write a file, unless it has this text already."""
    if files.read_file_if_exists(path) == text.encode():
        return
    if not path.parent.exists():
        path.parent.mkdir(mode=0o755, parents=True)
        undo(path.parent.rmdir)
    undo(write_content, path, read_content(path))
    files.replace(path, text.encode(), mode=mode)


def _disable_unit(unit: DisabledUnit, stops: bool, undo: AddUndo) -> None:
    undo(unit.start)
    if stops:
        unit.stop()
    undo(unit.enable)
    unit.disable()


def _enable_service(service: UnitStart, undo: AddUndo) -> None:
    if not service.is_enabled:
        undo(systemctl, "disable", "--quiet", SERVICE)
        systemctl("enable", "--quiet", SERVICE)
    if service.starts:
        undo(systemctl, "stop", SERVICE)
        before = systemctl_show(SERVICE, "InvocationID")["InvocationID"]
        systemctl("restart", "--no-block", SERVICE)
        _wait_until_active(before)
    elif service.reloads:
        systemctl("reload", SERVICE)


def _wait_until_active(before: str) -> None:
    """Wait for a run of the service other than `before`, an InvocationID of systemd.

    Raises GpufanError with the reason if it does not become active.
    """
    since = f"@{time.time():.3f}"
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s:
        state = systemctl_show(SERVICE, "InvocationID", "ActiveState", "SubState", "StatusText", "StatusErrno")
        if state["InvocationID"] != before:
            if state["ActiveState"] == "active":
                return
            is_refused = state["StatusErrno"] not in ("", "0")
            if is_refused or state["ActiveState"] == "failed" or state["SubState"] == "auto-restart":
                reason = state["StatusText"] if is_refused else _last_log_lines(since)
                raise GpufanError(f"{SERVICE} does not start: {reason}; all changes are undone")
        time.sleep(0.1)
    raise GpufanError(f"{SERVICE} is not active after {START_S:g} s: {_last_log_lines(since)}; all changes are undone")


def _last_log_lines(since: str) -> str:
    lines = journal_lines(SERVICE, 3, since)
    return "; ".join(dict.fromkeys(lines)) or f"the journal has no line; look at `systemctl status {SERVICE}`"
