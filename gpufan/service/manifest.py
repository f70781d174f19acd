"""The manifest: what an install changes, saved before each change, so that an uninstall can restore it."""

from pathlib import Path

import msgspec

from gpufan.errors import GpufanError
from gpufan.service.disabled_unit import DisabledUnit
from gpufan.service.file_content import Content, create_folder, read_content
from gpufan.system import files

PATH = Path("/var/lib/gpufan/install.json")
FORMAT = 1


class Manifest(msgspec.Struct):
    """Everything that an uninstall has to restore."""

    format: int = FORMAT
    files: dict[str, Content] = {}
    """Files that were written, with the content that each had before."""
    disabled: dict[str, DisabledUnit] = msgspec.field(name="taken", default_factory=dict)
    """Units that were disabled, by name."""
    folders: list[str] = []
    """Folders that were created for the files, each before its subfolders."""
    copied: bool = False
    """Whether the service runs a copy of gpufan."""
    digest: str | None = None
    """Digest of the code that the services were last started with."""

    def save(self) -> None:
        """Write the manifest to `PATH`. Raises GpufanError."""
        create_folder(PATH.parent)
        files.replace(PATH, msgspec.json.format(msgspec.json.encode(self)) + b"\n")

    def add_file(self, path: Path) -> None:
        """Record the content of a file before it is written. A file that is recorded already keeps its first content.

        Raises GpufanError.
        """
        if str(path) not in self.files:
            self.files[str(path)] = read_content(path)
            made = [str(folder) for folder in reversed(path.parents) if not folder.exists()]
            self.folders += [folder for folder in made if folder not in self.folders]

    def add_disabled(self, unit: DisabledUnit) -> None:
        """Record a unit. A unit that is recorded already keeps its first state, unless it is in use again."""
        if unit.is_in_use or unit.unit not in self.disabled:
            self.disabled[unit.unit] = unit


def load() -> Manifest | None:
    """The saved manifest; None if gpufan is not installed as a service. Raises GpufanError."""
    data = files.read_if_exists(PATH)
    if data is None:
        return None
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise GpufanError(
            f"{PATH} is damaged ({error}): restore the files that it names by hand, then remove it"
        ) from None
    if manifest.format != FORMAT:
        raise GpufanError(f"{PATH} was written by a newer gpufan: use that version")
    return manifest


def delete() -> None:
    """Remove the saved manifest, and its folder if the folder is then empty. Raises GpufanError."""
    if PATH.parent.is_dir():
        files.remove(PATH)
        if not any(PATH.parent.iterdir()):
            PATH.parent.rmdir()
