"""Finds the Coolbits options in the configuration files of the X server."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gpufan.core.pci import PciAddress
from gpufan.doctor.facts import XorgFile
from gpufan.doctor.root_folder import below_root
from gpufan.errors import GpufanError
from gpufan.system.files import read_file_if_exists
from gpufan.xorg import search
from gpufan.xorg.box import PCI_FOLDER, graphics_devices, make_box
from gpufan.xorg.config import ConfigFile
from gpufan.xorg.plan import PlanOptions, make_plan


def look_at_xorg_files(cards: Sequence[PciAddress]) -> tuple[XorgFile, ...]:
    """Return each configuration file that the X server reads, with the Coolbits options in the file.

    `cards` are the PCI addresses of the NVIDIA cards of the box.
    """
    main = search.main_config_file(below_root("/"))
    try:
        folders = search.snippet_folders(below_root("/"))
    except GpufanError as error:
        return (XorgFile("/etc/X11/xorg.conf.d", error=str(error)),)
    incomplete: set[str] = set()
    with suppress(GpufanError):  # `_look_at_xorg_file` reports what is wrong with one file
        configuration = search.read_configuration(main, folders)
        box = make_box(cards, graphics_devices(below_root(PCI_FOLDER)))
        incomplete = {name for name, _, _ in make_plan(configuration, box, PlanOptions()).changes}
    paths = [*search.snippets(folders), *([main] if main.exists() else [])]
    return tuple(_look_at_xorg_file(path, incomplete=str(path) in incomplete) for path in paths)


def _look_at_xorg_file(path: Path, *, incomplete: bool) -> XorgFile:
    """Return the file `path` with its Coolbits options, or with the reason why the X server cannot read it.

    `incomplete` is the value for `XorgFile.incomplete`.
    """
    shown = f"/{path.relative_to(below_root('/'))}"
    try:
        file = ConfigFile(read_file_if_exists(path) or b"", shown)
        coolbits = tuple(
            (file.line(option.name.start), option.value.shown if option.value else "")
            for section in file.sections
            for option in (section.option("coolbits"), *section.subsection_options("coolbits"))
            if option is not None
        )
    except GpufanError as error:
        return XorgFile(shown, error=str(error))
    return XorgFile(shown, coolbits, incomplete=incomplete)
