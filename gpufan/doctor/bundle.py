"""Writes the support bundle: an archive of all files that can explain a fault, without private data."""

import io
import os
import platform
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from itertools import product
from pathlib import Path

import msgspec
from rich.console import Console

from gpufan.doctor.facts import Facts
from gpufan.doctor.findings import Report
from gpufan.doctor.mask import Mask
from gpufan.doctor.root_folder import below_root
from gpufan.doctor.show import print_report
from gpufan.errors import GpufanError, InputError
from gpufan.gpu.cards import XSERVER_FOLDER
from gpufan.service.package import PACKAGED_UNIT_FOLDER
from gpufan.service.units import COMPANIONS, SERVICE, XSERVER
from gpufan.system import systemctl
from gpufan.system.files import read_text_or_empty
from gpufan.system.paths import SNAPSHOT
from gpufan.system.versions import versions

_LOG_LINES = 200
_SIZE_LIMIT = 256 * 1024
"""A file in the bundle has at most this many bytes. Of a longer file, only the end is included."""


def check_bundle_path(path: Path) -> None:
    """Raise InputError if `path` exists, has the suffix of another format, or is in a folder that does not exist."""
    if path.suffix and not path.name.lower().endswith((".tar.gz", ".tgz")):
        raise InputError(f"{path}: a bundle is a .tar.gz file: give it a name that ends so")
    if os.path.lexists(path):
        raise InputError(f"{path} exists already: name a new file")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path.absolute().parent} is not a folder: name a file in an existing folder")


def write_bundle(path: Path, facts: Facts, report: Report) -> None:
    """Write the support bundle to the new file `path`. Only the owner of the file can read it.

    Private words in `facts` and `report` are masked. Raises InputError if `path` exists, GpufanError if `path` cannot
    be written.
    """
    mask = Mask.of_box(facts)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, text in _bundle_contents(facts, mask.report(report)):
            content = _content_for_bundle(name, text, mask).encode("utf-8", "replace")
            member = tarfile.TarInfo(f"gpufan-bundle/{mask(name)}")
            member.size, member.mode, member.mtime = len(content), 0o600, int(facts.time_s)
            archive.addfile(member, io.BytesIO(content))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            if os.geteuid() == 0 and os.environ.get("SUDO_UID", "").isdecimal():  # for the user who will send it
                with suppress(OSError):  # some file systems have no owners
                    os.fchown(descriptor, int(os.environ["SUDO_UID"]), -1)
            file.write(data.getvalue())
    except FileExistsError:
        check_bundle_path(path)
        raise
    except OSError as error:
        with suppress(OSError):
            path.unlink()  # an incomplete archive is of no use
        raise GpufanError(f"cannot write {path}: {error.strerror}; choose another --bundle") from error


def _content_for_bundle(name: str, text: str, mask: Mask) -> str:
    """Mask the private data in `text`, the content of the file `name`, with `mask`. Returns the masked content."""
    if name.endswith(".json"):
        with suppress(msgspec.DecodeError):
            # Decoded first: an escape such as \n would hide the beginning of a word.
            return _json_for_bundle(mask.json(msgspec.json.decode(text)))
    return mask(text)


def _json_for_bundle(value: object) -> str:
    """Convert `value` to indented JSON."""
    return msgspec.json.format(msgspec.json.encode(value)).decode()


def _bundle_contents(facts: Facts, report: Report) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each file for the archive.

    `report` is masked already. The other texts may still contain private data.
    """
    yield "doctor.json", _json_for_bundle(report)
    shown = io.StringIO()
    print_report(report, Console(file=shown, width=100, no_color=True, highlight=False))
    yield "doctor.txt", shown.getvalue()
    yield "versions.txt", "\n".join(_versions_for_bundle()) + "\n"
    yield "log.txt", "\n".join(systemctl.journal_lines(SERVICE, _LOG_LINES))
    for name, path in _files_for_bundle(facts):
        with suppress(OSError):
            if path.is_file():
                with path.open("rb") as file:
                    file.seek(max(path.stat().st_size - _SIZE_LIMIT, 0))
                    yield name, file.read(_SIZE_LIMIT).decode("utf-8", "replace")


def _files_for_bundle(facts: Facts) -> Iterator[tuple[str, Path]]:
    """For each file of the box to include, yield its name in the archive and its path. Some files may not exist."""
    yield "config.toml", facts.config
    yield SNAPSHOT, facts.runtime_folder / SNAPSHOT
    run = facts.runtime_folder
    for folder in (run / XSERVER_FOLDER, run / "xserver", run.with_name(f"{run.name}-xserver") / "xserver"):
        for log in ("xorg.conf", "Xorg.log", "Xorg.out"):
            yield f"{folder.relative_to(run.parent)}/{log}", folder / log
    units = [SERVICE, XSERVER, *(companion.unit_name for companion in COMPANIONS)]
    for folder, unit in product((systemctl.UNIT_FOLDER, PACKAGED_UNIT_FOLDER), units):
        drop_ins = sorted(below_root(folder).glob(f"{unit}.d/*.conf"))
        for path in (folder / unit, *(folder / f"{unit}.d" / drop_in.name for drop_in in drop_ins)):
            yield f"units{path}", below_root(path)
    for file in facts.xorg_files:
        yield f"xorg{file.path}", below_root(file.path)
    yield "driver/version", below_root("/proc/driver/nvidia/version")


def _versions_for_bundle() -> Iterator[str]:
    """Yield the version of each program and library that may be the cause of a fault, one text each.

    No text contains the host name.
    """
    yield versions()
    system = os.uname()
    yield f"{system.sysname} {system.release} {system.machine}"
    yield f"libc {' '.join(platform.libc_ver())}"
    yield read_text_or_empty(below_root("/etc/os-release"))
    for name in ("click", "jinja2", "msgspec", "rich"):
        with suppress(metadata.PackageNotFoundError):
            yield f"{name} {metadata.version(name)}"
    with suppress(GpufanError):
        yield systemctl.systemctl("--version", limit_s=systemctl.QUERY_TIMEOUT_S).partition("\n")[0]
