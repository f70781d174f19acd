"""The support bundle: what helps to understand a fault from afar, in one archive, with nothing private in it."""

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
from rich.console import Console

from gpufan.doctor import probe
from gpufan.doctor.facts import Facts
from gpufan.doctor.findings import Report
from gpufan.doctor.mask import Mask
from gpufan.doctor.show import print_report
from gpufan.errors import GpufanError, InputError
from gpufan.service.units import COMPANIONS, SERVICE, XSERVER
from gpufan.system import systemctl as systemd
from gpufan.system.files import read_file
from gpufan.system.versions import versions

LOG_LINES = 200
_LARGEST = 256 * 1024
"""Bytes of one file; of a longer one the end is taken."""

_FOLDER = "gpufan-bundle"
_FIRST_PERSON = 1000
"""User ids below belong to programs."""


def check_free(path: Path) -> None:
    """Raise InputError where `path` cannot become a new file."""
    if os.path.lexists(path):
        raise InputError(f"{path} is there already: give another name, or remove it")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path.absolute().parent} is no folder: give the name of a file in one")


def write_bundle(path: Path, facts: Facts, report: Report, root: Path | None = None) -> None:
    """Write a new archive that only its owner may read. Raises InputError where there is one, GpufanError."""
    mask = Mask(socket.gethostname(), _people(), _uuids(facts))
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, text in _contents(facts, _masked(report, mask), root or probe.ROOT):
            content = _clean(name, text, mask).encode("utf-8", "replace")
            member = tarfile.TarInfo(f"{_FOLDER}/{mask(name)}")
            member.size, member.mode, member.mtime = len(content), 0o600, int(facts.time_s)
            archive.addfile(member, io.BytesIO(content))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        check_free(path)
        raise
    except OSError as error:
        raise GpufanError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            if os.geteuid() == 0 and os.environ.get("SUDO_UID", "").isdecimal():  # for whoever is going to send it
                with suppress(OSError):  # a USB stick knows no owners
                    os.fchown(descriptor, int(os.environ["SUDO_UID"]), -1)
            file.write(data.getvalue())
    except OSError as error:
        with suppress(OSError):
            path.unlink()  # a part of an archive is none
        raise GpufanError(f"cannot write {path}: {error.strerror}") from error


def _masked(report: Report, mask: Mask) -> Report:
    """The report as it may be shown; before its lines are broken, since a pattern could be broken as well."""
    return msgspec.structs.replace(
        report,
        findings=tuple(
            msgspec.structs.replace(
                finding,
                text=mask(finding.text),
                remedies=tuple(map(mask, finding.remedies)),
                uuid=finding.uuid and mask(finding.uuid),
            )
            for finding in report.findings
        ),
    )


def _clean(name: str, text: str, mask: Mask) -> str:
    """The text of a file as it may be shown."""
    if name.endswith(".json"):
        with suppress(msgspec.DecodeError):
            # As texts and not as it is written, since an escape such as \n would hide where a word begins.
            return msgspec.json.format(msgspec.json.encode(mask.within(msgspec.json.decode(text)))).decode()
    return mask(text)


def _contents(facts: Facts, report: Report, root: Path) -> Iterator[tuple[str, str]]:
    """Name and text of every file, before it is masked."""
    yield "doctor.json", msgspec.json.format(msgspec.json.encode(report)).decode()
    yield "doctor.txt", _as_text(report)
    yield "versions.txt", _versions(root)
    yield "log.txt", "\n".join(systemd.journal_lines(SERVICE, LOG_LINES))
    for name, path in _files(facts, root):
        if (text := _end_of(path)) is not None:
            yield name, text


def _files(facts: Facts, root: Path) -> Iterator[tuple[str, Path]]:
    yield "config.toml", facts.config
    folder = facts.published.path.parent
    yield "state.json", facts.published.path
    for place in ("own-xserver", "xserver"):
        for log in ("xorg.conf", "Xorg.log", "Xorg.out"):
            yield f"{place}/{log}", folder / place / log
    units = probe.below(root, systemd.UNIT_FOLDER)
    for unit in (SERVICE, XSERVER, *(companion.unit for companion in COMPANIONS)):
        yield f"units/{unit}", units / unit
        for drop_in in sorted(units.glob(f"{unit}.d/*.conf")):
            yield f"units/{unit}.d/{drop_in.name}", drop_in
    for file in facts.xorg_files:
        yield f"xorg{file.path}", probe.below(root, Path(file.path))
    yield "driver/version", probe.below(root, Path("/proc/driver/nvidia/version"))


def _end_of(path: Path) -> str | None:
    """The last of a file; None where there is none to be read."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - _LARGEST, 0))
            return file.read(_LARGEST).decode("utf-8", "replace")
    except OSError:
        return None


def _as_text(report: Report) -> str:
    text = io.StringIO()
    print_report(report, Console(file=text, width=100, no_color=True, highlight=False))
    return text.getvalue()


def _versions(root: Path) -> str:
    """Versions of all that has a part in it. Not `uname -n`."""
    system = os.uname()
    lines = [versions(), f"{system.sysname} {system.release} {system.machine}", f"libc {' '.join(platform.libc_ver())}"]
    with suppress(OSError):
        lines.append(read_file(probe.below(root, Path("/etc/os-release"))).decode("utf-8", "replace"))
    for name in ("click", "jinja2", "msgspec", "nvidia-ml-py", "rich"):
        with suppress(metadata.PackageNotFoundError):
            lines.append(f"{name} {metadata.version(name)}")
    with suppress(GpufanError):
        lines += systemd.systemctl("--version", limit_s=systemd.QUERY_TIMEOUT_S).splitlines()[:1]
    return "\n".join(lines) + "\n"


def _people() -> set[str]:
    """Names of those who may log in, and of whoever runs this."""
    people = {person.pw_name for person in pwd.getpwall() if person.pw_uid >= _FIRST_PERSON}
    people |= {Path(person.pw_dir).name for person in pwd.getpwall() if person.pw_uid >= _FIRST_PERSON}
    people |= {os.environ.get(name, "") for name in ("SUDO_USER", "USER", "LOGNAME")}
    with suppress(KeyError, OSError):
        people.add(getpass.getuser())
    return people - {"nobody", "nonexistent", "/"}


def _uuids(facts: Facts) -> list[str]:
    uuids = [card.info.uuid for card in facts.driver.cards]
    taken = facts.published.snapshot
    uuids += [gpu.uuid for gpu in taken.gpus] if taken else []
    return [uuid for uuid in dict.fromkeys(uuids) if uuid]
