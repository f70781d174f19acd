"""The root copy: a copy of gpufan that only root can write, for a service whose installation belongs to a user.

The copy is made from the installed files, without network. Its code runs only after all of it is checked.
"""

import ctypes
import hashlib
import os
import re
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import gpufan
from gpufan.errors import GpufanError
from gpufan.gpu import release_fans
from gpufan.service.exposure import first_exposure
from gpufan.service.steps import AddUndo
from gpufan.system.resources import resource
from gpufan.system.systemctl import program_output

COPY = Path("/opt/gpufan")
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
_MARK = ".copied-by-gpufan"
"""File in a copy. It contains the digest of the sources once the copy is complete."""
_PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
_EXTRAS = re.compile(r"""extra\s*==\s*["'](alerts|metrics)["']""")
"""Condition in the requirements of the extras for companions. These packages are copied if they are installed."""


@dataclass(frozen=True)
class CopyPaths:
    """Paths of the programs of gpufan in the copy. If no copy is used, they are paths in this installation."""

    copied: bool
    """Whether the service runs the copy."""

    @property
    def interpreter(self) -> str:
        """The Python interpreter."""
        return str(COPY / "bin/python3") if self.copied else sys.executable

    @property
    def release_script(self) -> str:
        """The file `gpu/release_fans.py`. Any Python can run it."""
        if self.copied:
            return str(COPY / "lib" / _PYTHON / "site-packages/gpufan/gpu/release_fans.py")
        return release_fans.__file__

    @property
    def launcher(self) -> Path | None:
        """The program `gpufan`; None if users other than root can write it."""
        if self.copied:
            return COPY / "bin/gpufan"
        path = Path(sysconfig.get_path("scripts"), "gpufan")
        return path if path.exists() and first_exposure([path]) is None else None


def check_copy() -> None:
    """Raise GpufanError if no copy can be made."""
    for folder in (COPY, draft_copy_folder(), old_copy_folder()):
        if _is_foreign_copy(folder):
            raise GpufanError(f"{folder} exists already and is not from gpufan: move it away")
    _root_python()
    if exposure := first_exposure([COPY.parent], below=False):
        raise GpufanError(
            f"a copy in {COPY.parent} would not be safe: {exposure}; run `sudo chown root:` and `sudo chmod go-w` on it"
        )
    _distributions_to_copy()


def copy_is_current(digest: str | None) -> bool:
    """Whether a copy exists that only root can write, and that was made from files with this digest."""
    mark = COPY / _MARK
    return mark.exists() and first_exposure([COPY]) is None and mark.read_text() == digest


def copied_files_digest() -> str | None:
    """Return the digest of the files that a copy would have now; None if the files cannot be read."""
    try:
        return _digest_of_copy(_files_to_copy())
    except (GpufanError, OSError):
        return None


def draft_copy_folder() -> Path:
    """Return the folder in which a new copy is made. After the exchange it has the old copy."""
    return COPY.with_name(f"{COPY.name}.new")


def old_copy_folder() -> Path:
    """Return the folder of the old copy during an exchange, if the file system needs several steps for it."""
    return COPY.with_name(f"{COPY.name}.old")


def copy_folders() -> list[Path]:
    """Return the existing folders of copies that an install has made. `COPY` itself is the last."""
    return [
        folder
        for folder in (draft_copy_folder(), old_copy_folder(), COPY)
        if folder.exists() and not _is_foreign_copy(folder)
    ]


def leftover_copy_folders() -> list[Path]:
    """Return the folders of copies that nobody needs after an install: all except `COPY`."""
    return [folder for folder in copy_folders() if folder != COPY]


def remove_copy_folder(folder: Path) -> None:
    """Remove a folder of a copy, if it exists. Raises OSError.

    The mark in the folder is removed last, so that a removal that was killed can be repeated.
    """
    if not folder.exists():
        return
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _MARK:
            path.unlink()
    shutil.rmtree(folder)


def _is_foreign_copy(path: Path) -> bool:
    """Whether something exists at `path` that is not a copy made by gpufan."""
    if path.is_symlink() or not path.is_dir():
        return os.path.lexists(path)
    return any(path.iterdir()) and not (path / _MARK).exists()


def exchange_copy_with_draft() -> None:
    """Exchange the folder of the copy with that of the draft. Raises OSError.

    The exchange is one step if the file system allows it: the service needs its copy even if this process is killed.
    """
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    paths = _AT_FDCWD, bytes(draft_copy_folder()), _AT_FDCWD, bytes(COPY)
    if renameat2 is None or renameat2(*paths, _RENAME_EXCHANGE) != 0:
        # The C library or the file system cannot do that, such as NFS.
        COPY.rename(old_copy_folder())
        draft_copy_folder().rename(COPY)
        old_copy_folder().rename(draft_copy_folder())


