"""Find exposed files.

A file is exposed if a user other than root can write it, or if the sandbox of the service hides it.
"""

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import gpufan

_HIDDEN = [Path(name) for name in ("/home", "/root", "/run/user", "/tmp", "/var/tmp")]
"""Folders that the sandbox of the service hides, or that all users share."""


def installation_exposure() -> str | None:
    """Return why a service that runs as root must not use this installation of gpufan.

    Return None if the service may use the installation.
    """
    roots = [sys.executable, *(entry for entry in sys.path if entry), str(Path(gpufan.__file__).parent)]
    return first_exposure([Path(root) for root in roots if Path(root).exists()])


def first_exposure(paths: Iterable[Path], *, below: bool = True) -> str | None:
    """Return a sentence about the first exposed file or folder; None if nothing is exposed.

    A file or folder is exposed if a user other than root can write it, or if the sandbox of the service hides it. The
    function checks `paths` and the folders above them. If `below` is True, it also checks everything below the folders
    in `paths`.
    """
    seen: set[Path] = set()
    for path in paths:
        for place in dict.fromkeys((path.absolute(), path.resolve())):
            hidden = next((folder for folder in _HIDDEN if place.is_relative_to(folder)), None)
            if hidden is not None:
                return f"{place} lies in {hidden}"
            for part in (*place.parents, *(_possibly_exposed_paths(place) if below else [place])):
                if part not in seen and os.path.lexists(part) and _is_writable_by_others(part):
                    return f"{part} is writable by users other than root"
                seen.add(part)
    return None


def _possibly_exposed_paths(path: Path) -> Iterator[Path]:
    """Return `path`. If `path` is a folder, also return every path below this folder."""
    yield path
    if path.is_dir():
        yield from path.rglob("*")


def _is_writable_by_others(path: Path) -> bool:
    """Whether a user other than root can write the file or folder `path`.

    If `path` is a symbolic link: whether such a user can replace the link.
    """
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return status.st_uid != 0
    # The only member of the group root is root.
    group = status.st_mode & stat.S_IWGRP and status.st_gid != 0
    return status.st_uid != 0 or bool(group or status.st_mode & stat.S_IWOTH)
