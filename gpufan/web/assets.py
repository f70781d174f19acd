"""The files of the page: those in `templates/web/`, and Plotly's JavaScript from the Python package `plotly`."""

import gzip
import hashlib
import os
import threading
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from gpufan.errors import MissingExtra
from gpufan.system.resources import resource

PLOTLY = "plotly.min.js"
INDEX = "index.html"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
}
"""Files with other endings are not served."""

_STATIC = "/static/"


@dataclass
class Asset:
    """One file of the page. It is opened at the start, since the process may later lose the right to open it.

    It is read and compressed when it is first needed.
    """

    file: BinaryIO
    media_type: str
    _packed: bytes | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def packed(self) -> bytes:
        """Return the content, compressed with gzip. Raises OSError."""
        with self._lock:
            if self._packed is None:
                self._packed = gzip.compress(self.content(), 6, mtime=0)
            return self._packed

    def content(self) -> bytes:
        """Return the content. Raises OSError."""
        return os.pread(self.file.fileno(), os.fstat(self.file.fileno()).st_size, 0)


class Assets:
    """All files of the page. A name that is not among them is not served, so no path can leave the folder."""

    def __init__(self) -> None:
        """Find the files. Raises MissingExtra if the package plotly is missing, GpufanError if the page is missing."""
        folder = resource(f"templates/web/{INDEX}").parent
        self._index = Asset((folder / INDEX).open("rb"), _TYPES[".html"])
        self.files = {
            path.name: Asset(path.open("rb"), _TYPES[path.suffix])
            for path in sorted(folder.iterdir())
            if path.suffix in _TYPES and path.name != INDEX
        }
        self.files[PLOTLY] = Asset(_plotly_path().open("rb"), _TYPES[".js"])
        digest = hashlib.sha256(_plotly_version().encode())
        for name, asset in self.files.items():
            if name != PLOTLY:
                digest.update(name.encode() + b"\0" + asset.content())
        self.digest = digest.hexdigest()[:16]
        """A hash of all files. It is a folder in their addresses, so that browsers may store them for ever."""

    def index(self) -> str:
        """Return the page. The addresses of its files contain `digest`. Raises OSError."""
        return self._index.content().decode().replace(_STATIC, f"{_STATIC}{self.digest}/")


def _plotly_path() -> Path:
    """Return the path of Plotly's JavaScript, without importing plotly. Raises MissingExtra if there is none."""
    found = find_spec("plotly")
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = Path(folder, "package_data", PLOTLY)
        if path.is_file():
            return path
    raise MissingExtra("gpufan web needs", "plotly", "web")


def _plotly_version() -> str:
    """Return the version of the package plotly; empty if it is unknown."""
    try:
        return version("plotly")
    except PackageNotFoundError:
        return ""
