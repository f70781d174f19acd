"""The manifest: the list of all changes of an install, saved before each change. An uninstall restores them."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from gpufan.errors import GpufanError
from gpufan.service.disabled_unit import DisabledUnit
from gpufan.service.file_content import Content, read_content, write_content
from gpufan.system import files, systemctl

PATH = Path("/var/lib/gpufan-install/install.json")
"""This is not the StateDirectory of the service, since `systemctl clean` removes that."""
OLD_PATH = Path("/var/lib/gpufan/install.json")
"""Here gpufan 0.1 saved the manifest."""
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
    """Digest of the code with which the services were started last; None if that is unknown."""

    @property
    def units(self) -> list[str]:
        """The names of the units whose files were written."""
        return [path.name for path in map(Path, self.files) if path.parent == systemctl.UNIT_FOLDER]

    def save(self) -> None:
        """Write the manifest to `PATH`. Raises GpufanError."""
        files.create_folder(PATH.parent)
        files.replace(PATH, msgspec.json.format(msgspec.json.encode(self)) + b"\n")
        files.remove(OLD_PATH)

    def add_file(self, path: Path) -> None:
        """Record the present content of a file, unless an earlier install has recorded it. Raises GpufanError."""
        if str(path) not in self.files:
            self.files[str(path)] = read_content(path)
            made = [str(folder) for folder in reversed(path.parents) if not folder.exists()]
            self.folders += [folder for folder in made if folder not in self.folders]

    def remove_units(self, units: Sequence[str]) -> None:
        """Stop these units, and restore their files to the content before the install. Raises GpufanError."""
        for unit in units:
            systemctl.systemctl_stop_and_disable(unit)
            path = systemctl.UNIT_FOLDER / unit
            write_content(path, self.files.pop(str(path)))
            self.save()
        if units:
            systemctl.systemctl("daemon-reload")

    def add_disabled(self, unit: DisabledUnit) -> None:
        """Record a unit. An earlier record of the unit stays valid, since that install may have been killed midway."""
        first = self.disabled.get(unit.unit, unit)
        self.disabled[unit.unit] = DisabledUnit(unit.unit, first.active or unit.active, first.links | unit.links)


def load_manifest() -> Manifest | None:
    """Read the saved manifest; None if gpufan is not installed as a service. Raises GpufanError."""
    path = PATH if PATH.exists() else OLD_PATH
    data = files.read_file_if_exists(path)
    if data is None:
        return None
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise GpufanError(
            f"{path} is damaged ({error}): restore the files that it names by hand, then remove it"
        ) from None
    if manifest.format != FORMAT:
        raise GpufanError(f"{path} was written by a newer gpufan: use that version")
    return manifest


def restore_manifest(before: Manifest | None) -> None:
    """Save the manifest `before` again. If `before` is None, delete the saved manifest. Raises GpufanError."""
    if before is None:
        delete_manifest()
    else:
        before.save()


def delete_manifest() -> None:
    """Remove the saved manifest, and then its folder if that is empty. Raises GpufanError."""
    for path in (PATH, OLD_PATH):
        files.remove_temporaries(path)
        files.remove(path)
        with suppress(OSError):  # there is no such folder, or it has other content
            path.parent.rmdir()
