"""What a check comes to."""

from typing import Literal

import msgspec

Level = Literal["ok", "warning", "problem"]

LEVELS: tuple[Level, ...] = ("ok", "warning", "problem")
"""From the best to the worst."""

FORMAT = 1
"""Raised when a field changes its meaning or goes; new fields and checks may come without."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    group: str
    """Heading under which it stands."""
    check: str
    """What was looked at; one name for one thing, whatever comes of it."""
    level: Level
    text: str
    remedies: tuple[str, ...] = ()
    """Commands to paste, the likeliest first; never empty for what is not ok."""
    card: int | None = None
    """Index of the card, where it is about one."""
    uuid: str | None = None
    """That card's UUID, where it told one."""


class Report(msgspec.Struct, frozen=True):
    """All findings."""

    format: int
    version: str
    time_s: float
    """Seconds since the epoch."""
    level: Level
    """The worst of all findings."""
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, version: str, time_s: float, findings: tuple[Finding, ...]) -> "Report":
        """Report with the worst level found."""
        levels: list[Level] = ["ok", *(finding.level for finding in findings)]
        level = max(levels, key=LEVELS.index)
        return cls(FORMAT, version, time_s, level, findings)
