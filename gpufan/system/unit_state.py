"""Read the state of a systemd unit."""

import re
from dataclasses import dataclass

from gpufan.system.systemctl import QUERY_TIMEOUT_S, systemctl_show

_KEYS = (
    *("LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "StatusText", "StateChangeTimestamp"),
    *("MainPID", "NRestarts", "User", "CapabilityBoundingSet", "ExecStart", "DropInPaths", "NeedDaemonReload"),
    "FragmentPath",
)


@dataclass(frozen=True)
class UnitState:
    """The properties of a unit (org.freedesktop.systemd1(5)). A property that systemd does not report is empty."""

    name: str
    load: str
    active: str
    sub: str = ""
    file_state: str = ""
    result: str = ""
    status: str = ""
    """The last status text that the daemon sent to systemd."""
    since: str = ""
    """Local time of the last change of state, as text from systemd."""
    pid: int = 0
    restarts: int = 0
    user: str = ""
    capabilities: tuple[str, ...] = ()
    """The capabilities that the unit may have; empty if systemd does not report them."""
    command: str = ""
    drop_ins: str = ""
    needs_reload: bool = False
    """Whether the files of the unit changed after systemd read them."""
    path: str = ""
    """The path of the unit file."""

    @property
    def exists(self) -> bool:
        """Whether systemd finds a unit file. That of a package counts only if the unit was enabled or started."""
        is_in_use = self.is_active or self.starts_at_boot or self.has_failed or self.is_masked
        return self.load != "not-found" and (is_in_use or not self.path.startswith(("/usr/lib/", "/lib/")))

    @property
    def is_masked(self) -> bool:
        """Whether the unit is linked to /dev/null, so that nothing can start it."""
        return "masked" in (self.load, self.file_state)

    @property
    def is_active(self) -> bool:
        """Whether the unit runs."""
        return self.active in ("active", "reloading", "refreshing")

    @property
    def starts_at_boot(self) -> bool:
        """Whether the unit is enabled."""
        return self.file_state in ("enabled", "enabled-runtime")

    @property
    def has_failed(self) -> bool:
        """Whether the last run of the unit ended with an error."""
        return self.active == "failed" or self.result not in ("", "success")


def unit_state(name: str, limit_s: float | None = None) -> UnitState:
    """Return the present state of the unit `name`.

    Raises GpufanError if systemctl fails, or does not answer within `limit_s` seconds (default 4).
    """
    found = systemctl_show(name, *_KEYS, limit_s=QUERY_TIMEOUT_S if limit_s is None else limit_s)
    command = re.search(r"argv\[\]=(.*?) ;", found["ExecStart"])
    return UnitState(
        name=name,
        load=found["LoadState"],
        active=found["ActiveState"],
        sub=found["SubState"],
        file_state=found["UnitFileState"],
        result=found["Result"],
        status=found["StatusText"],
        since=found["StateChangeTimestamp"],
        pid=_unit_property_number(found["MainPID"]),
        restarts=_unit_property_number(found["NRestarts"]),
        user=found["User"],
        capabilities=tuple(found["CapabilityBoundingSet"].split()),
        command=command[1] if command else "",
        drop_ins=found["DropInPaths"],
        needs_reload=found["NeedDaemonReload"] == "yes",
        path=found["FragmentPath"],
    )


def _unit_property_number(text: str) -> int:
    """Convert `text`, the value of a unit property, to a number.

    A value that is not a decimal number gives 0.
    """
    return int(text) if text.isdecimal() else 0
