"""`gpufan setup-xorg`: read the configuration of X, plan the change, show its difference, write it, or undo it."""

import difflib
import os
import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from gpufan.errors import GpufanError, InputError
from gpufan.system import files
from gpufan.system.lock import folder_locks
from gpufan.xorg import record
from gpufan.xorg.box import Box
from gpufan.xorg.edid import PRETENDED_EDID
from gpufan.xorg.plan import ConfigurationPlan, PlanOptions, make_plan
from gpufan.xorg.record import FileChange, State
from gpufan.xorg.search import is_read_by_x, lacks_x_driver, read_configuration, real_config_file, snippets

EDID_NAME = "gpufan-edid.bin"


@dataclass(frozen=True, slots=True)
class Setup:
    """A planned change of the configuration of X."""

    main: Path
    """The main file, to which new sections are added. Symbolic links in the path are resolved."""
    plan: ConfigurationPlan
    changes: tuple[FileChange, ...]
    notes: tuple[str, ...]
    is_read_by_x: bool
    """Whether X reads the main file without the option -config."""

    @property
    def out_of_reach(self) -> list[str]:
        """Return a sentence for each card whose fans X cannot set after the change."""
        return [str(reach) for reach in self.plan.reaches if reach.obstacle is not None]


def lock_setup(output: Path, folders: Sequence[Path]) -> AbstractContextManager[None]:
    """Return a context manager that locks the folders of all files of X against other runs of `setup-xorg`.

    `output` is the main file. `folders` are the folders of snippets. The context manager raises GpufanError if it
    cannot lock a folder within 10 s.
    """
    return folder_locks([real_config_file(output).parent, *folders])


