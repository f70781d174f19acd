"""Make the root copy: a copy of gpufan that only root can write.

The service runs this copy if the installation of gpufan is not safe for root, for example because the installation
belongs to a user. The copy is made from the installed files, without network. The code of the copy runs only after all
of this code is checked.
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
from gpufan.service.package import RELEASE_SCRIPT, is_package
from gpufan.service.steps import AddUndo
from gpufan.system.resources import resource
from gpufan.system.systemctl import program_output

COPY = Path("/opt/gpufan")
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
_MARK = ".copied-by-gpufan"
"""Name of a file in the copy.

The file contains the digest of the copied files once the copy is complete. Before that, the file is empty.
"""
_PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
_EXTRAS = re.compile(r"""extra\s*==\s*["'](alerts|metrics|web)["']""")
"""Pattern for the condition of a package that gpufan needs only for a companion service.

Such a package is copied if it is installed.
"""
_PLOTLY_FILE = "plotly/package_data/plotly.min.js"
"""The only file of the package plotly that gpufan uses. The others have 60 MB."""


@dataclass(frozen=True)
class CopyPaths:
    """The paths of gpufan's programs: in the copy if the service runs the copy, else in this installation."""

    copied: bool
    """Whether the service runs the copy."""

    @property
    def interpreter(self) -> str:
        """The path of the Python interpreter."""
        return str(COPY / "bin/python3") if self.copied else sys.executable

    @property
    def release_script(self) -> str:
        """The path of the script `gpu/release_fans.py`. Any Python can run this script."""
        if self.copied:
            return str(COPY / "lib" / _PYTHON / "site-packages/gpufan/gpu/release_fans.py")
        return RELEASE_SCRIPT if is_package() else release_fans.__file__

    @property
    def launcher(self) -> Path | None:
        """The path of the program `gpufan`; None if it does not exist, or if it is not safe for root to run.

        Also None for a package, whose program is on the PATH already.
        """
        if self.copied:
            return COPY / "bin/gpufan"
        if is_package():
            return None
        path = Path(sysconfig.get_path("scripts"), "gpufan")
        return path if path.exists() and first_exposure([path]) is None else None


def check_copy() -> None:
    """Raise GpufanError if gpufan cannot be copied to the folder `COPY`."""
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
    """Whether the copy in `COPY` is up to date.

    The copy is up to date if only root can write it, and if it was made from files with the digest `digest`.
    """
    mark = COPY / _MARK
    return mark.exists() and first_exposure([COPY]) is None and mark.read_text() == digest


def copied_files_digest() -> str | None:
    """Return the digest of the files that a new copy would contain; None if these files cannot be read."""
    try:
        return _digest_of_copy(_files_to_copy())
    except (GpufanError, OSError):
        return None


def draft_copy_folder() -> Path:
    """Return the folder in which a new copy is made.

    After the exchange with `COPY`, this folder contains the old copy.
    """
    return COPY.with_name(f"{COPY.name}.new")


def old_copy_folder() -> Path:
    """Return the folder that contains the old copy for a moment during an exchange.

    This folder is used only if the file system cannot exchange two folders in one step.
    """
    return COPY.with_name(f"{COPY.name}.old")


def copy_folders() -> list[Path]:
    """Return the existing folders that an install made for copies. If `COPY` is one of them, it is the last."""
    return [
        folder
        for folder in (draft_copy_folder(), old_copy_folder(), COPY)
        if folder.exists() and not _is_foreign_copy(folder)
    ]


def leftover_copy_folders() -> list[Path]:
    """Return the existing folders of copies, without `COPY`. Nothing needs these folders after an install."""
    return [folder for folder in copy_folders() if folder != COPY]


def remove_copy_folder(folder: Path) -> None:
    """Remove `folder`, which contains a copy. Do nothing if the folder does not exist. Raises OSError.

    The file `_MARK` is removed last. If this process is killed before that, the next removal still recognizes the
    folder.
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
    """Whether `path` exists, but is not a copy made by gpufan. An empty folder counts as a copy."""
    if path.is_symlink() or not path.is_dir():
        return os.path.lexists(path)
    return any(path.iterdir()) and not (path / _MARK).exists()


def exchange_copy_with_draft() -> None:
    """Exchange the folder `COPY` with the draft folder. Raises OSError.

    If the file system allows it, the exchange is one step. The service then has its copy even if this process is
    killed.
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
    """Make a new copy, and replace the old copy. Raises GpufanError or OSError.

    Calls `undo` to register undo steps. For the undo, the old copy stays in the draft folder until the end of the
    install.
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
    """Move the old copy back to `COPY`. Do nothing if `COPY` is the old copy already. Raises OSError.

    `inode` is the inode number of the folder of the old copy.
    """
    if old_copy_folder().exists():
        remove_copy_folder(COPY)
        old_copy_folder().rename(COPY)
    elif COPY.stat().st_ino != inode:
        exchange_copy_with_draft()


def _check_draft_copy(draft: Path) -> None:
    """Raise GpufanError if the copy in `draft` would run code that users other than root can write.

    This check does not run such code.
    """
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
    """Make a virtual environment in `folder` that uses the interpreter `python`.

    The module venv is not used, because Debian has it in a separate package.
    """
    (folder / "bin").mkdir()
    (folder / "bin/python3").symlink_to(python)
    (folder / "pyvenv.cfg").write_text(f"home = {python.parent}\ninclude-system-site-packages = false\n")
    launcher = folder / "bin/gpufan"
    launcher.write_text(f"#!{COPY}/bin/python3 -I\nfrom gpufan.cli.main import main\n\nmain()\n")
    launcher.chmod(0o755)


def _root_python() -> Path:
    """Return the path of a Python interpreter that only root can write.

    The interpreter has the version of the running Python, such as 3.12. Raises GpufanError if there is no such
    interpreter.
    """
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
    """Return the existing folders and archives from which the interpreter `python` imports.

    `options` are options of the interpreter. Raises GpufanError.
    """
    lines = program_output(python, "-I", *options, "-c", r"import sys; print(*sys.path, sep='\n')").splitlines()
    return [Path(line) for line in lines if line and Path(line).exists()]


def _files_to_copy() -> dict[str, Path]:
    """Return the files to copy. Raises GpufanError.

    The result maps the name of each file below site-packages to the present path of the file.
    """
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
    """Whether a file of a package is copied. `name` is the path of the file below site-packages."""
    # A .pth file adds folders to the import path, such as the source tree of an editable installation.
    is_unused = name.parts[0] == "plotly" and str(name) != _PLOTLY_FILE
    return name.suffix not in (".pyc", ".pth") and not name.is_absolute() and ".." not in name.parts and not is_unused


def _digest_of_copy(sources: dict[str, Path]) -> str:
    """Return the digest of the files `sources` and of the path of the Python that runs them.

    `sources` maps names below site-packages to paths. Raises GpufanError or OSError.
    """
    digest = hashlib.sha256(str(_root_python()).encode())
    for name, path in sorted(sources.items()):
        digest.update(f"{name}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return f"{digest.hexdigest()}\n"


def _distributions_to_copy() -> list[Distribution]:
    """Return the installed packages to copy: gpufan and all packages that gpufan requires. Raises GpufanError."""
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
