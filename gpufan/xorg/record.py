"""Write the files that `setup-xorg` changes, save the originals of these files, and restore the originals.

The record is the file `NAME.gpufan-record` beside the main file. For each changed file, the record has the digest of
the original content and of every content that gpufan has written since. So the record shows whether the present content
of a file is the original, comes from gpufan, or comes from the user. Content of the user is never reverted.

The original of each file stays beside the file as `NAME.gpufan-original`. The original keeps its inode, and only its
name changes. So a restored file has its old mode, owner, times and other hard links again.
"""

import contextlib
import os
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec

from gpufan.errors import GpufanError
from gpufan.system import files

FORMAT = 1

RECORD_SUFFIX = ".gpufan-record"
"""The name of a record is the name of its main file with this suffix."""


class FileChange(NamedTuple):
    """A change of one file: its content before and after. None means that the file does not exist."""

    path: Path
    """Path of the file, with symbolic links resolved."""
    before: bytes | None
    after: bytes | None


class State(Enum):
    """The origin of the content of a file. ORIGINAL is the content before the first change by gpufan.

    OURS is content that gpufan has written. USERS is content that the user has written after gpufan.
    """

    ORIGINAL = auto()
    OURS = auto()
    USERS = auto()


class FileRecord(msgspec.Struct):
    """The record of one file that gpufan has changed."""

    path: str
    original: str
    """Digest of the original content; empty if there was no file before gpufan."""
    backup: str
    """Path of the saved original; empty if there was no file before gpufan."""
    written: list[str]
    """Digests of all contents that gpufan has written. The oldest digest comes first."""

    def state(self, content: bytes | None) -> State:
        """Return the origin of `content`. If the file does not exist, `content` is None."""
        digest = _record_digest(content)
        if digest == self.original:
            return State.ORIGINAL
        return State.OURS if digest in self.written else State.USERS

    def is_kept(self, content: bytes | None) -> bool:
        """Whether the user keeps the file with `content` as it is: the user has removed its saved original.

        If the file does not exist, `content` is None.
        """
        return self.state(content) is State.USERS and self.backup != "" and not os.path.lexists(self.backup)


class Record(msgspec.Struct):
    """The records of all files that gpufan has changed together with one main file."""

    format: int = FORMAT
    files: list[FileRecord] = []

    def find(self, path: Path) -> FileRecord | None:
        """Return the record of the file `path`; None if gpufan has not changed this file."""
        return next((record for record in self.files if record.path == str(path)), None)


def record_path(main: Path) -> Path:
    """Return the path of the record beside the main file `main`. Symbolic links in `main` must be resolved."""
    return main.with_name(f"{main.name}{RECORD_SUFFIX}")


def main_files_with_record(folders: Iterable[Path]) -> list[Path]:
    """Return the main files whose records are in `folders`. The main files need not exist."""
    records = sorted(path for folder in set(folders) for path in folder.glob(f"*{RECORD_SUFFIX}"))
    return [path.with_name(path.name.removesuffix(RECORD_SUFFIX)) for path in records]


def load_record(main: Path) -> Record:
    """Read the record beside the main file `main`. If there is no record, return an empty one.

    Raises GpufanError if the record belongs to another user, is damaged, has another format, or cannot be read.
    """
    path = record_path(main)
    data = files.read_file_if_exists(path)
    if data is None:
        return Record()
    if path.stat().st_uid not in (0, os.geteuid()):
        raise GpufanError(f"{path} belongs to another user, so it is not trusted: remove it")
    try:
        record = msgspec.json.decode(data, type=Record)
    except msgspec.DecodeError as error:
        raise GpufanError(
            f"{path} is damaged ({error}): move it away, and restore the backups beside it by hand"
        ) from None
    if record.format != FORMAT:
        raise GpufanError(f"{path} was written by a newer gpufan: use that version")
    return record


def write_changes(main: Path, changes: Sequence[FileChange]) -> None:
    """Save the originals of the files in `changes`, write the new contents, and write the record beside `main`.

    If one step fails, undo all steps, and raise GpufanError.
    """
    _check_changes(changes)
    path = record_path(main)
    old = files.read_file_if_exists(path)
    record = load_record(main)
    set_aside: list[tuple[Path, Path]] = []
    done: list[FileChange] = []
    try:
        for change in changes:
            set_aside += _rename_older_original(record.find(change.path), change)
        record.files = [r for r in record.files if all(r.path != str(change.path) for change in changes)] + [
            _next_record(record.find(change.path), change) for change in changes
        ]
        # The record is written first: after a kill at any point it shows whose content each file has.
        files.replace(path, _encode_record(record))
        for change in changes:
            _back_up_original(record.find(change.path), change)
            done.append(change)
            assert change.after is not None
            files.replace(change.path, change.after, like=change.path if change.before is not None else None)
    except BaseException:
        for change in reversed(done):
            with contextlib.suppress(GpufanError):
                _undo_change(record.find(change.path), change)
        for before, after in set_aside:
            with contextlib.suppress(GpufanError):
                files.rename(after, before)
        with contextlib.suppress(GpufanError):
            files.remove(path) if old is None else files.replace(path, old)
        raise


