"""What an install has changed, written down before each change, so that it can be put back after whatever happened."""

from pathlib import Path

import msgspec

from gpufan.errors import GpufanError
from gpufan.service.disabled_unit import DisabledUnit
from gpufan.system import files

PATH = Path("/var/lib/gpufan/install.json")
FORMAT = 1


class Special(msgspec.Struct, frozen=True):
    """What stood in the place of a file and was not text: a symbolic link, or any bytes."""

    link: str | None = None
    data: bytes = b""


Before = str | Special | None
"""What stood in the place of a file; None where nothing did."""


class Manifest(msgspec.Struct):
    """What to put back."""

    format: int = FORMAT
    files: dict[str, Before] = {}
    """Files written, with what stood there before."""
    taken: dict[str, DisabledUnit] = {}
    """Units put aside, by name."""
    folders: list[str] = []
    """Folders made for those files, each before those in it."""
    copied: bool = False
    """Whether the code that runs is a copy made for it."""
    digest: str | None = None
    """Of the code that the services were last started with."""

    def save(self) -> None:
        """Write it. Raises GpufanError."""
        try:
            PATH.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise GpufanError(f"cannot write {PATH.parent}: {error.strerror}") from error
        files.replace(PATH, msgspec.json.format(msgspec.json.encode(self)) + b"\n")

    def add_file(self, path: Path) -> None:
        """Add a file that is about to be written. What stood there before the first install counts."""
        if str(path) not in self.files:
            self.files[str(path)] = look(path)
            made = [str(folder) for folder in reversed(path.parents) if not folder.exists()]
            self.folders += [folder for folder in made if folder not in self.folders]

    def take(self, taken: DisabledUnit) -> None:
        """Add a unit. What it was before the first install counts, unless somebody has enabled it since."""
        if taken.is_in_use or taken.unit not in self.taken:
            self.taken[taken.unit] = taken


def look(path: Path) -> Before:
    """What stands at `path`. Raises GpufanError."""
    if path.is_symlink():
        return Special(link=str(path.readlink()))
    data = files.read_if_exists(path)
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Special(data=data)


def put_back(path: Path, before: Before) -> None:
    """Make `path` what it was. Raises GpufanError."""
    if before is None:
        files.remove(path)
    elif isinstance(before, str):
        files.replace(path, before.encode())
    elif before.link is None:
        files.replace(path, before.data)
    else:
        files.remove(path)
        try:
            path.symlink_to(before.link)
        except OSError as error:
            raise GpufanError(f"cannot link {path} to {before.link} again: {error.strerror}") from error


def load() -> Manifest | None:
    """The manifest of what is installed, or None. Raises GpufanError."""
    data = files.read_if_exists(PATH)
    if data is None:
        return None
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise GpufanError(f"{PATH} is damaged ({error}): put the files it names back by hand, then remove it") from None
    if manifest.format != FORMAT:
        raise GpufanError(f"{PATH} was written by a newer gpufan: use that one")
    return manifest


def forget() -> None:
    """Remove the manifest, and its folder unless something else lies in it. Raises GpufanError."""
    if PATH.parent.is_dir():
        files.remove(PATH)
        if not any(PATH.parent.iterdir()):
            PATH.parent.rmdir()
