"""The unit files, made from the templates in `systemd/`."""

import shutil

from gpufan.resources import template
from gpufan.service.systemd import UNIT_FOLDER

SERVICE = "gpufan.service"
XSERVER = "gpufan-xserver.service"


def unit_files(gpufan: str, config: str, *, xserver: bool) -> dict[str, str]:
    """Text by path of every unit. `gpufan` is the command, with which an X server is kept if `xserver` says so."""
    modprobe = shutil.which("nvidia-modprobe", path="/usr/sbin:/usr/bin:/sbin:/bin")
    values = {"gpufan": gpufan, "config": config, "modprobe": modprobe, "xserver": xserver}
    names = [SERVICE, XSERVER] if xserver else [SERVICE]
    return {str(UNIT_FOLDER / name): template(f"systemd/{name}.j2").render(values) for name in names}
