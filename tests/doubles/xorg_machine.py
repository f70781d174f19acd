"""A machine with files of X and graphics devices of its own: gpufan and the real Xorg see it in a mount namespace.

NVIDIA's driver is missing here, so the dummy driver stands in for every driver, and its option SWcursor for the fan bit
of Coolbits. The log of X tells what it has made of the files. The dummy driver lets the options of a Device override
all others (other drivers do not), so it is no judge where a Device and its Screen or Monitor disagree.
"""

import contextlib
import ctypes
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gpufan.errors import InputError
from gpufan.xorg.config import ConfigFile
from gpufan.xorg.coolbits import FANS_BIT
from gpufan.xorg.values import option_number
from tests.doubles import require

_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000
_MOUNTS = ("etc/X11", "usr/share/X11/xorg.conf.d", "sys/bus/pci/devices")


class Screen(NamedTuple):
    """An X screen as X lists it."""

    name: str
    number: int
    device: str
    gpu_devices: tuple[str, ...]


class Verdict(NamedTuple):
    """What X has made of the files."""

    screens: tuple[Screen, ...]
    inactive: tuple[str, ...]
    complaints: tuple[str, ...]
    """Errors of the files; X has refused them if there are no `screens`."""
    fans: tuple[str, ...]
    """`on` or `off` for each X screen that has started and has Coolbits at all, in the order of X."""


