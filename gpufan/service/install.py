"""Install: each change is written down before it is made, and undone if a later one fails."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from gpufan.errors import GpufanError
from gpufan.service import install_settings as settings
from gpufan.service import manifest
from gpufan.service import root_copy as code
from gpufan.service.disabled_unit import DisabledUnit
from gpufan.service.plan import Plan
from gpufan.service.proof import prove_control
from gpufan.service.units import SERVICE, CompanionService
from gpufan.system import files, signals
from gpufan.system.lock import controller_lock
from gpufan.system.paths import RUNTIME_FOLDER
from gpufan.system.systemctl import journal_lines, stop_and_disable, systemctl, unit_properties

START_S = 30.0
"""For the service to become active, s."""
COMPANION_S = 2.0
"""How long a companion must have lasted to count as started, s."""

Say = Callable[[str], None]


class Undo:
    """Steps that take changes back, the last one first, if the block they belong to fails."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._steps: list[Callable[[], object]] = []

    def add(self, step: Callable[..., object], *arguments: object) -> None:
        """Call `step` with `arguments` on failure."""
        self._steps.append(partial(step, *arguments))

    def __enter__(self) -> "Undo":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        with signals.ignored():
            while self._steps:
                self._take_back(self._steps.pop())

    def _take_back(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as error:  # whatever it is, the steps before still have to be taken back
            with suppress(OSError, ValueError):  # the terminal may be gone
                self._say(f"not undone: {error}")


def install(plan: Plan, say: Say) -> None:
    """Do what `plan` says. Raises what failed, when all of it is undone."""
    restarts, starting = plan.restarts, plan.starting
    before = manifest.load()
    now = manifest.load() or manifest.Manifest()
    _end_in_order()
    os.umask(0o022)  # what is made here is root's alone to write, and everybody's to read
    with Undo(say) as undo:
        undo.add(_restore_manifest, before)
        if plan.is_active:
            undo.add(systemctl, "start", SERVICE)
        _stop_rivals(plan, undo)
        if plan.to_prove:
            _prove_control(plan, say)
        for taken in plan.taken:
            now.take(taken)
        now.copied = now.copied or plan.copy_because is not None
        for file in (*map(Path, plan.units), *plan.at_hand):
            now.add_file(file)
        if restarts:
            now.digest = plan.digest
        now.save()
        if plan.copy_because:
            _copy_code(undo)
        if plan.config_text is not None:
            _write(settings.CONFIG, plan.config_text, undo)
        undo.add(systemctl, "daemon-reload")
        for path, text in plan.units.items():
            _write(Path(path), text, undo)
        for taken in plan.taken:
            _put_aside(taken, plan.options.start, undo)
        systemctl("daemon-reload")
        _enable(restarts, undo)
    shutil.rmtree(_old_copy(), ignore_errors=True)
    # The fans are in hand by now, and nothing that fails below may change that.
    _attempt(say, _drop, plan.dropped, now)
    for companion in plan.companions:
        _attempt(say, _enable_companion, companion, companion in starting)
    _attempt(say, _check_companions, starting)
    for file, what in plan.at_hand.items():
        _attempt(say, _place, file, what)


def _attempt(say: Say, step: Callable[..., None], *arguments: object) -> None:
    try:
        step(*arguments)
    except (GpufanError, OSError) as error:
        say(f"warning: {error}; the fans are kept all the same")


def _drop(companions: list[CompanionService], now: manifest.Manifest) -> None:
    for companion in companions:
        stop_and_disable(companion.unit)
        manifest.put_back(Path(companion.path), now.files.pop(companion.path))
        now.save()
    if companions:
        systemctl("daemon-reload")


def _enable_companion(companion: CompanionService, starts: bool) -> None:
    if unit_properties(companion.unit, "UnitFileState")["UnitFileState"] != "enabled":
        systemctl("enable", "--quiet", companion.unit)
    if starts:
        systemctl("restart", companion.unit)


def _check_companions(started: list[CompanionService]) -> None:
    """Raise GpufanError where one has not lasted."""
    if started:
        time.sleep(COMPANION_S)
    down = [c.unit for c in started if unit_properties(c.unit, "ActiveState")["ActiveState"] != "active"]
    if down:
        raise GpufanError(f"{', '.join(down)} does not stay up: see `journalctl -u {down[0]}`")


def _place(path: Path, what: manifest.Before) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    manifest.put_back(path, what)


def _end_in_order() -> None:
    """Let a lost connection or a kill undo what was done, and give back a fan that was just moved."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: sys.exit(128 + received))


def _restore_manifest(before: manifest.Manifest | None) -> None:
    if before is None:
        manifest.forget()
    else:
        before.save()


def _prove_control(plan: Plan, say: Say) -> None:
    assert plan.cards is not None
    with controller_lock(RUNTIME_FOLDER, say):
        plan.cards.start_x_server(plan.to_prove)
        prove_control(plan.to_prove, say)
    plan.cards.stop_x_server()  # the service has one of its own, and there may be room for one only


def _stop_rivals(plan: Plan, undo: Undo) -> None:
    if plan.options.start:
        for rival in plan.rivals:
            undo.add(rival.start)
            rival.stop()


def _copy_code(undo: Undo) -> None:
    """Put a fresh copy in the place of the one before, which stays aside until all has gone well."""
    undo.add(shutil.rmtree, code.draft_folder(), True)
    draft = code.make_copy()
    old = _old_copy()
    if old.exists() and not code.COPY.exists():  # an install was killed right between the two renames below
        old.rename(code.COPY)
    if old.exists():
        shutil.rmtree(old)
    undo.add(_swap_back, old, code.COPY.exists())
    if code.COPY.exists():
        code.COPY.rename(old)
    draft.rename(code.COPY)


def _old_copy() -> Path:
    return code.COPY.with_name(code.COPY.name + ".old")


def _swap_back(old: Path, was_there: bool) -> None:
    if was_there and not old.exists():  # nothing has been moved yet
        return
    shutil.rmtree(code.COPY, ignore_errors=True)
    if was_there:
        old.rename(code.COPY)


def _write(path: Path, text: str, undo: Undo) -> None:
    if files.read_if_exists(path) == text.encode():
        return
    if not path.parent.exists():
        path.parent.mkdir(mode=0o755, parents=True)
        undo.add(path.parent.rmdir)
    undo.add(manifest.put_back, path, manifest.look(path))
    files.replace(path, text.encode())


def _put_aside(taken: DisabledUnit, stop: bool, undo: Undo) -> None:
    undo.add(taken.start)
    if stop:
        taken.stop()
    undo.add(taken.enable)
    taken.disable()


def _enable(restarts: bool, undo: Undo) -> None:
    if unit_properties(SERVICE, "UnitFileState")["UnitFileState"] != "enabled":
        undo.add(systemctl, "disable", "--quiet", SERVICE)
        systemctl("enable", "--quiet", SERVICE)
    if not restarts:
        return
    undo.add(systemctl, "stop", SERVICE)
    systemctl("restart", "--no-block", SERVICE)
    _wait_until_active()


def _wait_until_active() -> None:
    """Raise GpufanError with the reason if the service does not become active."""
    since = f"@{time.time():.3f}"
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s:
        state = unit_properties(SERVICE, "ActiveState", "SubState", "StatusText", "StatusErrno")
        if state["ActiveState"] == "active":
            return
        refused = state["StatusErrno"] not in ("", "0")
        if refused or state["ActiveState"] == "failed" or state["SubState"] == "auto-restart":
            reason = state["StatusText"] if refused else _last_words(since)
            raise GpufanError(f"{SERVICE} does not start: {reason}; what was changed is undone")
        time.sleep(0.1)
    raise GpufanError(f"{SERVICE} is not active after {START_S:g} s: {_last_words(since)}; what was changed is undone")


def _last_words(since: str) -> str:
    """What the service has said last, by the journal."""
    lines = journal_lines(SERVICE, 3, since)
    return "; ".join(dict.fromkeys(lines)) or f"the journal has nothing; look at `systemctl status {SERVICE}`"
