"""Defines the findings and the report of the doctor. `show.py` prints them."""

from collections.abc import Iterable
from enum import Enum

import msgspec
from msgspec.structs import replace

from gpufan.system.printable import printable

FORMAT = 1
"""Version of the format of the report.

It increases when a field is removed or gets another meaning. It stays when an optional field or a check is added.
"""

GROUPS = {
    "driver": ("driver", "rights"),
    "cards": ("card", "fans", "heat", "power"),
    "motherboard": ("headers",),
    "service": ("install", "service", "companions", "config", "messages", "snapshot"),
    "box": ("container", "clock", "rivals", "display", "coolbits", "time"),
}
"""The headings of the report, each with the names of the checks below it."""

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
    """Shell commands that may mend the fault, the most likely remedy first. Empty only if the level is ok."""
    card: int | None = None
    """Index of the card. None if the check is not about one card."""
    uuid: str | None = None
    """UUID of the card. None if the check is not about one card, or if the card has not reported its UUID."""

    def printable(self) -> "Finding":
        """Return the finding without control characters.

        Any user can put control characters into the name of a process or file.
        """
        return replace(self, text=printable(self.text), remedies=tuple(map(printable, self.remedies)))


def ok(check: str, text: str) -> Finding:
    """Make a finding of the level `ok`, for which nobody needs to do anything. `check` is a name in `GROUPS`."""
    return Finding(_GROUP_OF[check], check, Level.OK, text)


def warning(check: str, text: str, *remedies: str) -> Finding:
    """Make a finding of the level `warning`: a fault that may become a problem.

    `check` is a name in `GROUPS`. `remedies` are shell commands, the most likely remedy first.
    """
    return Finding(_GROUP_OF[check], check, Level.WARNING, text, remedies)


def problem(check: str, text: str, *remedies: str) -> Finding:
    """Make a finding of the level `problem`: a fault that prevents fan control, or that can harm a card.

    `check` is a name in `GROUPS`. `remedies` are shell commands, the most likely remedy first.
    """
    return Finding(_GROUP_OF[check], check, Level.PROBLEM, text, remedies)


class Report(msgspec.Struct, frozen=True):
    """All findings about a box, in the order of the headings."""

    format: int
    version: str
    time_s: float
    """Seconds since the epoch."""
    level: Level
    """The worst level of all findings. It is `ok` without findings."""
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, version: str, time_s: float, findings: Iterable[Finding]) -> "Report":
        """Make the report of gpufan `version` at `time_s`: sort `findings` by heading, and find the worst level."""
        headings = list(GROUPS)
        ordered = sorted(findings, key=lambda finding: headings.index(finding.group))
        levels = [Level.OK, *(finding.level for finding in ordered)]
        return cls(FORMAT, version, time_s, max(levels, key=list(Level).index), tuple(ordered))
