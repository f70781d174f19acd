"""The unit files of the services, made from the templates in `systemd/`."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from gpufan.system.resources import template
from gpufan.system.systemctl import UNIT_FOLDER, quoted

SERVICE = "gpufan.service"
XSERVER = "gpufan-xserver.service"


@dataclass(frozen=True)
class CompanionService:
    """A service that reads the snapshot of gpufan. The fans do not depend on it."""

    name: str
    """Name of the option of `install-service` that includes the service."""
    is_default: bool
    """Whether the first install includes the service even without its option."""
    module: str = ""
    """A Python module that the service needs; only gpufan's extra `extra` installs it."""
    extra: str = ""

    @property
    def unit(self) -> str:
        """Name of the unit."""
        return f"gpufan-{self.name}.service"

    @property
    def path(self) -> str:
        """Path of the unit file."""
        return str(UNIT_FOLDER / self.unit)


COMPANIONS = (
    CompanionService("history", is_default=True),
    CompanionService("exporter", is_default=False, module="prometheus_client", extra="metrics"),
)


def unit_files(
    gpufan: str,
    config: str,
    *,
    xserver: bool = False,
    xauthority: str | None = None,
    companions: Iterable[CompanionService] = (),
) -> dict[str, str]:
    """Text of every unit file, by path.

    `gpufan` is the command to start, `config` the path of the settings file. With `xserver`, a unit runs gpufan's own
    X server. `xauthority` is the path of the cookie file of an X server that runs already.
    """
    modprobe = shutil.which("nvidia-modprobe", path="/usr/sbin:/usr/bin:/sbin:/bin")
    values = {"gpufan": gpufan, "config": config, "modprobe": modprobe, "xserver": xserver}
    values["xauthority"] = xauthority and quoted(f"XAUTHORITY={xauthority}")
    names = [SERVICE, *([XSERVER] if xserver else []), *(companion.unit for companion in companions)]
    return {str(UNIT_FOLDER / name): template(f"systemd/{name}.j2").render(values) for name in names}
