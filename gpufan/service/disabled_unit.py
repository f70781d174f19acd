"""Stop and disable a unit during an install, such as a display manager. An uninstall restores the unit."""

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from gpufan.service.steps import AddUndo, Say
from gpufan.system.systemctl import UNIT_FOLDER, systemctl, systemctl_show


class DisabledUnit(msgspec.Struct, frozen=True):
    """A unit, and the state that was recorded before gpufan disabled the unit."""

    unit: str
    active: bool
    links: dict[str, str]
    """The symbolic links that make systemd start the unit. Maps the path of each link to its destination."""

    @classmethod
    def of(cls, unit: str) -> "DisabledUnit":
        """Read and return the present state of the unit `unit`. Raises GpufanError."""
        active = systemctl_show(unit, "ActiveState")["ActiveState"] in ("active", "activating", "reloading")
        return cls(unit, active, _links_to_unit(unit))

    @classmethod
    def in_use(cls, units: Iterable[str]) -> "list[DisabledUnit]":
        """Return the present state of the units in `units` that are active or enabled.

        Units that are neither active nor enabled are left out. Raises GpufanError.
        """
        return [unit for name in units if (unit := cls.of(name)).is_in_use]

    @property
    def is_in_use(self) -> bool:
        """Whether the unit is active or enabled."""
        return self.active or bool(self.links)

    def stop(self) -> None:
        """Stop the unit now, if the recorded state is active. Raises GpufanError."""
        if self.active:
            systemctl("stop", self.unit)

    def disable(self) -> None:
        """Remove the recorded links, so that systemd does not start the unit at boot. Raises GpufanError."""
        # Not `systemctl disable`: `enable` would not restore links that came with a package.
        for path in self.links:
            Path(path).unlink(missing_ok=True)
        systemctl("daemon-reload")

    def take_out_of_use(self, *, stops: bool, undo: AddUndo) -> None:
        """Disable the unit. If `stops` is True, also stop the unit now.

        Calls `undo` to register undo steps. Raises GpufanError.
        """
        undo(self.start)
        if stops:
            self.stop()
        undo(self.enable)
        self.disable()

    def restore(self, say: Say) -> None:
        """Create the recorded links again, and start the unit if it was active. Report this to `say`.

        If the unit is no longer installed, only report that to `say`. Raises GpufanError or OSError.
        """
        if systemctl_show(self.unit, "LoadState")["LoadState"] == "not-found":
            say(f"{self.unit} is no longer installed")
            return
        self.enable()
        self.start()
        say(f"restored {self.unit}")

    def enable(self) -> None:
        """Create the recorded links again. A path that exists by now is left as it is.

        Raises OSError or GpufanError.
        """
        for path, target in self.links.items():
            if not os.path.lexists(path):
                Path(path).parent.mkdir(exist_ok=True)
                Path(path).symlink_to(target)
        systemctl("daemon-reload")

    def start(self) -> None:
        """Start the unit, if the recorded state is active. Raises GpufanError."""
        if self.active:
            systemctl("start", self.unit)


def _links_to_unit(unit: str) -> dict[str, str]:
    """Return the symbolic links to `unit`, including its aliases.

    The result maps the path of each link to its destination.
    """
    return {
        str(path): str(path.readlink())
        for path in sorted(UNIT_FOLDER.rglob("*"))
        if path.is_symlink() and path.readlink().name == unit
    }
