"""`gpufan setup-xorg`: read the configuration of X, plan its change, and show, write or undo it."""

import difflib
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from gpufan.errors import GpufanError, InputError
from gpufan.system import files
from gpufan.system.lock import folder_locks
from gpufan.xorg import record
from gpufan.xorg.box import Box
from gpufan.xorg.edid import PRETENDED_EDID
from gpufan.xorg.plan import Plan, Wanted, make_plan
from gpufan.xorg.record import FileChange, State
from gpufan.xorg.search import read_configuration, real_config_file, snippets

EDID_NAME = "gpufan-edid.bin"


@dataclass(frozen=True, slots=True)
class Setup:
    """A planned change of the configuration of X."""

    main: Path
    """The file that new sections are added to, with symbolic links resolved."""
    plan: Plan
    changes: tuple[FileChange, ...]
    notes: tuple[str, ...]

    @property
    def out_of_reach(self) -> list[str]:
        """Return a sentence for each card whose fans X cannot set after the change."""
        return [str(reach) for reach in self.plan.reaches if reach.obstacle is not None]


def lock(output: Path, folders: Sequence[Path]) -> AbstractContextManager[None]:
    """Lock the folders of all files of X against other runs. Raises GpufanError if they are not free within 10 s."""
    return folder_locks([real_config_file(output).parent, *folders])


def remove_leftovers(output: Path, folders: Sequence[Path]) -> None:
    """Remove the temporary files of runs that were killed. Raises GpufanError."""
    main = real_config_file(output)
    paths = [main, main.with_name(EDID_NAME), record.record_path(main)]
    for path in [*paths, *(snippet.resolve() for snippet in snippets(folders))]:
        files.remove_temporaries(path)


def plan_setup(
    output: Path,
    box: Box,
    folders: Sequence[Path],
    coolbits: int,
    pretend_monitor: bool = False,
    layout: str | None = None,
) -> Setup:
    """Plan the change with which X can set the fans of all cards of `box`. Nothing is written.

    `output` is the main file, `folders` are those of snippets. Raises InputError, with file and line, for what X
    refuses; GpufanError for a file that cannot be read.
    """
    main = real_config_file(output)
    edid = main.with_name(EDID_NAME) if pretend_monitor else None
    if edid is not None and set('"\r\n') & set(str(edid)):
        raise InputError(f"{edid}: this path cannot be written in xorg.conf: give another --output")
    configuration = read_configuration(output, folders)
    wanted = Wanted(coolbits, None if edid is None else os.fsencode(edid).decode("latin-1"), layout)
    plan = make_plan(configuration, box, wanted)
    # New sections come first: then other files never refer to a section that is not yet there.
    changed = sorted(plan.changes, key=lambda change: change[0] != configuration.main)
    changes = [_change(Path(name), before, after) for name, before, after in changed]
    if edid is not None and (held := files.read_file_if_exists(edid)) != PRETENDED_EDID:
        changes.insert(0, FileChange(edid, held, PRETENDED_EDID))
    return Setup(main, plan, tuple(changes), (*plan.notes, *_notes(changes)))


def write_setup(setup: Setup) -> None:
    """Write the changed files, with backups. Raises GpufanError; all files are then unchanged."""
    record.write(setup.main, setup.changes)


def plan_restore(output: Path) -> list[FileChange] | None:
    """Plan to undo all runs; None if there is nothing to undo. Nothing is written.

    Raises GpufanError if an original is missing.
    """
    main = real_config_file(output)
    held = record.load(main)
    if not held.files:
        for suffix in ("original", "created"):
            old = main.with_name(f"{main.name}.gpufan-{suffix}")
            if os.path.lexists(old):
                raise GpufanError(f"{old} is of gpufan 0.1, which has no record of what it wrote: {_BY_HAND[suffix]}")
        return None
    return record.plan_restore(main, held)


def users_changes(output: Path, changes: Sequence[FileChange]) -> list[FileChange]:
    """Return those changes of a restore that would revert what the user has written since."""
    held = record.load(real_config_file(output))
    return [c for c in changes if (entry := held.find(c.path)) and entry.state(c.before) is State.USERS]


def write_restore(output: Path, changes: Sequence[FileChange]) -> None:
    """Make the changes of `plan_restore`. Raises GpufanError."""
    main = real_config_file(output)
    record.restore(main, record.load(main), changes)


def difference(changes: Sequence[FileChange]) -> bytes:
    """Return the differences of text files in the unified format."""
    return b"".join(_difference(change) for change in changes if change.path.name != EDID_NAME)


_BY_HAND = {
    "original": "compare it with the file, and put it back with mv",
    "created": "remove it, and the file beside it if you do not need that",
}


def _change(path: Path, before: bytes, after: bytes) -> FileChange:
    real = real_config_file(path)
    try:
        str(real).encode()
    except UnicodeEncodeError:
        raise InputError(f"{real}: this name is not UTF-8, and cannot be recorded: rename the file") from None
    held = files.read_file_if_exists(real)
    if (held or b"") != before:
        raise GpufanError(f"{path} was changed by another program meanwhile: run this again")
    return FileChange(real, held, after)


def _notes(changes: Sequence[FileChange]) -> list[str]:
    notes = []
    for change in changes:
        if change.before is not None and change.path.stat().st_nlink > 1:
            notes.append(f"{change.path} has another hard link, which does not change with it")
        if change.path.is_relative_to("/usr"):
            notes.append(f"{change.path} belongs to a package, which may replace it: then run this again")
    return notes


def _difference(change: FileChange) -> bytes:
    name = os.fsencode(change.path)
    lines = difflib.diff_bytes(
        difflib.unified_diff,
        BytesIO(change.before or b"").readlines(),
        BytesIO(change.after or b"").readlines(),
        name if change.before is not None else b"/dev/null",
        name if change.after is not None else b"/dev/null",
    )
    return b"".join(line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n" for line in lines)
