"""Gather the facts. Each fact has its own thread, so a driver or a program that hangs does not delay the others."""

import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gpufan import __version__
from gpufan.alerts.settings import exposure
from gpufan.config.settings import DEFAULT_PATH, Source
from gpufan.daemon import snapshot_file
from gpufan.doctor.facts import Facts, PciCard, Proof, Published, Systemd
from gpufan.doctor.look_driver import look_at_driver
from gpufan.doctor.look_processes import autostarts, other_setter, rivals, x_servers
from gpufan.doctor.look_xorg import xorg_files
from gpufan.doctor.root_folder import below_root
from gpufan.errors import GpufanError, NoAnswer
from gpufan.gpu import kernel_cards
from gpufan.service import conflicts
from gpufan.service.units import COMPANIONS, SERVICE
from gpufan.system import systemctl
from gpufan.system.background import BackgroundCall
from gpufan.system.files import read_text_or_empty
from gpufan.system.paths import ALERTS_SETTINGS, SNAPSHOT
from gpufan.system.unit_state import UnitState, unit_state

LIMIT_S = 10.0
"""Time limit of each fact, counted from the common start, s."""

_SUDO_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where sudo looks for a program on Debian (secure_path in sudoers(5))."""

_CAP_SYS_ADMIN = 21
"""Number of the capability (linux/capability.h)."""


def gather(runtime_folder: Path, config: Path | None, proofs: tuple[Proof, ...] = ()) -> Facts:
    """Gather all facts that are available within `LIMIT_S` seconds. Changes nothing."""
    source = settings_source(config)
    looks: dict[str, Callable[[], Any]] = {
        "driver": look_at_driver,
        "systemd": _systemd,
        "published": partial(_published_snapshot, runtime_folder / SNAPSHOT),
        "settings": source.read,
        "alerts_exposure": _alerts_exposure,
        "pci": pci_cards,
        "rivals": rivals,
        "other_setter": partial(other_setter, runtime_folder / SNAPSHOT),
        "autostarts": autostarts,
        "x_servers": partial(x_servers, runtime_folder),
        "xorg_files": lambda: xorg_files([card.address for card in pci_cards()]),
        "has_xorg": lambda: shutil.which("Xorg") is not None,
        "has_sys_admin": _has_sys_admin,
        "distribution": _distribution,
        "command": gpufan_command,
    }
    end_s = time.monotonic() + LIMIT_S
    calls = {field: BackgroundCall(look) for field, look in looks.items()}
    found, errors = {}, {}
    for field, call in calls.items():
        try:
            found[field] = call.result(max(end_s - time.monotonic(), 0))
        except NoAnswer:
            errors[field] = f"no answer within {LIMIT_S:g} s"
        except GpufanError as error:
            errors[field] = str(error)
        except (OSError, ValueError):
            pass  # a file that cannot be read contains no facts
    return Facts(
        version=__version__,
        time_s=time.time(),
        user_id=os.geteuid(),
        config=source.path or DEFAULT_PATH,
        runtime_folder=runtime_folder,
        proofs=proofs,
        errors=errors,
        **found,
    )


def settings_source(config: Path | None) -> Source:
    """Where the settings come from: `config`, which must exist, or else the default file, which may be missing."""
    return Source(config or below_root(DEFAULT_PATH), required=config is not None)


def gpufan_command() -> str:
    """The command that runs this gpufan, also after `sudo`, which searches only the folders of the system."""
    program = Path(sys.argv[0])
    if program.name != "gpufan":
        return f"{sys.executable} -m gpufan"
    known = shutil.which("gpufan", path=_SUDO_PATH)
    if known is not None and Path(known).resolve() == program.resolve():
        return "gpufan"
    return str(program.absolute())


def pci_cards() -> tuple[PciCard, ...]:
    """The NVIDIA display devices with their kernel drivers. Raises OSError or ValueError."""
    folder = below_root(kernel_cards.PCI_FOLDER)
    found = []
    for address in kernel_cards.bus_addresses(folder):
        device = folder / address.lspci
        driver = (device / "driver").readlink().name if (device / "driver").is_symlink() else None
        found.append(PciCard(address, int((device / "device").read_text(), 16), driver))
    return tuple(found)


def _alerts_exposure() -> str | None:
    return exposure(below_root(ALERTS_SETTINGS).stat().st_mode)


def _has_sys_admin() -> bool | None:
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", read_text_or_empty(below_root("/proc/self/status")), re.MULTILINE)
    return bool(int(match[1], 16) >> _CAP_SYS_ADMIN & 1) if match else None


def _distribution() -> str:
    match = re.search(r'^ID="?([\w.-]+)', read_text_or_empty(below_root("/etc/os-release")), re.MULTILINE)
    return match[1] if match else ""


def _published_snapshot(path: Path) -> Published | None:
    if not path.exists():
        return None
    snapshot = snapshot_file.read(path)
    return Published(snapshot, snapshot_file.is_orphan(snapshot), snapshot_file.stale_s(snapshot) is not None)


def _systemd() -> Systemd | None:
    if not below_root(systemctl.BOOTED).is_dir() or shutil.which("systemctl") is None:
        return None
    service, *companions = map(_gpufan_unit, (SERVICE, *(companion.unit_name for companion in COMPANIONS)))
    manager = conflicts.display_manager()
    return Systemd(
        service,
        tuple(unit for unit in companions if unit.exists),
        manager if manager and unit_state(manager).is_active else None,
    )


def _gpufan_unit(name: str) -> UnitState:
    """State of a unit of gpufan. If an inactive unit has no status, its last line in the journal replaces it."""
    unit = unit_state(name)
    if unit.status or unit.is_active or not unit.exists:
        return unit
    return replace(unit, status="".join(systemctl.journal_lines(name, 1)))
