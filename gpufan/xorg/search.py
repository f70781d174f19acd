"""Find and read the configuration files of X (snippets and xorg.conf), in the order in which X reads them."""

import os
import platform
import stat
from collections.abc import Sequence
from pathlib import Path

from gpufan.errors import GpufanError, InputError
from gpufan.system import files
from gpufan.xorg.box import Box
from gpufan.xorg.config import ConfigFile
from gpufan.xorg.configuration import Configuration

SYSTEM_FOLDERS = tuple(Path(root, "X11/xorg.conf.d") for root in ("/usr/share", "/usr/lib", "/usr/lib64"))
"""Folders of snippets that packages install. X uses only the first of these folders that has a snippet."""

LOCAL_FOLDERS = Path("/etc/X11/xorg.conf.d"), Path("/usr/etc/X11/xorg.conf.d")
"""Folders of snippets of the administrator. X uses only the first of these folders that has a snippet."""

MODULE_FOLDERS = tuple(
    Path("/usr", folder)
    for folder in (
        *("lib/xorg/modules", "lib64/xorg/modules", "lib64/nvidia/xorg", "lib/nvidia/xorg"),
        *("lib/x86_64-linux-gnu/nvidia/xorg", "lib/aarch64-linux-gnu/nvidia/xorg"),
    )
)
"""Folders in which distributions install drivers of X."""

NVIDIA_X_DRIVER = "nvidia_drv.so"

_MAX_FILES = 64
_NULL_DEVICE = os.makedev(1, 3)

DEFAULT_MAIN = Path("/etc/X11/xorg.conf")


def snippet_folders(root: Path = Path("/")) -> list[Path]:
    """Return the folders of snippets below `root` that X uses, in the order in which X reads them."""
    return [folder for group in (SYSTEM_FOLDERS, LOCAL_FOLDERS) for folder in _first_used_folder(group, root)]


def main_config_file(root: Path = Path("/")) -> Path:
    """Return the path of the xorg.conf below `root` that X reads after the snippets.

    If there is no xorg.conf, return the path of /etc/X11/xorg.conf below `root`.
    """
    return next((path for path in _main_config_files(root) if path.exists()), root / DEFAULT_MAIN.relative_to("/"))


def is_read_by_x(main: Path, folders: Sequence[Path], root: Path = Path("/")) -> bool:
    """Whether X reads the file `main` without the option -config, if `main` exists. `folders` are those of snippets."""
    real = main.resolve()
    # X reads only the first xorg.conf.
    found = next((path for path in _main_config_files(root) if path.exists() or path.resolve() == real), None)
    return _is_in_snippet_folder(main, folders) or (found is not None and found.resolve() == real)


def snippets(folders: Sequence[Path]) -> list[Path]:
    """Return the paths of the snippets in `folders`, in the order in which X reads them.

    Folders and /dev/null are left out: X opens them, but reads no text there. Raises GpufanError if a folder cannot be
    read.
    """
    return [path for folder in folders for path in _opened_snippets(folder) if not _is_empty_for_x(path)]


def read_configuration(main: Path, folders: Sequence[Path]) -> Configuration:
    """Read the snippets in `folders`, and then the file `main`. A missing `main` counts as empty.

    If `main` is in one of `folders`, read `main` as a snippet, and then the xorg.conf that X reads after the snippets.
    Raises InputError if X would refuse the configuration, would not read `main`, or would not read all files. Raises
    GpufanError if a file cannot be read.
    """
    paths = snippets(folders)
    if _is_in_snippet_folder(main, folders):
        if not _is_snippet_name(main.name):
            raise InputError(f"{main}: X reads only files *.conf in this folder: choose another --output")
        if main not in paths:
            paths = sorted([*paths, main], key=lambda path: (_snippet_folder_number(path, folders), bytes(path)))
        usual = main_config_file()
        paths += [usual] if usual.exists() else []
    else:
        paths.append(main)
    opened = {path for folder in folders for path in _opened_snippets(folder)}.union(paths)
    if len(opened) > _MAX_FILES:
        raise InputError(
            f"X reads {_MAX_FILES} files at most, and there would be {len(opened)}: join some of the files"
        )
    parsed = [ConfigFile(files.read_file_if_exists(path) or b"", str(path), str(path.resolve())) for path in paths]
    return Configuration(tuple(parsed), str(main))


