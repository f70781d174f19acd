"""A copy of gpufan that only root can write, for a service whose installation belongs to a user.

The copy is made from the installed files, without network. None of its code runs before all of it is checked.
"""

import ctypes
import hashlib
import os
import re
import shutil
import sys
import sysconfig
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import gpufan
from gpufan.errors import GpufanError
from gpufan.gpu import release_fans
from gpufan.service.exposure import first_exposure
from gpufan.system.resources import resource
from gpufan.system.systemctl import program_output

COPY = Path("/opt/gpufan")
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
_MARK = ".copied-by-gpufan"
"""File in a copy. It contains the digest of the sources once the copy is complete."""
_PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
_EXTRAS = re.compile(r"""extra\s*==\s*["'](alerts|metrics)["']""")
"""Condition of the requirements of the extras that companions need. They are copied if they are installed."""


def interpreter(*, copied: bool) -> str:
    """Path of the Python interpreter of the copy, or of this installation."""
    return str(COPY / "bin/python3") if copied else sys.executable


def release_script(*, copied: bool) -> str:
    """Path of `gpu/release_fans.py` in the copy, or in this installation. Any Python can run it."""
    if copied:
        return str(COPY / "lib" / _PYTHON / "site-packages/gpufan/gpu/release_fans.py")
    return release_fans.__file__


def launcher(*, copied: bool) -> Path | None:
    """The program `gpufan` of the copy or of this installation; None if users other than root can write it."""
    if copied:
        return COPY / "bin/gpufan"
    path = Path(sysconfig.get_path("scripts"), "gpufan")
    return path if path.exists() and first_exposure([path]) is None else None


def check_copy() -> None:
    """Raise GpufanError if no copy can be made."""
    for folder in (COPY, draft_folder(), aside_folder()):
        if _is_foreign(folder):
            raise GpufanError(f"{folder} exists already and is not from gpufan: move it away")
    _root_python()
    if exposure := first_exposure([COPY.parent], below=False):
        raise GpufanError(
            f"a copy in {COPY.parent} would not be safe: {exposure}; run `sudo chown root:` and `sudo chmod go-w` on it"
        )
    _distributions()


def copy_is_current(digest: str | None) -> bool:
    """Whether there is a copy that only root can write and whose sources had `digest`."""
    mark = COPY / _MARK
    return mark.exists() and first_exposure([COPY]) is None and mark.read_text() == digest


def sources_digest() -> str | None:
    """Digest of the files of this installation; a copy of them has the same. None if they cannot be read."""
    try:
        return _digest_of(_sources())
    except (GpufanError, OSError):
        return None


def draft_folder() -> Path:
    """The folder of a new copy until it replaces the old one, and of the old copy afterwards."""
    return COPY.with_name(f"{COPY.name}.new")


def aside_folder() -> Path:
    """The folder of the old copy for a moment, where the file system cannot exchange two folders in one step."""
    return COPY.with_name(f"{COPY.name}.old")


def own_folders() -> list[Path]:
    """The existing folders that an install has made. The copy itself is the last."""
    return [folder for folder in (draft_folder(), aside_folder(), COPY) if folder.exists() and not _is_foreign(folder)]


def leftovers() -> list[Path]:
    """The folders of `own_folders` that nobody needs after an install."""
    return [folder for folder in own_folders() if folder != COPY]


def remove_folder(folder: Path) -> None:
    """Remove a folder of `own_folders`, if it exists. Raises OSError.

    Its mark goes last: a removal that was killed can be repeated.
    """
    if not folder.exists():
        return
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _MARK:
            path.unlink()
    shutil.rmtree(folder)


def _is_foreign(path: Path) -> bool:
    """Whether there is something at `path` that is not from gpufan."""
    if path.is_symlink() or not path.is_dir():
        return os.path.lexists(path)
    return any(path.iterdir()) and not (path / _MARK).exists()


def exchange_with_draft() -> None:
    """Exchange the folders of the copy and the draft. Raises OSError.

    This is one step, since the service needs its copy even if this process is killed.
    """
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    paths = _AT_FDCWD, bytes(draft_folder()), _AT_FDCWD, bytes(COPY)
    if renameat2 is None or renameat2(*paths, _RENAME_EXCHANGE) != 0:
        # The C library or the file system cannot do that, such as NFS.
        COPY.rename(aside_folder())
        draft_folder().rename(COPY)
        aside_folder().rename(draft_folder())


