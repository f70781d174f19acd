"""The code that the service runs: only such as nobody but root can write, and a copy where the installation is not."""

import hashlib
import os
import re
import shutil
import stat
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import gpufan
from gpufan.errors import GpufanError, InputError
from gpufan.system.resources import resource
from gpufan.system.systemctl import quoted, run_program

COPY = Path("/opt/gpufan")
_MARK = ".copied-by-gpufan"
"""In the copy: a digest of all that was copied."""
_EXTRAS = ("metrics",)
"""Extras of gpufan that the copy takes along where they are installed."""

_HIDDEN = [Path(name) for name in ("/home", "/root", "/run/user", "/tmp", "/var/tmp")]
"""Folders that the sandbox hides or that everybody shares."""


def exposure() -> str | None:
    """Why the running installation must not be what a service of root runs; None where it may be."""
    roots = [sys.executable, *(entry for entry in sys.path if entry), str(Path(gpufan.__file__).parent)]
    return first_exposure([Path(root) for root in roots if Path(root).exists()])


def first_exposure(paths: Iterable[Path], *, below: bool = True) -> str | None:
    """What somebody other than root can write, or the service not see, of `paths`, all above and all below them."""
    seen: set[Path] = set()
    for path in paths:
        for place in dict.fromkeys((path.absolute(), path.resolve())):
            hidden = next((folder for folder in _HIDDEN if place.is_relative_to(folder)), None)
            if hidden is not None:
                return f"{place} lies in {hidden}"
            for part in (*place.parents, *(_tree(place) if below else [place])):
                if part not in seen and os.path.lexists(part) and _is_writable_by_others(part):
                    return f"{part} is writable by others than root"
                seen.add(part)
    return None


def _tree(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir():
        yield from path.rglob("*")


def _is_writable_by_others(path: Path) -> bool:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return status.st_uid != 0
    # A group of root's own is root.
    group = status.st_mode & stat.S_IWGRP and status.st_gid != 0
    return status.st_uid != 0 or bool(group or status.st_mode & stat.S_IWOTH)


def command() -> str:
    """How the running installation is started, without anything that the environment or a user could slip in."""
    return f"{quoted(sys.executable)} -I -m gpufan"


def copied_command() -> str:
    """How the copy is started."""
    return f"{COPY}/bin/python3 -I -m gpufan"


def launcher(*, copied: bool) -> Path | None:
    """The program `gpufan` of the copy or the running installation; None where it is not root's alone."""
    if copied:
        return COPY / "bin/gpufan"
    path = Path(sysconfig.get_path("scripts"), "gpufan")
    return path if path.exists() and first_exposure([path]) is None else None


def check_copy() -> None:
    """Raise GpufanError where no copy can be made."""
    if COPY.exists() and not (COPY / _MARK).exists():
        raise GpufanError(
            f"{COPY} is there already and may be written by others: `sudo chown -R root: {COPY}`, or move it away"
        )
    _root_python()
    if exposure := first_exposure([COPY.parent], below=False):
        raise GpufanError(
            f"no copy can be kept safe in {COPY.parent}: {exposure}; `sudo chown root:` and `sudo chmod go-w` that"
        )
    _distributions()


def copy_is_current() -> bool:
    """Whether the copy is there, root's alone, and the same as one made now. Raises GpufanError."""
    mark = COPY / _MARK
    return mark.exists() and first_exposure([COPY]) is None and mark.read_text() == _digest(_sources())


def digest() -> str | None:
    """What tells the running installation from another, itself or a copy of it; None where that cannot be told."""
    try:
        return _digest(_sources())
    except (GpufanError, OSError):
        return None


def check_extra(extra: str, what_for: str) -> None:
    """Raise InputError where the installation lacks what `extra` adds."""
    missing = " ".join(name for name in _names_in(extra) if not _is_installed(name))
    if missing:
        pip = Path(sysconfig.get_path("scripts"), "pip")
        raise InputError(f"{what_for} needs {missing}, which is not installed: `{pip} install {missing}`")


def draft_folder() -> Path:
    """Where a copy is made before it takes the place of the one before."""
    return COPY.with_name(COPY.name + ".new")


def make_copy() -> Path:
    """Make a root-owned copy beside `COPY` from the installed files, and try it. Raises GpufanError."""
    draft = draft_folder()
    shutil.rmtree(draft, ignore_errors=True)
    python = _root_python()
    site = draft / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    site.mkdir(parents=True)
    sources = _sources()
    for name, source in sources.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, site / name)
    _make_environment(draft, python)
    (draft / _MARK).write_text(_digest(sources))
    _check_draft(draft)
    _run(str(python), "-I", "-S", "-m", "compileall", "-q", "-j0", "-s", str(draft), "-p", str(COPY), str(site))
    _run(str(draft / "bin/python3"), "-I", "-m", "gpufan", "--version")
    return draft


