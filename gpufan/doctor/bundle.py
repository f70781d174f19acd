"""The support bundle: one archive with all files that can explain a fault, without private data."""

import getpass
import io
import os
import platform
import pwd
import socket
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import msgspec
from msgspec.structs import replace
from rich.console import Console

from gpufan.doctor.facts import Facts
from gpufan.doctor.findings import Report
from gpufan.doctor.mask import Mask
from gpufan.doctor.root_folder import below_root
from gpufan.doctor.show import print_report
from gpufan.errors import GpufanError, InputError
from gpufan.gpu.cards import XSERVER_FOLDER
from gpufan.service.units import COMPANIONS, SERVICE, XSERVER
from gpufan.system import systemctl
from gpufan.system.files import read_text_or_empty
from gpufan.system.paths import SNAPSHOT
from gpufan.system.versions import versions

_LOG_LINES = 200
_SIZE_LIMIT = 256 * 1024
"""Bytes of one file; only the end of a longer file is included."""

_FIRST_PERSON = 1000
"""The user id of the first person; lower ones belong to programs."""


def check_bundle_path(path: Path) -> None:
    """Raise InputError if `path` exists, promises another format, or if its folder does not exist."""
    if path.suffix and not path.name.lower().endswith((".tar.gz", ".tgz")):
        raise InputError(f"{path}: a bundle is a .tar.gz file: give it a name that ends so")
    if os.path.lexists(path):
        raise InputError(f"{path} exists already: give another name, or remove it")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path.absolute().parent} is not a folder: name a file in an existing folder")


def write_bundle(path: Path, facts: Facts, report: Report) -> None:
    """Write a new archive that only its owner can read. Raises GpufanError, or InputError if `path` exists."""
    mask = Mask(socket.gethostname(), _people(), _uuids(facts))
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, text in _contents(facts, _masked(report, mask)):
            content = _masked_content(name, text, mask).encode("utf-8", "replace")
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


def _masked(report: Report, mask: Mask) -> Report:
    """Mask the private data in a report, before its lines are wrapped: a wrap could split a private word."""
    findings = [
        replace(f, text=mask(f.text), remedies=tuple(map(mask, f.remedies)), uuid=f.uuid and mask(f.uuid))
        for f in report.findings
    ]
    return replace(report, findings=tuple(findings))


def _masked_content(name: str, text: str, mask: Mask) -> str:
    """Mask the private data in the content of a file."""
    if name.endswith(".json"):
        with suppress(msgspec.DecodeError):
            # Decoded first: an escape such as \n would hide where a word begins.
            return _json(mask.json(msgspec.json.decode(text)))
    return mask(text)


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value)).decode()


def _contents(facts: Facts, report: Report) -> Iterator[tuple[str, str]]:
    """Name and text of every file in the archive."""
    yield "doctor.json", _json(report)
    shown = io.StringIO()
    print_report(report, Console(file=shown, width=100, no_color=True, highlight=False))
    yield "doctor.txt", shown.getvalue()
    yield "versions.txt", "\n".join(_versions()) + "\n"
    yield "log.txt", "\n".join(systemctl.journal_lines(SERVICE, _LOG_LINES))
    for name, path in _files(facts):
        with suppress(OSError):
            if path.is_file():
                with path.open("rb") as file:
                    file.seek(max(path.stat().st_size - _SIZE_LIMIT, 0))
                    yield name, file.read(_SIZE_LIMIT).decode("utf-8", "replace")


def _files(facts: Facts) -> Iterator[tuple[str, Path]]:
    """Name in the archive, and path on the box, of every file to include."""
    yield "config.toml", facts.config
    yield SNAPSHOT, facts.runtime_folder / SNAPSHOT
    run = facts.runtime_folder
    for folder in (run / XSERVER_FOLDER, run / "xserver", run.with_name(f"{run.name}-xserver") / "xserver"):
        for log in ("xorg.conf", "Xorg.log", "Xorg.out"):
            yield f"{folder.relative_to(run.parent)}/{log}", folder / log
    units = below_root(systemctl.UNIT_FOLDER)
    for unit in (SERVICE, XSERVER, *(companion.unit_name for companion in COMPANIONS)):
        for path in (units / unit, *sorted(units.glob(f"{unit}.d/*.conf"))):
            yield f"units/{path.relative_to(units)}", path
    for file in facts.xorg_files:
        yield f"xorg{file.path}", below_root(file.path)
    yield "driver/version", below_root("/proc/driver/nvidia/version")


def _versions() -> Iterator[str]:
    """A line for each program and library that matters. The host name, as in `uname -a`, is not among them."""
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


def _people() -> set[str]:
    """Names and home folders of the users who can log in, and the name of the present user."""
    people = {os.environ.get(name, "") for name in ("SUDO_USER", "USER", "LOGNAME")}
    for person in pwd.getpwall():
        if person.pw_uid >= _FIRST_PERSON:
            people |= {person.pw_name, Path(person.pw_dir).name}
    with suppress(KeyError, OSError):
        people.add(getpass.getuser())
    return people - {"nobody", "nonexistent"}


def _uuids(facts: Facts) -> list[str]:
    states = facts.published.snapshot.gpus if facts.published else ()
    uuids = [*(card.info.uuid for card in facts.driver.cards), *(state.uuid for state in states)]
    return [uuid for uuid in dict.fromkeys(uuids) if uuid]