def make_copy() -> None:
    """Make a new copy in `draft_folder` and test it. Raises GpufanError or OSError."""
    draft = draft_folder()
    remove_folder(draft)
    draft.mkdir()
    (draft / _MARK).touch()
    python = _root_python()
    site = draft / "lib" / _PYTHON / "site-packages"
    sources = _sources()
    for name, source in sources.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, site / name)
    _make_environment(draft, python)
    (draft / _MARK).write_text(_digest_of(sources))
    _check_draft(draft)
    program_output(python, "-I", "-S", "-m", "compileall", "-q", "-j0", "-s", draft, "-p", COPY, site)
    program_output(draft / "bin/python3", "-I", "-m", "gpufan", "--version")


def _check_draft(draft: Path) -> None:
    """Raise GpufanError if the copy would run code that users other than root can write. Runs none of that code."""
    python = draft / "bin/python3"
    # First without the packages (-S): when Python adds them to its path, it runs some of their code.
    exposure = (
        first_exposure([draft]) or first_exposure(_import_path(python, "-S")) or first_exposure(_import_path(python))
    )
    if exposure:
        raise GpufanError(
            f"the copy would run code that other users can change: {exposure}; run `sudo chown -R root:` and"
            " `sudo chmod -R go-w` on it, or install gpufan with /usr/bin/python3 into a virtual environment of root"
        )


def _make_environment(folder: Path, python: Path) -> None:
    """Make a virtual environment without the module venv, which Debian has in a separate package."""
    (folder / "bin").mkdir()
    (folder / "bin/python3").symlink_to(python)
    (folder / "pyvenv.cfg").write_text(f"home = {python.parent}\ninclude-system-site-packages = false\n")
    launcher = folder / "bin/gpufan"
    launcher.write_text(f"#!{COPY}/bin/python3 -I\nfrom gpufan.cli.main import main\n\nmain()\n")
    launcher.chmod(0o755)


def _root_python() -> Path:
    """A Python of the running version. Only root can write it and its library. Raises GpufanError."""
    base = Path(getattr(sys, "_base_executable", sys.executable))
    for candidate in (base.resolve(), Path("/usr/bin") / _PYTHON, Path("/usr/local/bin") / _PYTHON):
        # The file is checked before it runs.
        if (
            candidate.exists()
            and first_exposure([candidate]) is None
            and first_exposure(_import_path(candidate, "-S")) is None
        ):
            return candidate
    raise GpufanError(
        f"no {_PYTHON} here that only root can write: `sudo apt-get install {_PYTHON}`, or install gpufan with"
        " /usr/bin/python3 into a virtual environment of root"
    )


def _import_path(python: Path, *options: str) -> list[Path]:
    """Folders and archives from which `python` imports."""
    lines = program_output(python, "-I", *options, "-c", r"import sys; print(*sys.path, sep='\n')").splitlines()
    return [Path(line) for line in lines if line and Path(line).exists()]


def _sources() -> dict[str, Path]:
    """Every file to copy, by its name below site-packages. Raises GpufanError."""
    found = {str(file): Path(str(file.locate())) for installed in _distributions() for file in installed.files or ()}
    # An editable installation does not list these files.
    folders = {
        "gpufan": Path(gpufan.__file__).parent,
        "gpufan/systemd": resource("systemd/gpufan.service.j2").parent,
        "gpufan/templates": resource("templates/config.toml.j2").parent,
    }
    for name, folder in folders.items():
        found |= {f"{name}/{path.relative_to(folder)}": path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in found.items() if _belongs_into_copy(Path(name))}


def _belongs_into_copy(name: Path) -> bool:
    # A .pth file adds folders to the import path, such as the source tree of an editable installation.
    return name.suffix not in (".pyc", ".pth") and not name.is_absolute() and ".." not in name.parts


def _digest_of(sources: dict[str, Path]) -> str:
    digest = hashlib.sha256(str(_root_python()).encode())
    for name, path in sorted(sources.items()):
        digest.update(f"{name}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return f"{digest.hexdigest()}\n"


def _distributions() -> list[Distribution]:
    """The installed gpufan and everything that it requires. Raises GpufanError."""
    found: dict[str, Distribution] = {}
    wanted = ["gpufan"]
    while wanted:
        requirement, _, condition = wanted.pop().partition(";")
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()
        if name in found or ("extra" in condition and not _EXTRAS.search(condition)):
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            if condition:  # the condition does not hold here
                continue
            raise GpufanError(f"{name}, which gpufan needs, is not installed: install gpufan again") from None
        if found[name].files is None:
            raise GpufanError(f"{name} does not list its files: install gpufan with pip into an environment of its own")
        wanted += found[name].requires or ()
    return list(found.values())
