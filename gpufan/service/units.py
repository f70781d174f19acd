"""Make the unit files of the services from the templates in `systemd/`."""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from gpufan.errors import InputError
from gpufan.system.paths import RUNTIME_FOLDER, TAKEN
from gpufan.system.resources import template
from gpufan.system.systemctl import UNIT_FOLDER

SERVICE = "gpufan.service"
XSERVER = "gpufan-xserver.service"
DROP_IN = f"{SERVICE}.d/box.conf"
"""Name of the file with what the service needs on this box only. The unit itself is the same on all boxes."""

_MAKE_NODES = (
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin; command -v nvidia-modprobe >/dev/null || exit 0; nvidia-modprobe -c 255 -c 0; "
    "for minor in $(sed -n 's/^Device Minor:[[:space:]]*//p' /proc/driver/nvidia/gpus/*/information); "
    "do nvidia-modprobe -c $minor; done"
)
"""Shell commands that load the driver, and create the device node of every card, if nvidia-modprobe is installed."""

_PYTHON_IS_BROKEN = "echo 'gpufan cannot start, since its Python does not work any more: install gpufan again' >&2"


@dataclass(frozen=True)
class CompanionUnit:
    """The unit of a companion service.

    A companion service reads the snapshot of gpufan. The control of the fans does not depend on companion services.
    """

    name: str
    """Name of the service. The option of `install-service` that installs the service has the same name."""
    is_default: bool
    """Whether the first install includes the service if the user does not give the option of the service."""
    module: str = ""
    """A Python module that the service needs; empty for none. The extra `extra` of gpufan installs this module."""
    extra: str = ""

    @property
    def unit_name(self) -> str:
        """The name of the unit, such as `gpufan-history.service`."""
        return f"gpufan-{self.name}.service"

    @property
    def unit_path(self) -> str:
        """The path of the unit file."""
        return str(UNIT_FOLDER / self.unit_name)


COMPANIONS = (
    CompanionUnit("history", is_default=True),
    CompanionUnit("exporter", is_default=False, module="prometheus_client", extra="metrics"),
    CompanionUnit("alerts", is_default=False, module="apprise", extra="alerts"),
    CompanionUnit("web", is_default=False, module="starlette", extra="web"),
)


def unit_files(
    python: str,
    release_script: str,
    config: str,
    *,
    xserver: bool = False,
    xauthority: str | None = None,
    companions: Iterable[CompanionUnit] = (),
    hwmon_folders: Iterable[str] = (),
) -> dict[str, str]:
    """Return the unit files, and the drop-in if it is needed. The result maps the path of each file to its text.

    `python` is the interpreter that runs gpufan. If `python` no longer works, the system's Python runs the script
    `release_script`, which gives the fans back. `config` is the path of the config file.

    If `xserver` is True, the result includes the unit of gpufan's own X server. `xauthority` is the path of the cookie
    file of another X server. `companions` are the companion services to include. `hwmon_folders` have the files of
    hwmon that the service writes. Raises InputError if a path contains a control character.
    """
    gpufan = f"{_quoted_for_unit(python)} -I -m gpufan"
    # After an upgrade of the distribution the interpreter is gone, or finds no packages.
    works = f"{shlex.quote(python)} -I -c 'import gpufan, msgspec' 2>/dev/null"
    restore = f"{shlex.quote(python)} -I -m gpufan restore --taken --config {shlex.quote(config)}"
    release = f"/usr/bin/python3 -I {shlex.quote(release_script)} {RUNTIME_FOLDER / TAKEN}"
    values = {
        "gpufan": gpufan,
        "config": config,
        "companion": template("systemd/companion.j2").render().rstrip(),
        "make_nodes": _unit_shell_command(_MAKE_NODES),
        "check_python": _unit_shell_command(f"if ! {works}; then {_PYTHON_IS_BROKEN}; sleep 55; exit 1; fi"),
        "restore": _unit_shell_command(f"if {works}; then exec {restore}; else exec {release}; fi"),
    }
    names = [SERVICE, *([XSERVER] if xserver else []), *(companion.unit_name for companion in companions)]
    found = {str(UNIT_FOLDER / name): template(f"systemd/{name}.j2").render(values) for name in names}
    of_box = {
        "xserver": xserver,
        "xauthority": xauthority and _quoted_for_unit(f"XAUTHORITY={xauthority}"),
        "hwmon_folders": [_quoted_for_unit(folder) for folder in hwmon_folders],
    }
    if any(of_box.values()):
        found[str(UNIT_FOLDER / DROP_IN)] = template("systemd/box.conf.j2").render(of_box)
    return found


def _unit_shell_command(script: str) -> str:
    """Return the command that runs the shell script `script`, quoted for a unit file."""
    return f"/bin/sh -c {_quoted_for_unit(script.replace('$', '$$'))}"


def _quoted_for_unit(text: str) -> str:
    """Quote `text`, so that systemd reads it as one word of a unit file. Return the quoted text.

    See systemd.service(5) and systemd.unit(5). Raises InputError if `text` contains a line break or another control
    character. Such a character could end the line of the unit file.
    """
    if not text.isprintable():
        raise InputError(f"{text!r} has a control character, which no unit file can have: rename that path")
    text = text.replace("%", "%%")
    if not re.search(r"[\s\"'\\;]", text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
