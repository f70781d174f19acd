"""`gpufan setup-xorg`: plan the change of xorg.conf, write it, and undo it. `edit` decides the change.

The first run backs up xorg.conf as `FILE.gpufan-original`, or creates the marker `FILE.gpufan-created` if there was no
xorg.conf. `--restore` removes this file. Later runs back up the content that they replace as `FILE.gpufan-1`, `-2` and
so on.
"""

import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from pathlib import Path

from gpufan.core.pci import PciAddress
from gpufan.errors import GpufanError, InputError
from gpufan.system import files
from gpufan.xorg.config import Config, Section, readable, same_name, with_bits
from gpufan.xorg.edid import PRETENDED_EDID
from gpufan.xorg.edit import Wanted, edit

SNIPPET_FOLDERS = Path("/usr/share/X11/xorg.conf.d"), Path("/etc/X11/xorg.conf.d")
"""The X server reads these folders in this order, before xorg.conf."""
EDID_NAME = "gpufan-edid.bin"

_CREATED = b"gpufan setup-xorg created the file beside this one; --restore removes both\n"


@dataclass(frozen=True, slots=True)
class Change:
    """A planned change of xorg.conf. If `before` or `after` is None, there is no file then."""

    path: Path
    """Path of xorg.conf, with symbolic links resolved."""
    before: bytes | None
    after: bytes | None
    edid: bytes | None = None
    """Content of the EDID file beside it; None if no monitor is pretended."""
    notes: tuple[str, ...] = ()

    @property
    def edid_path(self) -> Path:
        """Path of the EDID file."""
        return self.path.with_name(EDID_NAME)

    @property
    def is_needed(self) -> bool:
        """Whether a file has to be written."""
        return self.before != self.after or (
            self.edid is not None and files.read_if_exists(self.edid_path) != self.edid
        )

    def difference(self) -> bytes:
        """Return the difference in the unified format."""
        name = os.fsencode(self.path)
        lines = difflib.diff_bytes(
            difflib.unified_diff,
            BytesIO(self.before or b"").readlines(),
            BytesIO(self.after or b"").readlines(),
            name if self.before is not None else b"/dev/null",
            name if self.after is not None else b"/dev/null",
        )
        return b"".join(line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n" for line in lines)


def plan_setup(
    output: Path,
    cards: Sequence[PciAddress],
    coolbits: int = 4,
    pretend_monitor: bool = False,
    snippet_folders: Sequence[Path] = (),
) -> Change:
    """Plan the change with which X can set the fans of `cards`. Nothing is written.

    Raises InputError, with line and column, for a file that the X server could not read.
    """
    path = files.real_path(output)
    before = files.read_if_exists(path)
    edid = path.with_name(EDID_NAME) if pretend_monitor else None
    if edid is not None and set('"\r\n') & set(str(edid)):
        raise InputError(f"{edid}: this path cannot be written in xorg.conf: give another --output")
    wanted = Wanted(coolbits, None if edid is None else os.fsencode(edid).decode("latin-1"))
    config = Config(before or b"", str(output))
    edited = edit(config, cards, wanted)
    notes = (*edited.notes, *snippet_notes(snippet_folders, Config(edited.data, str(output)), coolbits))
    return Change(path, before, edited.data, PRETENDED_EDID if pretend_monitor else None, notes)


def apply_setup(change: Change) -> Path | None:
    """Back up the file, then write it. Return the path of the backup; None if no backup was needed.

    Raises GpufanError; the file is then unchanged.
    """
    _check_unchanged(change)
    if change.edid is not None and files.read_if_exists(change.edid_path) != change.edid:
        files.replace(change.edid_path, change.edid)
    backup = None
    if change.before is not None and change.before != change.after:
        backup = _back_up(change.path, change.before)
    elif change.before is None and _first_backup(change.path) is None:
        files.create(_beside(change.path, "created"), _CREATED)
    if change.after is not None and change.before != change.after:
        files.replace(change.path, change.after, like=change.path if change.before is not None else None)
    return backup


def plan_restore(output: Path) -> Change | None:
    """Plan to undo all runs; None if there is nothing to undo. Nothing is written."""
    path = files.real_path(output)
    first_backup = _first_backup(path)
    if first_backup is None:
        return None
    original = files.read_if_exists(first_backup) if first_backup == _beside(path, "original") else None
    return Change(path, files.read_if_exists(path), original)


def apply_restore(change: Change) -> Path | None:
    """Restore the original file, or remove the file if there was none. Return the backup of the replaced content.

    Raises GpufanError; the file is then unchanged.
    """
    _check_unchanged(change)
    first_backup = _first_backup(change.path)
    backup = None
    if change.before is not None and change.before != change.after:
        backup = _back_up_numbered(change.path, change.before)
    if change.after is None:
        files.remove(change.path)
    elif change.before != change.after:
        files.replace(change.path, change.after, like=first_backup)
    if files.read_if_exists(change.edid_path) == PRETENDED_EDID and EDID_NAME.encode() not in (change.after or b""):
        files.remove(change.edid_path)
    # Last: if the restore fails before, a second attempt needs this backup.
    if first_backup is not None:
        files.remove(first_backup)
    return backup


def snippet_notes(folders: Iterable[Path], config: Config, coolbits: int) -> list[str]:
    """Return notes on the files in `folders` (xorg.conf.d) that affect `config`: the server reads them first."""
    notes = []
    for folder in folders:
        for path in sorted(folder.glob("*.conf")):
            try:
                notes += _notes_on(Config(files.read_if_exists(path) or b"", str(path)), config, coolbits)
            except GpufanError as error:
                notes.append(f"{error} (the X server cannot read this file)")
    return notes


def _notes_on(snippet: Config, config: Config, coolbits: int) -> list[str]:
    notes = []
    names = {(section.kind, same_name(config.identifier(section))) for section in _named(config)}
    for section in snippet.sections:
        where = f"{snippet.name}:{snippet.line(section.start)}"
        for _, value in snippet.options(section, "coolbits"):
            notes.append(f"{where}: {_on_coolbits(value.text if value else '', section, coolbits)}")
        if section.kind == "serverlayout":
            notes.append(f"{where}: this ServerLayout would override the one in xorg.conf: remove it")
        elif section in _named(snippet) and (section.kind, same_name(snippet.identifier(section))) in names:
            kind = section.kind.capitalize()
            notes.append(f"{where}: this {kind} would override the one of the same name in xorg.conf: rename it")
    return notes


def _on_coolbits(text: str, section: Section, coolbits: int) -> str:
    better = with_bits(text, coolbits)
    if better == text:
        return f'already sets Coolbits "{text}"'
    # An OutputClass is for all devices of a kind; a Device overrides it.
    verb = "is overridden by" if section.kind == "outputclass" else "would override"
    return f'sets Coolbits "{readable(text)}", which {verb} xorg.conf: make it "{better or coolbits}"'


def _named(config: Config) -> list[Section]:
    return [section for section in config.sections if section.kind in ("device", "screen", "serverlayout")]


def _check_unchanged(change: Change) -> None:
    if files.read_if_exists(change.path) != change.before:
        raise GpufanError(f"{change.path} was changed by another program meanwhile: run this again")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.gpufan-{suffix}")


def _first_backup(path: Path) -> Path | None:
    """Return the backup or the marker of the first run; None if there is neither."""
    candidates = (_beside(path, "original"), _beside(path, "created"))
    return next((candidate for candidate in candidates if candidate.exists()), None)


def _back_up(path: Path, data: bytes) -> Path:
    """Back up a file before it is changed: the first time as the original, later under a number."""
    if _first_backup(path) is not None:
        return _back_up_numbered(path, data)
    original = _beside(path, "original")
    files.create(original, data, like=path)
    return original


def _back_up_numbered(path: Path, data: bytes) -> Path:
    """Back up a file under the first free number; return an existing backup with the same content instead."""
    for number in count(1):
        backup = _beside(path, str(number))
        held = files.read_if_exists(backup)
        if held == data:
            return backup
        if held is None:
            try:
                files.create(backup, data, like=path)
            except FileExistsError:
                continue
            return backup
    raise AssertionError