def make_copy() -> None:
    """Make a new copy in the draft folder, and test it. Raises GpufanError or OSError."""
    draft = draft_copy_folder()
    remove_copy_folder(draft)
    draft.mkdir()
    (draft / _MARK).touch()
    python = _root_python()
    site = draft / "lib" / _PYTHON / "site-packages"
    sources = _files_to_copy()
    for name, source in sources.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, site / name)
    _make_copy_environment(draft, python)
    (draft / _MARK).write_text(_digest_of_copy(sources))
    _check_draft_copy(draft)
    program_output(python, "-I", "-S", "-m", "compileall", "-q", "-j0", "-s", draft, "-p", COPY, site)
    program_output(draft / "bin/python3", "-I", "-m", "gpufan", "--version")


def replace_copy(undo: AddUndo) -> None:
    """Make a new copy, and replace the old copy. Passes the undo steps to `undo`. Raises GpufanError or OSError.

    The old copy stays in the draft folder until the end of the install, for the undo.
    """
    copy, draft, aside = COPY, draft_copy_folder(), old_copy_folder()
    undo(remove_copy_folder, draft)
    make_copy()
    if copy.exists():
        remove_copy_folder(aside)
    elif aside.exists():  # an earlier install was killed between two renames
        aside.rename(copy)
    if copy.exists():
        undo(_restore_copy, copy.stat().st_ino)
        exchange_copy_with_draft()
    else:
        undo(remove_copy_folder, copy)
        draft.rename(copy)


def _restore_copy(inode: int) -> None:
    """Restore the old copy. `inode` is the inode number of its folder. Raises OSError."""
    if old_copy_folder().exists():
        remove_copy_folder(COPY)
        old_copy_folder().rename(COPY)
    elif COPY.stat().st_ino != inode:
        exchange_copy_with_draft()


def _check_draft_copy(draft: Path) -> None:
    """Raise GpufanError if the copy would run code that users other than root can write. That code is not run here."""
    python = draft / "bin/python3"
    # First without the packages (-S): when Python adds them to its path, it runs some of their code.
    exposure = (
        first_exposure([draft])
        or first_exposure(_import_path_for_copy(python, "-S"))
        or first_exposure(_import_path_for_copy(python))
    )
    if exposure:
        raise GpufanError(
            f"the copy would run code that other users can change: {exposure}; run `sudo chown -R root:` and"
            " `sudo chmod -R go-w` on it, or install gpufan with /usr/bin/python3 into a virtual environment of root"
        )


def _make_copy_environment(folder: Path, python: Path) -> None:
    """Make a virtual environment in `folder`. The module venv is not used: Debian has it in a separate package."""
    (folder / "bin").mkdir()
    (folder / "bin/python3").symlink_to(python)
    (folder / "pyvenv.cfg").write_text(f"home = {python.parent}\ninclude-system-site-packages = false\n")
    launcher = folder / "bin/gpufan"
    launcher.write_text(f"#!{COPY}/bin/python3 -I\nfrom gpufan.cli.main import main\n\nmain()\n")
    launcher.chmod(0o755)


def _root_python() -> Path:
    """Return the path of a Python of the running version that only root can write. Raises GpufanError."""
    base = Path(getattr(sys, "_base_executable", sys.executable))
    for candidate in (base.resolve(), Path("/usr/bin") / _PYTHON, Path("/usr/local/bin") / _PYTHON):
        # The file is checked before it runs.
        if (
            candidate.exists()
            and first_exposure([candidate]) is None
            and first_exposure(_import_path_for_copy(candidate, "-S")) is None
        ):
            return candidate
    raise GpufanError(
        f"no {_PYTHON} here that only root can write: `sudo apt-get install {_PYTHON}`, or install gpufan with"
        " /usr/bin/python3 into a virtual environment of root"
    )


def _import_path_for_copy(python: Path, *options: str) -> list[Path]:
    """Return the folders and archives from which `python` imports."""
    lines = program_output(python, "-I", *options, "-c", r"import sys; print(*sys.path, sep='\n')").splitlines()
    return [Path(line) for line in lines if line and Path(line).exists()]


def _files_to_copy() -> dict[str, Path]:
    """Return the path of every file to copy, by its name below site-packages. Raises GpufanError."""
    found = {
        str(file): Path(str(file.locate())) for installed in _distributions_to_copy() for file in installed.files or ()
    }
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
    """Whether a file of a package is copied."""
    # A .pth file adds folders to the import path, such as the source tree of an editable installation.
    return name.suffix not in (".pyc", ".pth") and not name.is_absolute() and ".." not in name.parts


def _digest_of_copy(sources: dict[str, Path]) -> str:
    """Return the digest of the files `sources` and of the Python that runs them. Raises GpufanError or OSError."""
    digest = hashlib.sha256(str(_root_python()).encode())
    for name, path in sorted(sources.items()):
        digest.update(f"{name}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return f"{digest.hexdigest()}\n"


def _distributions_to_copy() -> list[Distribution]:
    """Return the installed packages to copy: gpufan and all that it requires. Raises GpufanError."""
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