def changes_to_originals(main: Path, record: Record) -> list[FileChange]:
    """Return the changes that restore the original content of each file in `record`.

    Files that have their original content are left out. Files that the user keeps are left out too. Raises GpufanError
    if the saved original of another file is missing or was changed. `main` is the main file.
    """
    changes = []
    for entry in reversed(record.files):
        path = Path(entry.path)
        content = files.read_file_if_exists(path)
        if entry.state(content) is State.ORIGINAL or entry.is_kept(content):
            continue
        original = files.read_file_if_exists(Path(entry.backup)) if entry.backup else None
        if _record_digest(original) != entry.original:
            state = "is missing" if original is None else f"is not the original of {path} any more"
            raise GpufanError(f"{entry.backup} {state}: edit {path} by hand, and remove {record_path(main)}")
        changes.append(FileChange(path, content, original))
    return changes


def restore_originals(main: Path, record: Record, changes: Sequence[FileChange]) -> list[Path]:
    """Make the changes that `changes_to_originals` returned, and remove the record beside `main`.

    Returns the files that the user keeps. Raises GpufanError if a file was changed meanwhile or cannot be written.
    """
    _check_changes(changes)
    kept = [Path(e.path) for e in record.files if e.is_kept(files.read_file_if_exists(Path(e.path)))]
    for change in changes:
        entry = record.find(change.path)
        if change.after is None:
            files.remove(change.path)
        elif entry is not None:
            files.rename(Path(entry.backup), change.path)
    for entry in record.files:
        # A kill may have left the backup of a file that was never changed.
        if entry.backup and _record_digest(files.read_file_if_exists(Path(entry.backup))) == entry.original:
            files.remove(Path(entry.backup))
    files.remove(record_path(main))
    return kept


def _check_changes(changes: Sequence[FileChange]) -> None:
    """Raise GpufanError if a file in `changes` cannot be written, or if its content is not `before` any more."""
    for change in changes:
        files.check_folder_is_writable(change.path)
        if files.read_file_if_exists(change.path) != change.before:
            raise GpufanError(f"{change.path} was changed by another program meanwhile: run this again")


def _next_record(old: FileRecord | None, change: FileChange) -> FileRecord:
    """Return the record of a file after `change`. `old` is the record before `change`; None if there was no record."""
    written = [_record_digest(change.after)]
    if old is not None:
        state = old.state(change.before)
        if state is State.OURS:
            return FileRecord(old.path, old.original, old.backup, [*old.written, *written])
        if state is State.ORIGINAL:
            return FileRecord(old.path, old.original, old.backup, written)
    backup = "" if change.before is None else str(_free_original_path(change.path, "original"))
    return FileRecord(str(change.path), _record_digest(change.before), backup, written)


def _back_up_original(record: FileRecord | None, change: FileChange) -> None:
    """Save the original of a file under the name `record.backup`, which is a hard link to the file.

    Do nothing if the original is saved already, or if the file does not have its original content. `record` is the
    record of the file. Raises GpufanError if the hard link cannot be made.
    """
    if record is None or not record.backup or record.state(change.before) is not State.ORIGINAL:
        return
    if _record_digest(files.read_file_if_exists(Path(record.backup))) == record.original:
        return  # of a run that was killed
    try:
        os.link(change.path, record.backup)
    except OSError as error:
        why = files.why_not_written(error, change.path)
        raise GpufanError(f"cannot write {record.backup}: {why}; {change.path} is unchanged") from error


def _undo_change(record: FileRecord | None, change: FileChange) -> None:
    """Undo a change that was made or begun. `record` is the record of the file. Raises GpufanError if this fails."""
    if change.before is None:
        files.remove(change.path)
    elif record is not None and record.state(change.before) is State.ORIGINAL:
        if os.path.lexists(record.backup):
            files.rename(Path(record.backup), change.path)
    elif files.read_file_if_exists(change.path) != change.before:
        files.replace(change.path, change.before, like=change.path)


def _rename_older_original(record: FileRecord | None, change: FileChange) -> list[tuple[Path, Path]]:
    """Rename the saved original of a file if the user has written the present content of the file.

    The present content then becomes the new original. `record` is the record of the file; None if gpufan has not
    changed the file. Returns a list with one pair: the old and the new path of the saved original. Returns an empty
    list if nothing was renamed.
    """
    if record is None or record.state(change.before) is not State.USERS:
        return []
    if not record.backup or not os.path.lexists(record.backup):
        return []
    names = Path(record.backup), _free_original_path(change.path)
    files.rename(*names)
    return [names]


def _free_original_path(path: Path, *suffixes: str) -> Path:
    """Return an unused path beside `path` for a saved original.

    The name ends with the first of `suffixes` that is free. If none is free, the name ends with a number.
    """
    names = (path.with_name(f"{path.name}.gpufan-{suffix}") for suffix in (*suffixes, *map(str, range(1, 10_000))))
    return next(name for name in names if not os.path.lexists(name))


def _encode_record(record: Record) -> bytes:
    """Return the content of the record file, as JSON."""
    return msgspec.json.format(msgspec.json.encode(record)) + b"\n"


def _record_digest(content: bytes | None) -> str:
    """Return the digest of `content` for the record; empty if `content` is None."""
    return "" if content is None else sha256(content).hexdigest()
