"""`gpufan setup-xorg`: find the cards, work out the new xorg.conf, show the difference, write it, take it back.

Beside the file stand, as long as our change is in force, either `FILE.gpufan-original`, what it was before the first
run, or the marker `FILE.gpufan-created`, if it was not there. Whatever else is replaced is kept as `FILE.gpufan-1`,
`-2` and so on.
"""

import difflib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from pathlib import Path

from gpufan.core.pci import PciAddress
from gpufan.errors import DriverError, GpufanError, InputError
from gpufan.system import files
from gpufan.system.resources import template
from gpufan.xorg.config import Config, Section, same_name, with_bits
from gpufan.xorg.edid import pretended_edid
from gpufan.xorg.edit import Wanted, edit

SNIPPET_FOLDERS = Path("/usr/share/X11/xorg.conf.d"), Path("/etc/X11/xorg.conf.d")
"""In the order in which the X server reads them, before xorg.conf."""
PCI_FOLDER = Path("/sys/bus/pci/devices")
EDID_NAME = "gpufan-edid.bin"

_NVIDIA = "0x10de"
_DISPLAY_CLASSES = "0x0300", "0x0302"
_CREATED = b"gpufan setup-xorg wrote the file beside this one where there was none; --restore removes both\n"


def find_cards(nvml_addresses: Callable[[], Iterable[str]], pci_folder: Path = PCI_FOLDER) -> list[PciAddress]:
    """Find every NVIDIA display device: those that the driver knows, or where it does not run, those on the PCI bus.

    Raises GpufanError where there is none.
    """
    try:
        cards = [PciAddress.parse(address) for address in nvml_addresses()]
    except (DriverError, InputError):
        cards = []
    cards = cards or pci_cards(pci_folder)
    if not cards:
        raise GpufanError("no NVIDIA card found: look at `lspci -d 10de:`, or try --simulate dual-1080ti")
    return cards


def pci_cards(folder: Path = PCI_FOLDER) -> list[PciAddress]:
    """Find the NVIDIA display devices on the PCI bus."""
    return [
        PciAddress.parse(device.name)
        for device in sorted(folder.glob("*:*:*.*"))
        if _attribute(device, "vendor") == _NVIDIA and _attribute(device, "class").startswith(_DISPLAY_CLASSES)
    ]


def _attribute(device: Path, name: str) -> str:
    try:
        return (device / name).read_text().strip().lower()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become of xorg.conf. Contents are None where there is no file."""

    path: Path
    """With symbolic links followed."""
    before: bytes | None
    after: bytes | None
    edid: bytes | None = None
    """What to write beside it as the pretended monitor's EDID."""
    notes: tuple[str, ...] = ()

    @property
    def edid_path(self) -> Path:
        """Where the EDID goes."""
        return self.path.with_name(EDID_NAME)

    @property
    def is_needed(self) -> bool:
        """Whether anything is to be written."""
        return self.before != self.after or (
            self.edid is not None and files.read_if_exists(self.edid_path) != self.edid
        )

    def difference(self) -> bytes:
        """Return the unified difference."""
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
    """Work out the change that lets X set the fans of `cards`; nothing is written.

    Raises InputError, with line and column, for a file that the X server could not read.
    """
    path = files.real_path(output)
    before = files.read_if_exists(path)
    edid = path.with_name(EDID_NAME) if pretend_monitor else None
    if edid is not None and set('"\r\n') & set(str(edid)):
        raise InputError(f"{edid}: xorg.conf has no way to write this path: give another --output")
    wanted = Wanted(coolbits, None if edid is None else os.fsencode(edid).decode("latin-1"))
    config = Config(before or b"", str(output))
    edited = edit(config, cards, wanted, render)
    notes = (*edited.notes, *snippet_notes(snippet_folders, Config(edited.data, str(output)), coolbits))
    return Change(path, before, edited.data, pretended_edid() if pretend_monitor else None, notes)


def apply_setup(change: Change) -> Path | None:
    """Keep a backup, then write; return the backup, or None where there was nothing to keep.

    Raises GpufanError; the file is then as it was.
    """
    _check_unchanged(change)
    if change.edid is not None and files.read_if_exists(change.edid_path) != change.edid:
        files.replace(change.edid_path, change.edid)
    backup = None
    if change.before is not None and change.before != change.after:
        backup = _keep(change.path, change.before)
    elif change.before is None and _record(change.path) is None:
        files.create(_beside(change.path, "created"), _CREATED)
    if change.after is not None and change.before != change.after:
        files.replace(change.path, change.after, like=change.path if change.before is not None else None)
    return backup