class Machine:
    """One machine, with its files below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (*_MOUNTS, "etc/X11/xorg.conf.d", "out"):
            (folder / name).mkdir(parents=True)

    def write(self, files: dict[str, str]) -> None:
        """Write files; each is a path such as `xorg.conf`, `20-a.conf` of the user, or `/10-a.conf` of a package."""
        for name, text in files.items():
            self.path(name).write_bytes(text.encode())

    def path(self, name: str) -> Path:
        if name == "xorg.conf":
            return self.folder / "etc/X11/xorg.conf"
        return self.folder / ("usr/share" if name.startswith("/") else "etc") / "X11/xorg.conf.d" / name.lstrip("/")

    def add_device(self, address: str, vendor: str, driver: str, boot_vga: bool) -> None:
        folder = self.folder / "sys/bus/pci/devices" / address
        folder.mkdir()
        for name, text in (("vendor", vendor), ("class", "0x030000"), ("boot_vga", str(int(boot_vga)))):
            (folder / name).write_text(f"{text}\n")
        if driver:
            (folder / "driver").symlink_to(self.folder / "out" / driver)
        if driver not in ("", "vfio-pci"):
            (folder / "drm/card0").mkdir(parents=True)

    def contents(self) -> dict[str, bytes]:
        """The content of every file of X."""
        roots = [self.folder / name for name in ("etc/X11", "usr/share/X11")]
        return {str(path): path.read_bytes() for root in roots for path in sorted(root.rglob("*")) if path.is_file()}

    def gpufan(self, *arguments: str) -> tuple[int, str]:
        """Run gpufan there; returns exit status, and standard output and error together."""

        def run() -> None:
            from gpufan.cli.main import main

            sys.argv = ["gpufan", *arguments]
            main()

        output = self.folder / "out/gpufan"
        status = self._in_namespace(run, {name: self.folder / name for name in _MOUNTS}, output)
        return status, output.read_text()

    def xorg(self, *options: str) -> Verdict:
        """Start the real Xorg on a copy of the files in which the dummy driver replaces all drivers."""
        program = "/usr/lib/xorg/Xorg" if Path("/usr/lib/xorg/Xorg").exists() else require("Xorg", "xserver-xorg-core")
        copy, log = self.folder / "out/copy", self.folder / "out/log"
        for name in _MOUNTS[:2]:
            (copy / name).mkdir(parents=True)
        for source, data in self.contents().items():
            target = copy / Path(source).relative_to(self.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(with_dummy_driver(data))
        log.unlink(missing_ok=True)
        arguments = ["-logfile", str(log), "-noreset", "-novtswitch", "-sharevts", "-nolisten", "tcp", *options]

        def run() -> None:
            ready, ready_write = os.pipe()
            command = [program, "-displayfd", str(ready_write), *arguments]
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[ready_write]) as server:
                os.close(ready_write)
                select.select([ready], [], [], 20)
                server.terminate()

        self._in_namespace(run, {name: copy / name for name in _MOUNTS[:2]}, self.folder / "out/xorg")
        said = (self.folder / "out/xorg").read_text("latin-1")
        subprocess.run(["rm", "-r", str(copy)], check=True, timeout=10)
        return read_log(said + (log.read_text("latin-1") if log.exists() else ""))

    def _in_namespace(self, action: Callable[[], None], mounts: dict[str, Path], output: Path) -> int:
        """Run `action` in a process with `mounts` over the paths of this machine. Returns its exit status."""
        if os.geteuid() != 0:
            import pytest

            pytest.skip("needs root, for a mount namespace")
        pid = os.fork()
        if not pid:
            status = 70
            try:
                descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(descriptor, 1)
                os.dup2(descriptor, 2)
                sys.stdout = os.fdopen(1, "w")
                sys.stderr = os.fdopen(2, "w", buffering=1)
                _enter_namespace({f"/{name}": path for name, path in mounts.items()})
                action()
                status = 0
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
            finally:
                with contextlib.suppress(Exception):
                    sys.stdout.flush()
                os._exit(status)
        _, wait_status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(wait_status):
            raise AssertionError(f"killed by {signal.Signals(os.WTERMSIG(wait_status)).name}")
        return os.WEXITSTATUS(wait_status)


def with_dummy_driver(data: bytes) -> bytes:
    """Replace each Driver of a Device by `dummy`, and the fan bit of each Coolbits by SWcursor on or off."""
    try:
        file = ConfigFile(data, "")
    except InputError:
        return data
    changes: list[tuple[int, int, str]] = []
    for section in file.sections:
        for entry in section.statements:
            if section.kind == "device" and entry.keyword == "driver":
                changes += [(token.start, token.end, '"dummy"') for token in entry.strings]
            if (
                entry.keyword == "option"
                and entry.arguments[0].text.replace(" ", "").replace("_", "").lower() == "coolbits"
            ):
                name, *values = entry.arguments
                value = option_number(values[0].text) if values else 0
                changes.append((name.start, name.end, '"SWcursor"'))
                changes += [(v.start, v.end, '"on"' if (value or 0) & FANS_BIT else '"off"') for v in values]
    text = file.text
    for start, end, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    return text.encode("latin-1")


def read_log(text: str) -> Verdict:
    """Read the log and the standard error of X."""
    screens: list[Screen] = []
    for kind, name, place in re.findall(r'\|-->(Screen|Device|GPUDevice) "(.*?)"(?: \((\d+)\))?$', text, re.MULTILINE):
        if kind == "Screen":
            screens.append(Screen(name, int(place), "", ()))
        elif kind == "Device":
            screens[-1] = screens[-1]._replace(device=name)
        else:
            screens[-1] = screens[-1]._replace(gpu_devices=(*screens[-1].gpu_devices, name))
    inactive = re.findall(r'\|-->Inactive Device "(.*?)"$', text, re.MULTILINE)
    marks = (
        "Invalid isolated",
        "Parse error",
        "Data incomplete",
        "Problem parsing",
        "No ServerLayout section",
        "Unable to determine",
    )
    complaints = [line for line in text.splitlines() if any(mark in line for mark in marks)]
    if any("Unable to determine" in line or "Invalid isolated" in line for line in complaints):
        screens = []  # X has listed them before it ended
    fans = re.findall(r'DUMMY\((\d+)\): Option "SWcursor" "(\w+)"', text)
    return Verdict(tuple(screens), tuple(inactive), tuple(complaints), tuple(dict(fans).values()))


def _enter_namespace(mounts: dict[str, Path]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def call(function: str, *arguments: object) -> None:
        if getattr(libc, function)(*arguments) != 0:
            raise OSError(ctypes.get_errno(), f"{function}: {os.strerror(ctypes.get_errno())}")

    call("unshare", _CLONE_NEWNS)
    call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    for target, source in mounts.items():
        call("mount", os.fsencode(source), os.fsencode(target), None, _MS_BIND, None)