def _check_draft(draft: Path) -> None:
    """Raise GpufanError where the copy would run code that is not root's. Nothing of the copy is run for that."""
    python = str(draft / "bin/python3")
    code = r"import sys; print(*sys.path, sep='\n')"
    # What it finds on its own comes first, as it takes in the packages with the next.
    exposure = (
        first_exposure([draft])
        or _exposure_of_path(_run(python, "-I", "-S", "-c", code))
        or _exposure_of_path(_run(python, "-I", "-c", code))
    )
    if exposure:
        raise GpufanError(
            f"the copy would run what is not root's: {exposure}; `sudo chown -R root:` and `chmod -R go-w` that,"
            " or install gpufan with /usr/bin/python3 into an environment of root's"
        )


def _exposure_of_path(lines: str) -> str | None:
    return first_exposure([Path(line) for line in lines.splitlines() if line and Path(line).exists()])


def _sources() -> dict[str, Path]:
    """Every file to copy, by its name below site-packages."""
    found = {}
    for installed in _distributions():
        for file in installed.files or ():
            # A .pth would lead the copy back to the folders of whoever installed, as that of an editable installation.
            if ".." not in file.parts and file.suffix not in (".pyc", ".pth") and file.parts[0] != "gpufan":
                found[str(file)] = Path(str(file.locate()))
    # By hand, since of an editable installation the list of files names none of these.
    folders = {"gpufan": Path(gpufan.__file__).parent}
    for name in ("systemd/gpufan.service.j2", "templates/config.toml.j2"):
        folders[f"gpufan/{Path(name).parent}"] = resource(name).parent
    for name, folder in folders.items():
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix not in (".pyc", ".pth"):
                found[f"{name}/{path.relative_to(folder)}"] = path
    return found


def _digest(sources: dict[str, Path]) -> str:
    digest = hashlib.sha256(str(_root_python()).encode())
    for name, path in sorted(sources.items()):
        digest.update(f"{name}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return f"{digest.hexdigest()}\n"


def _make_environment(folder: Path, python: Path) -> None:
    """All that a virtual environment is: a link to an interpreter, and a file that says so."""
    (folder / "bin").mkdir()
    (folder / "bin/python3").symlink_to(python)
    (folder / "pyvenv.cfg").write_text(f"home = {python.parent}\ninclude-system-site-packages = false\n")
    launcher = folder / "bin/gpufan"
    launcher.write_text(f"#!{COPY}/bin/python3 -I\nfrom gpufan.cli.main import main\n\nmain()\n")
    launcher.chmod(0o755)


def _root_python() -> Path:
    """An interpreter like the running one that only root can write. Raises GpufanError."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    base = Path(getattr(sys, "_base_executable", sys.executable))
    for candidate in (base.resolve(), Path("/usr/bin") / version, Path("/usr/local/bin") / version):
        if candidate.exists() and first_exposure([candidate, *_standard_library(candidate)]) is None:
            return candidate
    raise GpufanError(
        f"no {version} here that only root can write: `sudo apt-get install {version}`, or install gpufan with"
        " /usr/bin/python3 into an environment of root's"
    )


def _standard_library(python: Path) -> list[Path]:
    code = "import sysconfig; print(sysconfig.get_path('stdlib'))"
    # Isolated, and unable to do harm before it has been looked at: it only runs where its file is root's.
    if first_exposure([python]) is not None:
        return [python]
    return [Path(_run(str(python), "-I", "-S", "-c", code).strip())]


def _distributions() -> list[Distribution]:
    """The installed gpufan and all that it needs. Raises GpufanError."""
    found: dict[str, Distribution] = {}
    wanted = ["gpufan", *(name for extra in _EXTRAS for name in _names_in(extra) if _is_installed(name))]
    while wanted:
        text = wanted.pop()
        name = _name(text)
        if name in found or "extra ==" in text:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            if ";" in text:  # needed under a condition that does not hold here
                continue
            raise GpufanError(f"{name}, which gpufan needs, is not installed: install gpufan again") from None
        if found[name].files is None:
            raise GpufanError(f"{name} does not tell its files: install gpufan with pip into an environment of its own")
        wanted += found[name].requires or ()
    return list(found.values())


def _names_in(extra: str) -> list[str]:
    """Names of what `extra` adds to gpufan."""
    condition = re.compile(rf"""extra\s*==\s*["']{extra}["']""")
    return [_name(text) for text in _requirements("gpufan") if condition.search(text)]


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


def _requirements(name: str) -> Sequence[str]:
    try:
        return distribution(name).requires or ()
    except PackageNotFoundError:
        return ()


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def _run(*command: str) -> str:
    done = run_program(command)
    if done.returncode != 0:
        raise GpufanError(f"{' '.join(command)} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout
