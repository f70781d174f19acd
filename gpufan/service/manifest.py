"""Save the manifest: the list of all changes of an install. An uninstall reverses these changes.

The manifest records each change before the install makes it.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from gpufan.errors import GpufanError
from gpufan.service.disabled_unit import DisabledUnit
from gpufan.service.file_content import Content, read_content, write_content
from gpufan.system import files, systemctl

PATH = Path("/var/lib/gpufan-install/install.json")
"""Path of the manifest.

The manifest is not in the StateDirectory of the service, because `systemctl clean` removes that folder.
"""
OLD_PATH = Path("/var/lib/gpufan/install.json")
"""Path at which gpufan 0.1 saved the manifest."""
FORMAT = 1


class Manifest(msgspec.Struct):
    """All changes that an uninstall has to reverse."""

    format: int = FORMAT
    files: dict[str, Content] = {}
    """The files that an install wrote. Maps the path of each file to the content that the file had before."""
    disabled: dict[str, DisabledUnit] = msgspec.field(name="taken", default_factory=dict)
    """The units that an install disabled. Maps the name of each unit to the state that the unit had before."""
    folders: list[str] = []
    """Folders that were created for the files. A folder comes before its subfolders."""
    copied: bool = False
    """Whether the service runs a copy of gpufan."""
    digest: str | None = None
    """Digest of gpufan's code when the services were last started; None if the digest is unknown."""

    @property
    def units(self) -> list[str]:
        """The names of the units whose unit files an install wrote."""
        return [path.name for path in map(Path, self.files) if is_unit(path)]

    def save(self) -> None:
        """Write the manifest to `PATH`, and remove the file `OLD_PATH`. Raises GpufanError."""
        files.create_folder(PATH.parent)
        files.replace(PATH, msgspec.json.format(msgspec.json.encode(self)) + b"\n")
        files.remove(OLD_PATH)

    def add_file(self, path: Path) -> None:
        """Record the present content of the file `path`, and the missing folders above it.

        Do nothing if an earlier install has recorded the file. Raises GpufanError.
        """
        if str(path) not in self.files:
            self.files[str(path)] = read_content(path)
            made = [str(folder) for folder in reversed(path.parents) if not folder.exists()]
            self.folders += [folder for folder in made if folder not in self.folders]

    def remove_units(self, units: Sequence[str]) -> None:
        """Stop and disable `units`, and save the manifest without them.

        The file of each unit gets the content that it had before the install. Raises GpufanError.
        """
        for unit in units:
            systemctl.systemctl_stop_and_disable(unit)
            path = systemctl.UNIT_FOLDER / unit
            write_content(path, self.files.pop(str(path)))
            self.save()
        if units:
            systemctl.systemctl("daemon-reload")

    def restore_file(self, path: Path) -> None:
        """Give the file `path` the content that it had before the install, and forget it. Raises GpufanError."""
        write_content(path, self.files.pop(str(path)))
        self.save()

    def remove_empty_folders(self) -> None:
        """Remove the folders that were created for files, if they are empty by now."""
        for made in reversed(self.folders):
            with suppress(OSError):  # the folder has other content
                Path(made).rmdir()

    def add_disabled(self, unit: DisabledUnit) -> None:
        """Record a unit and the state that it had before the install.

        If the unit is recorded already, merge the recorded state with the new state, because an earlier install may
        have been killed after it stopped the unit. The unit counts as active if it is active in either state. The
        links of both states are kept.
        """
        first = self.disabled.get(unit.unit, unit)
        self.disabled[unit.unit] = DisabledUnit(unit.unit, first.active or unit.active, first.links | unit.links)


def is_unit(path: Path) -> bool:
    """Whether `path` is the path of a unit file."""
    return path.parent == systemctl.UNIT_FOLDER


def load_manifest() -> Manifest | None:
    """Return the saved manifest; None if gpufan is not installed as a service.

    Raises GpufanError if the manifest cannot be read or is damaged.
    """
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
    """Remove the saved manifest. Then remove its folder if the folder is empty. Raises GpufanError."""
    for path in (PATH, OLD_PATH):
        files.remove_temporaries(path)
        files.remove(path)
        with suppress(OSError):  # there is no such folder, or it has other content
            path.parent.rmdir()
