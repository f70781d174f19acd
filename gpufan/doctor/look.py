"""Gathers the facts. Each fact is gathered in its own thread.

So a driver or a program that hangs delays only its own fact.
"""

import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gpufan import __version__
from gpufan.alerts.settings import alert_settings_exposure
from gpufan.config.settings import DEFAULT_PATH
from gpufan.daemon import snapshot_file
from gpufan.doctor.facts import Facts, PciCard, Proof, Published, Systemd
from gpufan.doctor.look_driver import look_at_driver
from gpufan.doctor.look_processes import (
    look_for_autostarts,
    look_for_other_setter,
    look_for_rivals,
    look_for_x_servers,
)
from gpufan.doctor.look_xorg import look_at_xorg_files
from gpufan.doctor.root_folder import below_root, settings_below_root
from gpufan.errors import GpufanError, NoAnswer
from gpufan.gpu import kernel_cards
from gpufan.hwmon.channels import find_channels
from gpufan.service import conflicts, root_copy
from gpufan.service.installation import Kind, copied_installation, this_installation
from gpufan.service.units import COMPANIONS, SERVICE
from gpufan.system import systemctl
from gpufan.system.background import BackgroundCall
from gpufan.system.files import read_text_or_empty
from gpufan.system.own_command import own_command
from gpufan.system.paths import ALERTS_SETTINGS, SNAPSHOT
from gpufan.system.unit_state import UnitState, unit_state

LIMIT_S = 10.0
"""Time limit for all facts together, s. All facts are gathered at the same time."""

_CAP_SYS_ADMIN = 21
"""Number of the capability (linux/capability.h)."""


def gather_facts(runtime_folder: Path, config: Path | None, proofs: tuple[Proof, ...] = ()) -> Facts:
    """Gather all facts about the box that can be known within `LIMIT_S` seconds. Changes nothing.

    `config` is the config file. With None, it is the default file. `proofs` is the result of `prove_fans`, if the fans
    were moved before.
    """
    source = settings_below_root(config)
    looks: dict[str, Callable[[], Any]] = {
        "driver": look_at_driver,
        "systemd": _look_at_systemd,
        "published": partial(_look_at_snapshot, runtime_folder / SNAPSHOT),
        "settings": source.read,
        "alerts_exposure": _look_at_alerts_file,
        "pci": look_at_pci_cards,
        "rivals": look_for_rivals,
        "other_setter": partial(look_for_other_setter, runtime_folder / SNAPSHOT),
        "channels": lambda: tuple(find_channels()),
        "writable_paths": _look_at_writable_paths,
        "autostarts": look_for_autostarts,
        "x_servers": partial(look_for_x_servers, runtime_folder),
        "xorg_files": lambda: look_at_xorg_files([card.address for card in look_at_pci_cards()]),
        "has_xorg": lambda: shutil.which("Xorg") is not None,
        "has_sys_admin": _look_for_sys_admin,
        "distribution": _look_for_distribution,
        "command": own_command,
        "installation": this_installation,
        "copy": copied_installation,
        "copy_is_current": _look_whether_copy_is_current,
        "container": _look_for_container,
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


def look_at_pci_cards() -> tuple[PciCard, ...]:
    """Return the NVIDIA display devices on the PCI bus, with their kernel drivers.

    Raises OSError or ValueError if the files of the kernel about a device cannot be read.
    """
    folder = below_root(kernel_cards.PCI_FOLDER)
    found = []
    for address in kernel_cards.kernel_bus_addresses(folder):
        device = folder / address.lspci
        driver = (device / "driver").readlink().name if (device / "driver").is_symlink() else None
        found.append(PciCard(address, int((device / "device").read_text(), 16), driver))
    return tuple(found)


def _look_at_alerts_file() -> str | None:
    """Return the value for `Facts.alerts_exposure`. Raises OSError if the file with these settings is missing."""
    return alert_settings_exposure(below_root(ALERTS_SETTINGS).stat().st_mode)


def _look_for_sys_admin() -> bool | None:
    """Return whether this process has the capability CAP_SYS_ADMIN. Returns None if this is unknown."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", read_text_or_empty(below_root("/proc/self/status")), re.MULTILINE)
    return bool(int(match[1], 16) >> _CAP_SYS_ADMIN & 1) if match else None


def _look_whether_copy_is_current() -> bool | None:
    """Return whether the copy for the service has the code of this gpufan. None if they cannot be compared.

    That is so without a copy, if a file cannot be read, and for a package and the copy itself, which are not copied.
    """
    if this_installation().kind in (Kind.PACKAGE, Kind.COPY) or copied_installation() is None:
        return None
    digest = root_copy.copied_files_digest()
    return None if digest is None else root_copy.copy_is_current(digest)


def _look_for_container() -> str:
    """Return the program that runs this container: `docker`, `podman` or `kubernetes`. Empty if this is no container.

    A container in which systemd runs counts as a box.
    """
    if below_root(systemctl.BOOTED).is_dir():
        return ""
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    marks = {"/run/.containerenv": "podman", "/.dockerenv": "docker"}
    return next((name for mark, name in marks.items() if below_root(mark).exists()), "")


def _look_for_distribution() -> str:
    """Return the ID of the distribution in /etc/os-release. Returns an empty text if the ID is unknown."""
    match = re.search(r'^ID="?([\w.-]+)', read_text_or_empty(below_root("/etc/os-release")), re.MULTILINE)
    return match[1] if match else ""


def _look_at_snapshot(path: Path) -> Published | None:
    """Return the snapshot in the file `path`. Returns None if the file does not exist.

    Raises GpufanError if the file cannot be read.
    """
    if not path.exists():
        return None
    snapshot = snapshot_file.read_snapshot(path)
    return Published(
        snapshot,
        snapshot_file.snapshot_writer_has_ended(snapshot),
        snapshot_file.snapshot_stale_s(snapshot) is not None,
    )


def _look_at_systemd() -> Systemd | None:
    """Return the states of the systemd units that concern gpufan. Returns None if systemd does not run this box."""
    if not below_root(systemctl.BOOTED).is_dir() or shutil.which("systemctl") is None:
        return None
    service, *companions = map(_look_at_unit, (SERVICE, *(companion.unit_name for companion in COMPANIONS)))
    manager = conflicts.display_manager()
    return Systemd(
        service,
        tuple(unit for unit in companions if unit.exists),
        manager if manager and unit_state(manager).is_active else None,
    )


def _look_at_writable_paths() -> str:
    """Return the value for `Facts.writable_paths`. Raises GpufanError."""
    if not below_root(systemctl.BOOTED).is_dir() or shutil.which("systemctl") is None:
        return ""
    limit_s = systemctl.QUERY_TIMEOUT_S
    return systemctl.systemctl_show(SERVICE, "ReadWritePaths", limit_s=limit_s)["ReadWritePaths"]


def _look_at_unit(name: str) -> UnitState:
    """Return the state of the systemd unit `name` of gpufan.

    If the unit is not active and has no status, its last line in the journal becomes the status.
    """
    unit = unit_state(name)
    if unit.status or unit.is_active or not unit.exists:
        return unit
    return replace(unit, status="".join(systemctl.journal_lines(name, 1)))
