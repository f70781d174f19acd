"""The unit files, made from the templates in `systemd/`."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from gpufan.system.resources import template
from gpufan.system.systemctl import UNIT_FOLDER, quoted

SERVICE = "gpufan.service"
XSERVER = "gpufan-xserver.service"


@dataclass(frozen=True)
class CompanionService:
    """A service beside the controller, which reads what that publishes; the fans do not depend on it."""

    name: str
    """As its option of `install-service` is called."""
    is_usual: bool
    """Whether it is installed where nobody has said otherwise."""
    extra: str | None = None
    """The extra of gpufan that it needs."""

    @property
    def unit(self) -> str:
        """Its name for systemd."""
        return f"gpufan-{self.name}.service"

    @property
    def path(self) -> str:
        """Where its unit file lies."""
        return str(UNIT_FOLDER / self.unit)


COMPANIONS = (CompanionService("history", is_usual=True), CompanionService("exporter", is_usual=False, extra="metrics"))


def unit_files(
    gpufan: str,
    config: str,
    *,
    xserver: bool = False,
    xauthority: str | None = None,
    companions: Iterable[CompanionService] = (),
) -> dict[str, str]:
    """Text by path of every unit.

    `gpufan` is the command, with which an X server is kept if `xserver` says so; one that runs already lets in whoever
    has the cookie in the file `xauthority`.
    """
    modprobe = shutil.which("nvidia-modprobe", path="/usr/sbin:/usr/bin:/sbin:/bin")
    values = {"gpufan": gpufan, "config": config, "modprobe": modprobe, "xserver": xserver}
    values["xauthority"] = xauthority and quoted(f"XAUTHORITY={xauthority}")
    names = [SERVICE, *([XSERVER] if xserver else []), *(companion.unit for companion in companions)]
    return {str(UNIT_FOLDER / name): template(f"systemd/{name}.j2").render(values) for name in names}
