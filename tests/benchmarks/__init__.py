"""Benchmarks. Each compares gpufan with other programs or with a bound in the same run, and prints a table."""

from collections.abc import Sequence


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, aligned as text too; columns of numbers are right-aligned."""
    widths = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings))]
    numeric = [all(row[i][:1].isdigit() or row[i][:1] in "-" for row in rows) for i in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        parts = (c.rjust(w) if n else c.ljust(w) for c, w, n in zip(cells, widths, numeric, strict=True))
        return f"| {' | '.join(parts)} |"

    rule = "|".join("-" * (w + 1) + (":" if n else "-") for w, n in zip(widths, numeric, strict=True))
    return "\n".join((line(headings), f"|{rule}|", *map(line, rows)))