def lacks_x_driver(configuration: Configuration, box: Box) -> bool:
    """Whether the ModulePath of `configuration` is wrong: X finds no driver of NVIDIA there.

    If no folder of X has this driver, it may not be installed yet. Then the ModulePath is wrong only if it has no
    drivers of X at all.
    """
    found = configuration.module_path()
    if found is None:
        return False
    entries = list(found[1])
    if not box.without_drm.issuperset(box.cards):
        entries += [entry for section in configuration.output_classes() for entry in section.entries("modulepath")]
    texts = [text for entry in entries for text in entry.strings[0].text.split(",") if text.startswith("/")]
    folders = [Path(os.fsdecode(text.encode("latin-1"))) for text in texts]
    if _has_module(folders, NVIDIA_X_DRIVER):
        return False
    return _has_module(MODULE_FOLDERS, NVIDIA_X_DRIVER) or not _has_module(folders, "*_drv.so")


def _has_module(folders: Sequence[Path], name: str) -> bool:
    """Whether X finds a module of this name in `folders`. X looks into the folders below them too."""
    return any(next(folder.rglob(name), None) is not None for folder in folders)


def real_config_file(path: Path) -> Path:
    """Return the path of a file of X with all symbolic links resolved. The file need not exist yet.

    Raises InputError if the links form a circle, if the path is not the path of a file, or if the folder does not
    exist.
    """
    try:
        real = path.absolute().resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if real.is_symlink():
        raise InputError(f"{path}: its symbolic links form a circle: remove them first")
    if real.exists() and not real.is_file():
        raise InputError(f"{path} is not a file: give the path of a file with --output")
    if not real.parent.is_dir():
        remedy = "install the X server (xserver-xorg-core), or create it"
        if path != DEFAULT_MAIN:
            remedy = "create it first, or choose another --output"
        raise InputError(f"{real.parent} does not exist: {remedy}")
    return real


def _main_config_files(root: Path) -> list[Path]:
    """Return the paths below `root` at which X looks for xorg.conf, in the order of X."""
    host = platform.node()
    names = [
        *("etc/X11/xorg.conf", "etc/xorg.conf", f"usr/etc/X11/xorg.conf.{host}", "usr/etc/X11/xorg.conf"),
        *(f"usr/lib/X11/xorg.conf.{host}", "usr/lib/X11/xorg.conf"),
    ]
    return [root / name for name in names]


def _first_used_folder(folders: Sequence[Path], root: Path) -> list[Path]:
    """Return a list with the first folder below `root` that has a snippet.

    If no folder has a snippet, return a list with the first folder that exists. If no folder exists, return an empty
    list.
    """
    below = [root / folder.relative_to("/") for folder in folders]
    used = [folder for folder in below if _opened_snippets(folder)]
    return (used or [folder for folder in below if folder.is_dir()])[:1]


def _opened_snippets(folder: Path) -> list[Path]:
    """Return the paths in one folder that X opens as snippets, sorted as X sorts them.

    Returns an empty list if there is no such folder. Raises GpufanError if only root may read the folder.
    """
    try:
        found = list(folder.iterdir())
    except PermissionError as error:  # X has the rights of root
        raise GpufanError(f"cannot read {folder}: {error.strerror}") from error
    except OSError:
        return []
    return sorted((path for path in found if _is_snippet_name(path.name) and path.exists()), key=bytes)


def _is_snippet_name(name: str) -> bool:
    """Whether X opens files of this name as snippets. It does not open hidden files."""
    return name.endswith(".conf") and not name.startswith(".")


def _is_empty_for_x(path: Path) -> bool:
    """Whether X reads no text at `path`, because it is a folder or /dev/null."""
    status = path.stat()
    return stat.S_ISDIR(status.st_mode) or (stat.S_ISCHR(status.st_mode) and status.st_rdev == _NULL_DEVICE)


def _is_in_snippet_folder(main: Path, folders: Sequence[Path]) -> bool:
    """Whether the main file is in one of the folders of snippets."""
    return any(main.parent.resolve() == folder.resolve() for folder in folders)


def _snippet_folder_number(path: Path, folders: Sequence[Path]) -> int:
    """Return the index of the folder in `folders` that contains the snippet `path`."""
    return next(i for i, folder in enumerate(folders) if path.parent.resolve() == folder.resolve())
