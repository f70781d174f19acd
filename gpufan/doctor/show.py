"""The findings as a person reads them: grouped, aligned, each remedy on a line of its own, ready to paste."""

import textwrap
from itertools import groupby

from rich.console import Console
from rich.text import Text

from gpufan.doctor.findings import Finding, Level, Report

_MARKS: dict[Level, tuple[str, str, str]] = {
    "ok": ("✓", "+", "green"),
    "warning": ("!", "!", "yellow"),
    "problem": ("✗", "x", "bold red"),
}
"""Symbol, the same for a terminal without it, and style."""

_NARROWEST = 40
_WIDEST = 120
"""Columns of text."""


def print_report(report: Report, console: Console) -> None:
    """Print all findings, and a line that sums them up."""
    for group, findings in groupby(report.findings, key=lambda finding: finding.group):
        console.print(Text(group.capitalize(), style="bold"))
        for finding in findings:
            _print_finding(finding, console)
    console.print(_summary(report))


def _print_finding(finding: Finding, console: Console) -> None:
    mark, plain, style = _MARKS[finding.level]
    if not _can_show(mark, console):
        mark = plain
    name = finding.check if finding.card is None else f"{finding.check} {finding.card}"
    head = f"  {mark} {finding.level:7} {name:11} "
    width = min(max(console.width, _NARROWEST), _WIDEST)
    lines = textwrap.wrap(finding.text, width - len(head), break_long_words=False, break_on_hyphens=False) or [""]
    for number, line in enumerate(lines):
        text = Text(" " * len(head) if number else head, style="" if number else style)
        # A line that is too long runs on at the edge, so that what is copied from it stays whole.
        console.print(text.append(line, style="not bold default"), soft_wrap=True)
    fits = all(len(head) + 4 + len(remedy) <= width for remedy in finding.remedies)
    indent = len(head) + 4 if fits else 6
    for remedy in finding.remedies:
        console.print(Text(" " * indent + remedy, style="cyan"), soft_wrap=True)


def _summary(report: Report) -> Text:
    counts = {level: sum(finding.level == level for finding in report.findings) for level in _MARKS}
    if report.level == "ok":
        return Text(f"All is well: {counts['ok']} checks.", style="green")
    parts = [
        f"{count} {level}{'' if count == 1 else 's'}"
        for level, count in reversed(counts.items())
        if count and level != "ok"
    ]
    return Text(f"{' and '.join(parts)}, {counts['ok']} ok.", style=_MARKS[report.level][2])


def _can_show(mark: str, console: Console) -> bool:
    try:
        mark.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return True
