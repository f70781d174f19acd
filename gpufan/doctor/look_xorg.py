"""Find the Coolbits options in the configuration files of the X server."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gpufan.core.pci import PciAddress
from gpufan.doctor.facts import XorgFile
from gpufan.doctor.root_folder import below_root
from gpufan.errors import GpufanError
from gpufan.system.files import read_if_exists
from gpufan.xorg import setup
from gpufan.xorg.config import Config, readable

_XORG_CONF = Path("/etc/X11/xorg.conf")


def xorg_files(cards: Sequence[PciAddress]) -> tuple[XorgFile, ...]:
    """Every configuration file that the X server reads on a box with `cards`."""
    paths = [path for folder in setup.SNIPPET_FOLDERS for path in sorted(below_root(folder).glob("*.conf"))]
    files = [_xorg_file(path, incomplete=False) for path in paths]
    main = below_root(_XORG_CONF)
    if main.exists():
        incomplete = False
        with suppress(GpufanError):  # `_xorg_file` reports the same error
            incomplete = setup.plan_setup(main, cards).is_needed
        files.append(_xorg_file(main, incomplete=incomplete))
    return tuple(files)


def _xorg_file(path: Path, *, incomplete: bool) -> XorgFile:
    shown = f"/{path.relative_to(below_root('/'))}"
    try:
        config = Config(read_if_exists(path) or b"", shown)
        coolbits = tuple(
            (config.line(name.start), readable(value.text) if value else "")
            for section in config.sections
            for name, value in config.options(section, "coolbits")
        )
    except GpufanError as error:
        return XorgFile(shown, error=str(error))
    return XorgFile(shown, coolbits, incomplete=incomplete)
