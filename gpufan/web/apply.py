"""Changes the settings file for the page: show the difference, write, reload, wait for the daemon, and undo.

The file is changed with the functions of `gpufan config set`. Where the page runs without rights, `helper` runs this
in a process that has them.
"""

import difflib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpufan.config.change import replace_settings, restore_settings, settings_lock, text_to_change
from gpufan.config.lint import lint_change
from gpufan.errors import GpufanError, InputError
from gpufan.system.files import read_file_if_exists
from gpufan.system.signals import deferred
from gpufan.web.page_settings import PageSettings, text_with_page_settings
from gpufan.web.reload import DaemonReply, reload_by_hand, wait_until_followed

_REMEMBERED = 16
"""At most this many differences, and this many changes, are remembered."""


@dataclass(frozen=True)
class _Change:
    """A change of the file: its content before, and its content after that."""

    before: bytes | None
    after: bytes


class Applier:
    """Changes one settings file. Only settings that `gpufan config check` accepts get into it."""

    def __init__(self, path: Path, runtime_folder: Path, pause: Callable[[float], None] = time.sleep) -> None:
        """`path` is the settings file, `runtime_folder` that of the daemon. `pause` waits for a number of seconds."""
        self._path = path
        self._runtime_folder = runtime_folder
        self._pause = pause
        self._shown: OrderedDict[str, _Change] = OrderedDict()
        self._made: OrderedDict[str, _Change] = OrderedDict()

    def diff(self, wanted: PageSettings) -> dict[str, Any]:
        """Return the difference that `wanted` makes, an id to apply it, and warnings. Nothing is changed.

        The difference is empty if the file has these settings already. Raises GpufanError if the file cannot be
        changed, InputError if it has a mistake or would have one.
        """
        before = read_file_if_exists(self._path)
        text = text_to_change(self._path)
        after = text_with_page_settings(text, wanted)
        lines = (
            difflib.unified_diff(
                "" if before is None else text.splitlines(), after.splitlines(), "now", "then", lineterm=""
            )
            if after != text or before is None
            else ()
        )
        diff_id = secrets.token_urlsafe(16)
        _remember(self._shown, diff_id, _Change(before, after.encode()))
        warnings = [str(mistake) for mistake in lint_change(self._path, text, after)]
        return {"diff": "\n".join(lines), "id": diff_id, "warnings": warnings, "error": ""}

    def apply(self, diff_id: str) -> dict[str, Any]:
        """Write the change that `diff` has shown with the id `diff_id`, and wait for the daemon.

        Raises InputError if there is no such id, or if the file was changed meanwhile. Raises GpufanError if the file
        cannot be written.
        """
        change = self._shown.pop(diff_id, None)
        if change is None:
            raise InputError("this difference is too old: look at it again")
        with settings_lock(self._path):
            self._check_content(change.before, "look at the difference again")
            effect, problem = self._write(lambda: replace_settings(self._path, change.after.decode()))
        undo_id = secrets.token_urlsafe(16)
        _remember(self._made, undo_id, change)
        daemon, text = wait_until_followed(self._path, self._runtime_folder, self._pause)
        return {
            "ok": daemon is DaemonReply.ACCEPTED and not problem,
            "text": problem or f"{self._path}: changed; {text or _effect(daemon, effect)}",
            "daemon": daemon.value,
            "undo_id": undo_id,
        }

    def undo(self, undo_id: str) -> dict[str, Any]:
        """Put back the bytes that the file had before the change with the id `undo_id`.

        Raises InputError if there is no such id, or if the file was changed since. Raises GpufanError if the file
        cannot be written.
        """
        change = self._made.get(undo_id)
        if change is None:
            raise InputError("this change cannot be undone here any more")
        with settings_lock(self._path):
            self._check_content(change.after, "undo would lose that change")
            effect, problem = self._write(lambda: restore_settings(self._path, change.before))
        del self._made[undo_id]
        daemon, text = wait_until_followed(self._path, self._runtime_folder, self._pause)
        done = f"{self._path}: as it was; {text or _effect(daemon, effect)}"
        return {"ok": not problem, "text": problem or done, "daemon": daemon.value}

    def _check_content(self, content: bytes | None, remedy: str) -> None:
        """Raise InputError, which ends with `remedy`, if the file does not have this `content`; None for no file."""
        if read_file_if_exists(self._path) != content:
            raise InputError(f"{self._path} was changed meanwhile: {remedy}")

    def _write(self, write: Callable[[], str]) -> tuple[str, str]:
        """Change the file with `write`. Return its sentence, and the problem if the service was not reloaded.

        Raises GpufanError if the file was not changed.
        """
        before = read_file_if_exists(self._path)
        with deferred():  # a signal must not come between the file and the reload
            try:
                effect = write()
            except GpufanError as error:
                if read_file_if_exists(self._path) == before:
                    raise
                return "", str(error)
            reload_by_hand(self._runtime_folder)
            return effect, ""


def _effect(daemon: DaemonReply, expected: str) -> str:
    """Return when a change takes effect. `expected` says it for a daemon that has not accepted the change."""
    return "gpufan follows it now" if daemon is DaemonReply.ACCEPTED else expected


def _remember(known: "OrderedDict[str, _Change]", change_id: str, change: _Change) -> None:
    """Add `change` to `known` under `change_id`, and forget the oldest if there are too many."""
    known[change_id] = change
    while len(known) > _REMEMBERED:
        known.popitem(last=False)
