"""Finds out how this gpufan and the copy for the service were installed."""

import sys
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path

from gpufan import __version__
from gpufan.service import root_copy
from gpufan.service.package import is_package


class Kind(Enum):
    """The ways to install gpufan. The value is a text for people: `gpufan 0.2.0 from ...`."""

    PACKAGE = "from a package of the distribution"
    COPY = "from the copy that only root can write"
    PIPX = "from pipx"
    UV = "from uv"
    SOURCE = "from a source tree in development mode"
    ENVIRONMENT = "from a virtual environment"
    SYSTEM = "from the Python of the system"


@dataclass(frozen=True)
class Installation:
    """One installation of gpufan."""

    kind: Kind
    folder: Path
    """The folder of the virtual environment, or of the Python."""
    version: str


def this_installation() -> Installation:
    """Return how the gpufan that runs was installed."""
    folder = Path(sys.prefix)
    return Installation(_installation_kind(folder), folder, __version__)


def copied_installation() -> Installation | None:
    """Return the installation in the copy for the service; None if there is no copy."""
    for path in root_copy.COPY.glob("lib/python3*/site-packages/gpufan-*.dist-info"):
        version = path.name.removeprefix("gpufan-").removesuffix(".dist-info")
        return Installation(Kind.COPY, root_copy.COPY, version)
    return None


def _installation_kind(folder: Path) -> Kind:
    """Return the kind of the installation in `folder`, which is the `sys.prefix` of the running Python."""
    if is_package():
        return Kind.PACKAGE
    if folder == root_copy.COPY:
        return Kind.COPY
    if (folder / "pipx_metadata.json").exists():
        return Kind.PIPX
    if (folder / "uv-receipt.toml").exists():
        return Kind.UV
    if _is_editable():
        return Kind.SOURCE
    return Kind.SYSTEM if sys.prefix == sys.base_prefix else Kind.ENVIRONMENT


def _is_editable() -> bool:
    """Whether this gpufan is an editable installation (PEP 610)."""
    try:
        text = metadata.distribution("gpufan").read_text("direct_url.json") or ""
    except metadata.PackageNotFoundError:
        return False
    return '"editable":true' in text.replace(" ", "")
