"""Mistakes in the text of a settings file, with their lines. The check of keys and values is in `toml_text.py`."""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from gpufan.errors import InputError

TABLES = "gpu", "quiet", "fan"
"""The kinds of tables in a settings file."""

_SHOWN = 3
"""An error message names this many mistakes; `gpufan config check` names all."""
_MOST = 50
"""The search for lines that are not TOML ends after this many such lines."""
_NOT_TOML = msgspec.DecodeError, ValueError, RecursionError
"""Errors of the decoder. It raises ValueError for a number of 5000 digits, and RecursionError for absurd nesting."""


class Mistake(NamedTuple):
    """A part of the settings file that cannot be used, or that is surely not meant."""

    line: int | None
    """The number of the line; None if it is unknown."""
    text: str

    def __str__(self) -> str:
        return self.text if self.line is None else f"line {self.line}: {self.text}"


class SettingsError(InputError):
    """Raised for a settings file that has mistakes."""

    def __init__(self, mistakes: Sequence[Mistake], where: str = "", check: str = "gpufan config check") -> None:
        """`mistakes` holds at least one mistake. The message of the error begins with `where`.

        `check` is the command that shows all mistakes.
        """
        more = len(mistakes) - _SHOWN
        shown = [*map(str, mistakes[:_SHOWN]), *([f"and {more} more: see `{check}`"] if more > 0 else [])]
        super().__init__(where + "; ".join(shown))
        self.mistakes = mistakes


def decode_lines(text: bytes) -> tuple[dict[str, Any], list[str], list[Mistake]]:
    """Split a text into lines and read them as TOML. Return the content, the lines, and the mistakes.

    There is a mistake for each line that is not TOML, and in the returned lines such a line is empty. The content is
    that of the other lines. If the other lines cannot be read, the content and the lines are empty. A byte-order mark
    at the beginning of the text is skipped.
    """
    mistakes: list[Mistake] = []
    try:
        lines = text.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        return {}, [], [Mistake(text[: error.start].count(b"\n") + 1, "this is not TOML: it is not UTF-8")]
    while True:
        try:
            return msgspec.toml.decode("\n".join(lines)), lines, mistakes
        except _NOT_TOML as error:
            place = re.search(r" \(at line (\d+), column \d+\)$", str(error))
            number = int(place[1]) if place else _line_of_unfinished_value(lines)
            why = str(error)[: place.start()] if place else str(error).removesuffix(" (at end of document)")
            line = lines[number - 1].strip()
            if re.fullmatch(r"[\w-]+\s*=\s*[0-9]+,[0-9]+\s*(#.*)?", line):
                why = "write the number with a decimal point"
            mistakes.append(Mistake(number, f"this is not TOML: {why}"))
            if place is None or not line or line.startswith("[") or len(mistakes) == _MOST:
                return {}, [], mistakes
            lines[number - 1] = ""


def table_name(kind: str, number: int) -> str:
    """Return the name by which messages call a table: `[[gpu]] 1`. The first table of a kind has number 1."""
    return f"[[{kind}]] {number}"


def key_lines(lines: Sequence[str]) -> dict[tuple[str, str], int]:
    """Return the line number of each key, by the name of the table and the name of the key.

    The name of a table is that of `table_name`. It is empty for a key above all tables. If the name of the key is
    empty, the number is the line of the table itself. `lines` must be TOML.
    """
    found: dict[tuple[str, str], int] = {}
    counts = dict.fromkeys(TABLES, 0)
    table, first = "", 0
    for end in range(len(lines)):
        try:
            content = msgspec.toml.decode("\n".join(lines[first : end + 1]))
        except _NOT_TOML:  # the value goes on in the next line
            continue
        for key, value in content.items():
            if key not in counts or not isinstance(value, list):
                found.setdefault((table, key), first + 1)
                continue
            for keys in value:
                counts[key] += 1
                table = table_name(key, counts[key])
                found |= dict.fromkeys([(table, name) for name in ("", *keys)], first + 1)
        first = end + 1
    return found


def _line_of_unfinished_value(lines: Sequence[str]) -> int:
    """Return the number of the line at which an unfinished value begins. The text ends inside this value."""
    for number in range(len(lines), 1, -1):
        with suppress(*_NOT_TOML):
            msgspec.toml.decode("\n".join(lines[: number - 1]))
            return number
    return 1
