"""Prints the findings below headings. Each remedy has its own line, so that people can copy it."""

import textwrap
from collections import Counter
from itertools import groupby

from rich.console import Console
from rich.text import Text

from gpufan.doctor.findings import Finding, Level, Report

_MARKS = {
    Level.OK: ("✓", "+", "green"),
    Level.WARNING: ("!", "!", "yellow"),
    Level.PROBLEM: ("✗", "x", "bold red"),
}
"""For each level: the symbol, the symbol for a terminal that has only ASCII, and the style."""

_NARROWEST = 40
_WIDEST = 120
"""Smallest and largest width of the text, columns."""


def print_report(report: Report, console: Console) -> None:
    """Print all findings, and a line with the number of findings."""
    for group, findings in groupby(report.findings, key=lambda finding: finding.group):
        console.print(Text(group.capitalize(), style="bold"))
        for finding in findings:
            _print_finding(finding, console)
    _print_summary(report, console)


def _print_finding(finding: Finding, console: Console) -> None:
    """Print the text of a finding in lines that fit the terminal, and its remedies."""
    symbol, ascii_symbol, style = _MARKS[finding.level]
    name = finding.check if finding.card is None else f"{finding.check} {finding.card}"
    head = f"  {ascii_symbol if console.options.ascii_only else symbol} {finding.level.value:7} {name:11} "
    width = min(max(console.width, _NARROWEST), _WIDEST)
    lines = textwrap.wrap(finding.text, width - len(head), break_long_words=False, break_on_hyphens=False) or [""]
    for number, line in enumerate(lines):
        text = Text(" " * len(head) if number else head, style="" if number else style)
        # The terminal wraps a long line itself, so a copied path or command contains no line break.
        console.print(text.append(line, style="not bold default"), soft_wrap=True)
    fits = all(len(head) + 4 + len(remedy) <= width for remedy in finding.remedies)
    indent = len(head) + 4 if fits else 6
    for remedy in finding.remedies:
        console.print(Text(" " * indent + remedy, style="cyan"), soft_wrap=True)


def _print_summary(report: Report, console: Console) -> None:
    """Print a line with the number of findings of each level."""
    counts = Counter(finding.level for finding in report.findings)
    if report.level is Level.OK:
        console.print(Text(f"All is well: {counts[Level.OK]} checks.", style="green"))
        return
    parts = [
        f"{counts[level]} {level.value}{'' if counts[level] == 1 else 's'}"
        for level in (Level.PROBLEM, Level.WARNING)
        if counts[level]
    ]
    console.print(Text(f"{' and '.join(parts)}, {counts[Level.OK]} ok.", style=_MARKS[report.level][2]))
