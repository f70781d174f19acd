"""Install the service. The manifest records each change before the install makes it.

If a step fails before the service is active, all changes are undone.
"""

import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from gpufan.errors import GpufanError
from gpufan.service import config_file, manifest, root_copy
from gpufan.service.file_content import read_content, write_content
from gpufan.service.manifest import Manifest
from gpufan.service.plan import InstallPlan, PlannedUnit
from gpufan.service.proof import prove_control_under_lock
from gpufan.service.steps import AddUndo, Say, undone_on_failure, warn_on_failure
from gpufan.service.units import SERVICE
from gpufan.system import files, signals
from gpufan.system.systemctl import journal_lines, systemctl, systemctl_show

START_S = 30.0
"""Time limit for the service to become active, s."""
COMPANION_S = 2.0
"""A companion service that runs for this many seconds counts as started."""


def install(plan: InstallPlan, say: Say) -> None:
    """Carry out all steps of `plan`.

    If a step fails before the service is active, undo all changes, and raise the error of that step. If a later step
    fails, only show a warning to the user through `say`.
    """
    before = manifest.load_manifest()
    now = manifest.load_manifest() or Manifest()
    signals.exit_at_signals()
    os.umask(0o022)  # only root may write the new files, everybody may read them
    for unit in plan.disabled:
        now.add_disabled(unit)
    now.copied = now.copied or plan.copy_reason is not None
    for file in (*map(Path, plan.units), *plan.command_files):
        now.add_file(file)
    with undone_on_failure(say, partial(manifest.restore_manifest, before)) as undo:
        now.save()
        if plan.service.is_active:
            undo(systemctl, "start", SERVICE)
        for rival in plan.rivals if plan.options.start else ():
            undo(rival.start)
            rival.stop()
        if plan.gpus_to_prove:
            assert plan.cards is not None
            prove_control_under_lock(plan.cards, plan.gpus_to_prove, say)
        if plan.copy_reason:
            root_copy.replace_copy(undo)
        if plan.config_text is not None:
            _install_file(config_file.CONFIG.resolve(), plan.config_text, undo, config_file.config_file_mode())
        if plan.options.alerts_text is not None:
            _install_file(config_file.ALERTS, plan.options.alerts_text, undo, config_file.ALERTS_MODE)
        undo(systemctl, "daemon-reload")
        for path, text in plan.units.items():
            _install_unit_file(Path(path), text, undo)
        for unit in plan.disabled:
            unit.take_out_of_use(stops=plan.options.start, undo=undo)
        systemctl("daemon-reload")
        _enable_service(plan.service, undo)
    for folder in root_copy.leftover_copy_folders():
        with suppress(OSError):
            root_copy.remove_copy_folder(folder)
    # The fans are under control now. A failure below does not change that, so it is only a warning.
    warn_on_failure(say, now.remove_units, plan.removed_units)
    for companion in plan.companions:
        warn_on_failure(say, _enable_companion, companion)
    warn_on_failure(
        say, _check_started_companions, [companion.unit for companion in plan.companions if companion.starts]
    )
    for file, content in plan.command_files.items():
        warn_on_failure(say, write_content, file, content)
    for file in plan.restored_files:
        warn_on_failure(say, now.restore_file, file)
    if plan.restored_files:
        now.remove_empty_folders()
    if plan.removes_copy:
        warn_on_failure(say, _remove_copy, now)
    if plan.service.starts:
        now.digest = plan.digest
        warn_on_failure(say, now.save)


def _remove_copy(now: Manifest) -> None:
    """Remove the copy that the service ran before. Raises GpufanError or OSError."""
    for folder in root_copy.copy_folders():
        root_copy.remove_copy_folder(folder)
    now.copied = False
    now.save()


def _enable_companion(companion: PlannedUnit) -> None:
    """Enable the unit of a companion service.

    If `companion.starts` is True, also restart the unit. Raises GpufanError.
    """
    if not companion.is_enabled:
        systemctl("enable", "--quiet", companion.unit)
    if companion.starts:
        systemctl("restart", companion.unit)


def _check_started_companions(started: list[str]) -> None:
    """Wait for `COMPANION_S` seconds. Then raise GpufanError if a unit in `started` is not active."""
    if started:
        time.sleep(COMPANION_S)
    ended = [unit for unit in started if systemctl_show(unit, "ActiveState")["ActiveState"] != "active"]
    if ended:
        raise GpufanError(f"{', '.join(ended)} does not stay active: see `journalctl -u {ended[0]}`")


def _install_unit_file(path: Path, text: str | None, undo: AddUndo) -> None:
    """Write `text` to the unit file or drop-in `path`; with None remove the file, since it is not needed.

    Calls `undo` to register undo steps. Raises GpufanError or OSError.
    """
    if text is not None:
        _install_file(path, text, undo)
    elif path.exists():
        undo(write_content, path, read_content(path))
        write_content(path, None)


def _install_file(path: Path, text: str, undo: AddUndo, mode: int = 0o644) -> None:
    """Write `text` to the file `path`. If the file already contains `text`, do nothing.

    `mode` is the file mode of the new file. Calls `undo` to register undo steps. Raises GpufanError or OSError.
    """
    if files.read_file_if_exists(path) == text.encode():
        return
    if not path.parent.exists():
        path.parent.mkdir(mode=0o755, parents=True)
        undo(path.parent.rmdir)
    undo(write_content, path, read_content(path))
    files.replace(path, text.encode(), mode=mode)


def _enable_service(service: PlannedUnit, undo: AddUndo) -> None:
    """Enable the service, and start or reload it as planned in `service`.

    Calls `undo` to register undo steps. Raises GpufanError.
    """
    if not service.is_enabled:
        undo(systemctl, "disable", "--quiet", SERVICE)
        systemctl("enable", "--quiet", SERVICE)
    if service.starts:
        undo(systemctl, "stop", SERVICE)
        before = systemctl_show(SERVICE, "InvocationID")["InvocationID"]
        systemctl("restart", "--no-block", SERVICE)
        _wait_until_service_active(before)
    elif service.reloads:
        systemctl("reload", SERVICE)


def _wait_until_service_active(before: str) -> None:
    """Wait until a new run of the service is active. `before` is the InvocationID of the previous run.

    Raises GpufanError with the reason if the service does not become active within `START_S` seconds.
    """
    since, reason = f"@{time.time():.3f}", ""
    problem = f"is not active after {START_S:g} s"
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s:
        state = systemctl_show(SERVICE, "InvocationID", "ActiveState", "SubState", "StatusText", "StatusErrno")
        if state["InvocationID"] != before:
            if state["ActiveState"] == "active":
                return
            is_refused = state["StatusErrno"] not in ("", "0")
            if is_refused or state["ActiveState"] == "failed" or state["SubState"] == "auto-restart":
                problem, reason = "does not start", state["StatusText"] if is_refused else ""
                break
        time.sleep(0.1)
    reason = reason or "; ".join(dict.fromkeys(journal_lines(SERVICE, 3, since)))
    reason = reason or f"the journal has no line; look at `systemctl status {SERVICE}`"
    raise GpufanError(f"{SERVICE} {problem}: {reason}; all changes are undone")
