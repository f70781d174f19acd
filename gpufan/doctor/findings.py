"""What a finding and a report of the doctor are. `show.py` prints them."""

from collections.abc import Iterable
from enum import Enum

import msgspec
from msgspec.structs import replace

from gpufan.system.printable import printable

FORMAT = 1
"""Increased when a field changes its meaning or is removed, but not for new optional fields and new checks."""

GROUPS = {
    "driver": ("driver", "rights"),
    "cards": ("card", "fans", "heat", "power"),
    "service": ("service", "companions", "config", "messages", "snapshot"),
    "box": ("clock", "rivals", "display", "coolbits", "time"),
}
"""The checks below each heading of the report."""

_GROUP_OF = {check: group for group, checks in GROUPS.items() for check in checks}


class Level(str, Enum):
    """How serious a finding is, from the best to the worst."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(msgspec.Struct, frozen=True):
    """The result of one check."""

    group: str
    """The heading of the report under which the check is."""
    check: str
    level: Level
    text: str
    remedies: tuple[str, ...] = ()
    """Commands to paste, the most likely remedy first; empty only if the level is ok."""
    card: int | None = None
    """Index of the card; None if the check is not about one card."""
    uuid: str | None = None
    """UUID of the card; None also if the card has not reported it."""

    def printable(self) -> "Finding":
        """Return the finding without control characters. Any user can put them into the name of a process or file."""
        return replace(self, text=printable(self.text), remedies=tuple(map(printable, self.remedies)))


def ok(check: str, text: str) -> Finding:
    """Make a finding that needs no action."""
    return Finding(_GROUP_OF[check], check, Level.OK, text)


def warning(check: str, text: str, *remedies: str) -> Finding:
    """Make a finding that may become a problem."""
    return Finding(_GROUP_OF[check], check, Level.WARNING, text, remedies)


def problem(check: str, text: str, *remedies: str) -> Finding:
    """Make a finding that prevents fan control, or that can harm a card."""
    return Finding(_GROUP_OF[check], check, Level.PROBLEM, text, remedies)


class Report(msgspec.Struct, frozen=True):
    """All findings about a box, in the order of the headings."""

    format: int
    version: str
    time_s: float
    """Seconds since the epoch."""
    level: Level
    """The worst of all findings."""
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, version: str, time_s: float, findings: Iterable[Finding]) -> "Report":
        """Make the report: sort `findings` by heading, and find the worst level."""
        headings = list(GROUPS)
        ordered = sorted(findings, key=lambda finding: headings.index(finding.group))
        levels = [Level.OK, *(finding.level for finding in ordered)]
        return cls(FORMAT, version, time_s, max(levels, key=list(Level).index), tuple(ordered))