def plan_restore(output: Path) -> Change | None:
    """Work out how to undo every run since the first; None where there is none to undo. Nothing is written."""
    path = files.real_path(output)
    record = _record(path)
    if record is None:
        return None
    original = files.read_if_exists(record) if record == _beside(path, "original") else None
    return Change(path, files.read_if_exists(path), original)


def apply_restore(change: Change) -> Path | None:
    """Put the original back, or remove the file where there was none; return the backup of what stood there.

    Raises GpufanError; the file is then as it was.
    """
    _check_unchanged(change)
    record = _record(change.path)
    backup = None
    if change.before is not None and change.before != change.after:
        backup = _number(change.path, change.before)
    if change.after is None:
        files.remove(change.path)
    elif change.before != change.after:
        files.replace(change.path, change.after, like=record)
    if files.read_if_exists(change.edid_path) == pretended_edid() and EDID_NAME.encode() not in (change.after or b""):
        files.remove(change.edid_path)
    # Last: until the file is back, the record is what a second try needs.
    if record is not None:
        files.remove(record)
    return backup


def snippet_notes(folders: Iterable[Path], config: Config, coolbits: int) -> list[str]:
    """Say where a snippet of xorg.conf.d has a word in what `config` is about: the server reads those first."""
    notes = []
    for folder in folders:
        for path in sorted(folder.glob("*.conf")):
            try:
                notes += _notes_on(Config(files.read_if_exists(path) or b"", str(path)), config, coolbits)
            except GpufanError as error:
                notes.append(f"{error} (the X server will stumble here)")
    return notes


def _notes_on(snippet: Config, config: Config, coolbits: int) -> list[str]:
    notes = []
    names = {(section.kind, same_name(config.identifier(section))) for section in _named(config)}
    for section in snippet.sections:
        where = f"{snippet.name}:{snippet.line(section.start)}"
        for _, value in snippet.options(section, b"coolbits"):
            notes.append(f"{where}: {_on_coolbits(value.text if value else b'', section, coolbits)}")
        if section.kind == b"serverlayout":
            notes.append(f"{where}: this ServerLayout would override the one in xorg.conf: remove it")
        elif section in _named(snippet) and (section.kind, same_name(snippet.identifier(section))) in names:
            kind = section.kind.decode().capitalize()
            notes.append(f"{where}: this {kind} would override the one of the same name in xorg.conf: rename it")
    return notes


def _on_coolbits(text: bytes, section: Section, coolbits: int) -> str:
    better = with_bits(text, coolbits)
    held = text.decode(errors="backslashreplace")
    if better == text:
        return f'already sets Coolbits "{held}"'
    # What is said of a class of devices counts for less than what is said of one.
    verb = "is overridden by" if section.kind == b"outputclass" else "would override"
    return f'sets Coolbits "{held}", which {verb} xorg.conf: make it "{(better or b"%d" % coolbits).decode()}"'


def _named(config: Config) -> list[Section]:
    return [section for section in config.sections if section.kind in (b"device", b"screen", b"serverlayout")]


def render(**context: object) -> str:
    """Make the text of new sections; see `gpufan.xorg.edit.edit`."""
    return template("templates/xorg.conf.j2").render(context)


def _check_unchanged(change: Change) -> None:
    if files.read_if_exists(change.path) != change.before:
        raise GpufanError(f"{change.path} was changed by someone else meanwhile: run this again")


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}.gpufan-{what}")


def _record(path: Path) -> Path | None:
    """Return what tells how things were before the first run."""
    for what in ("original", "created"):
        if _beside(path, what).exists():
            return _beside(path, what)
    return None


def _keep(path: Path, data: bytes) -> Path:
    """Back up a file before it is changed, the first time as the original."""
    if _record(path) is not None:
        return _number(path, data)
    original = _beside(path, "original")
    files.create(original, data, like=path)
    return original


def _number(path: Path, data: bytes) -> Path:
    """Back up a file under the first free number, unless a backup already holds the same."""
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
