"""A unit that an install stops and disables, and an uninstall restores, such as a display manager."""

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from gpufan.service.steps import AddUndo, Say
from gpufan.system.systemctl import UNIT_FOLDER, systemctl, systemctl_show


class DisabledUnit(msgspec.Struct, frozen=True):
    """A unit and its state before gpufan disabled it."""

    unit: str
    active: bool
    links: dict[str, str]
    """Symbolic links that make systemd start the unit: the path of each link, and its destination."""

    @classmethod
    def of(cls, unit: str) -> "DisabledUnit":
        """Read the present state of `unit`. Raises GpufanError."""
        active = systemctl_show(unit, "ActiveState")["ActiveState"] in ("active", "activating", "reloading")
        return cls(unit, active, _links_to_unit(unit))

    @classmethod
    def in_use(cls, units: Iterable[str]) -> "list[DisabledUnit]":
        """Return the present state of each of `units` that is active or enabled. Raises GpufanError."""
        return [unit for name in units if (unit := cls.of(name)).is_in_use]

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

    def take_out_of_use(self, *, stops: bool, undo: AddUndo) -> None:
        """Disable the unit; stop it too if `stops` is set. The undo steps are passed to `undo`. Raises GpufanError."""
        undo(self.start)
        if stops:
            self.stop()
        undo(self.enable)
        self.disable()

    def restore(self, say: Say) -> None:
        """Enable and start the unit as before, and report it to `say`. Raises GpufanError or OSError."""
        if systemctl_show(self.unit, "LoadState")["LoadState"] == "not-found":
            say(f"{self.unit} is no longer installed")
            return
        self.enable()
        self.start()
        say(f"restored {self.unit}")

    def enable(self) -> None:
        """Create the links again, except where their path exists by now. Raises OSError or GpufanError."""
        for path, target in self.links.items():
            if not os.path.lexists(path):
                Path(path).parent.mkdir(exist_ok=True)
                Path(path).symlink_to(target)
        systemctl("daemon-reload")

    def start(self) -> None:
        """Start the unit, if it was active before. Raises GpufanError."""
        if self.active:
            systemctl("start", self.unit)


def _links_to_unit(unit: str) -> dict[str, str]:
    """Return the symbolic links to `unit`, its aliases included: the path of each link, and its destination."""
    return {
        str(path): str(path.readlink())
        for path in sorted(UNIT_FOLDER.rglob("*"))
        if path.is_symlink() and path.readlink().name == unit
    }
