"""The package of the distribution (.deb, .rpm): its paths, and the unit files that it contains.

`.ci/package` builds it. The package also contains the manual pages and the completion, so `install-service` does not
write them.
"""

import sys
from pathlib import Path

from gpufan.config.settings import DEFAULT_PATH
from gpufan.service.units import COMPANIONS, DROP_IN, unit_files
from gpufan.system import files

PACKAGE = Path("/usr/lib/gpufan")
"""The virtual environment in the package."""
PACKAGED_UNIT_FOLDER = Path("/usr/lib/systemd/system")
INTERPRETER = str(PACKAGE / "bin/python3")
RELEASE_SCRIPT = str(PACKAGE / "lib/python3/site-packages/gpufan/gpu/release_fans.py")


def is_package() -> bool:
    """Whether this gpufan is from the package."""
    return Path(sys.prefix) == PACKAGE


def packaged_units() -> dict[str, str]:
    """Return the unit files of the package. The result maps the name of each unit to its text."""
    texts = unit_files(INTERPRETER, RELEASE_SCRIPT, str(DEFAULT_PATH), xserver=True, companions=COMPANIONS)
    return {Path(path).name: text for path, text in texts.items() if not path.endswith(DROP_IN)}


def is_packaged_unit(name: str, text: str) -> bool:
    """Whether this gpufan is from the package, and the package contains the unit `name` with exactly this text."""
    return is_package() and files.read_file_if_exists(PACKAGED_UNIT_FOLDER / name) == text.encode()