def remove_setup_leftovers(output: Path, folders: Sequence[Path]) -> None:
    """Remove the temporary files of killed runs of `setup-xorg`. Raises GpufanError if this fails.

    `output` is the main file. `folders` are the folders of snippets.
    """
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

    `output` is the main file. `folders` are the folders of snippets. `coolbits` are the bits to set in Coolbits.
    `pretend_monitor` says whether X is to pretend a monitor. `layout` is the ServerLayout to complete; if it is None,
    the layout that X chooses is completed.

    Raises InputError if X would refuse the configuration, or if `output` or `layout` is wrong. Raises GpufanError if a
    file cannot be read.
    """
    main = real_config_file(output)
    edid = main.with_name(EDID_NAME) if pretend_monitor else None
    if edid is not None and set('"\r\n') & set(str(edid)):
        raise InputError(f"{edid}: this path cannot be written in xorg.conf: give another --output")
    configuration = read_configuration(output, folders)
    wanted = PlanOptions(coolbits, None if edid is None else os.fsencode(edid).decode("latin-1"), layout)
    plan = make_plan(configuration, replace(box, lacks_x_driver=lacks_x_driver(configuration, box)), wanted)
    # New sections come first: then other files never refer to a section that is not yet there.
    changed = sorted(plan.changes, key=lambda change: change[0] != configuration.main)
    changes = [_setup_change(Path(name), before, after) for name, before, after in changed]
    if edid is not None and (held := files.read_file_if_exists(edid)) != PRETENDED_EDID:
        changes.insert(0, FileChange(edid, held, PRETENDED_EDID))
    return Setup(main, plan, tuple(changes), (*plan.notes, *_setup_notes(changes)), is_read_by_x(output, folders))


def write_setup(setup: Setup) -> None:
    """Write the changed files, and save their originals.

    If this fails, raise GpufanError, and leave all files unchanged.
    """
    record.write_changes(setup.main, setup.changes)


def plan_setup_restore(output: Path, folders: Sequence[Path]) -> list[FileChange] | None:
    """Return the changes that undo all runs of `setup-xorg`. Returns None if there was no run. Nothing is written.

    `output` is the main file. `folders` are the folders of snippets. Raises GpufanError if a saved original is missing
    or was changed, if only runs with another main file can be undone, or if gpufan 0.1 wrote the files.
    """
    main = real_config_file(output)
    held = record.load_record(main)
    if not held.files:
        places = [main.parent, output.absolute().parent.resolve(), *(folder.resolve() for folder in folders)]
        for other in record.main_files_with_record(places):
            if other.is_symlink():
                raise GpufanError(
                    f"{other} has become a link since gpufan wrote it: restore it by hand, and remove"
                    f" {record.record_path(other)}"
                )
            if other != main:
                raise GpufanError(
                    f"gpufan has changed files of X with `--output {other}`: undo this with"
                    f" `gpufan setup-xorg --restore --output {shlex.quote(str(other))}`"
                )
        for suffix in ("original", "created"):
            old = main.with_name(f"{main.name}.gpufan-{suffix}")
            if os.path.lexists(old):
                raise GpufanError(f"{old} is of gpufan 0.1, which has no record of what it wrote: {_BY_HAND[suffix]}")
        return None
    return record.changes_to_originals(main, held)


def users_changes_since_setup(output: Path, changes: Sequence[FileChange]) -> list[FileChange]:
    """Return those changes that would revert what the user did.

    The user has written or removed the file after `setup-xorg` changed it. `output` is the main file. `changes` are
    those that `plan_setup_restore` returned.
    """
    held = record.load_record(real_config_file(output))
    return [c for c in changes if (entry := held.find(c.path)) and entry.state(c.before) is State.USERS]


def setup_restore_error(output: Path, changes: Sequence[FileChange]) -> GpufanError:
    """Return the error which says that `--restore` stops, and what to do about each file.

    `output` is the main file. `changes` are those that `users_changes_since_setup` returned.
    """
    held = record.load_record(real_config_file(output))
    backups = {change.path: entry.backup for change in changes if (entry := held.find(change.path))}
    verbs = ("was removed" if change.before is None else "has changed" for change in changes)
    facts = [f"{change.path} {verb} since gpufan wrote it" for change, verb in zip(changes, verbs, strict=True)]
    remedies = [
        f"restore it with `{shlex.join(['mv', backup, str(path)])}`, or leave it as it is and remove {backup}"
        if backup
        else f"move {path} away, or remove it"
        for path, backup in backups.items()
    ]
    return GpufanError(f"{' and '.join(facts)}; nothing was restored: {'; '.join(remedies)}; then run this again")


def write_setup_restore(output: Path, changes: Sequence[FileChange]) -> list[Path]:
    """Make the changes that `plan_setup_restore` returned. `output` is the main file.

    Returns the files that the user keeps, because the user has removed their saved originals. Raises GpufanError if
    this fails.
    """
    main = real_config_file(output)
    return record.restore_originals(main, record.load_record(main), changes)


def setup_difference(changes: Sequence[FileChange]) -> bytes:
    """Return the difference that the changes make in text files, in the unified format. The EDID file is left out."""
    return b"".join(_setup_file_difference(change) for change in changes if change.path.name != EDID_NAME)


_BY_HAND = {
    "original": "compare it with the file, and put it back with mv",
    "created": "remove it, and the file beside it if you do not need that",
}


def _setup_change(path: Path, before: bytes, after: bytes) -> FileChange:
    """Return the change of the file `path` from the content `before` to the content `after`.

    A file that does not exist counts as empty. Raises InputError if the path is not valid, for example not UTF-8.
    Raises GpufanError if the content of the file is not `before` any more.
    """
    real = real_config_file(path)
    try:
        str(real).encode()
    except UnicodeEncodeError:
        raise InputError(f"{real}: this name is not UTF-8, and cannot be recorded: rename the file") from None
    held = files.read_file_if_exists(real)
    if (held or b"") != before:
        raise GpufanError(f"{path} was changed by another program meanwhile: run this again")
    return FileChange(real, held, after)


def _setup_notes(changes: Sequence[FileChange]) -> list[str]:
    """Return a warning for each changed file that has another hard link or belongs to a package."""
    notes = []
    for change in changes:
        if change.before is not None and change.path.stat().st_nlink > 1:
            notes.append(f"{change.path} has another hard link, which does not change with it")
        if change.path.is_relative_to("/usr"):
            notes.append(f"{change.path} belongs to a package, which may replace it: then run this again")
    return notes


def _setup_file_difference(change: FileChange) -> bytes:
    """Return the difference that a change makes in one file, in the unified format."""
    name = os.fsencode(change.path)
    lines = difflib.diff_bytes(
        difflib.unified_diff,
        BytesIO(change.before or b"").readlines(),
        BytesIO(change.after or b"").readlines(),
        name if change.before is not None else b"/dev/null",
        name if change.after is not None else b"/dev/null",
    )
    return b"".join(line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n" for line in lines)
