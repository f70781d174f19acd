"""A unit that is stopped and disabled while gpufan is installed, such as a display manager."""

import os
from pathlib import Path

import msgspec

from gpufan.system.systemctl import UNIT_FOLDER, systemctl, systemctl_show


class DisabledUnit(msgspec.Struct, frozen=True):
    """A unit and its state before gpufan disabled it."""

    unit: str
    active: bool
    links: dict[str, str]
    """Symbolic links that make systemd start the unit: destination by path."""

    @classmethod
    def of(cls, unit: str) -> "DisabledUnit":
        """Read the present state of `unit`. Raises GpufanError."""
        active = systemctl_show(unit, "ActiveState")["ActiveState"] in ("active", "activating", "reloading")
        return cls(unit, active, _links_to(unit))

    @property
    def is_in_use(self) -> bool:
        """Whether the unit is active or enabled."""
        return self.active or bool(self.links)

    def stop(self) -> None:
        """Stop the unit now, if it was active. Raises GpufanError."""
        if self.active:
            systemctl("stop", self.unit)

    def disable(self) -> None:
        """Remove the links, so that the unit does not start at boot. Raises GpufanError."""
        # Not `systemctl disable`: `enable` would not restore links that came with a package.
        for path in self.links:
            Path(path).unlink(missing_ok=True)
        systemctl("daemon-reload")

    def enable(self) -> None:
        """Create the links again, unless there is something at their path now. Raises OSError or GpufanError."""
        for path, target in self.links.items():
            if not os.path.lexists(path):
                Path(path).parent.mkdir(exist_ok=True)
                Path(path).symlink_to(target)
        systemctl("daemon-reload")

    def start(self) -> None:
        """Start the unit, if it was active before. Raises GpufanError."""
        if self.active:
            systemctl("start", self.unit)


def _links_to(unit: str) -> dict[str, str]:
    """Symbolic links to `unit` (destination by path): its aliases, and those that start it."""
    return {
        str(path): str(path.readlink())
        for path in sorted(UNIT_FOLDER.rglob("*"))
        if path.is_symlink() and path.readlink().name == unit
    }
