"""Reads and writes the text of the settings file. The message about a mistake says what to write instead."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from gpufan.config.descriptions import UNSET, about, expected
from gpufan.config.mistakes import Mistake, SettingsError, decode_lines, key_lines
from gpufan.config.schema import CARD_KEYS, EXAMPLES, NOTHING, RUN_KEYS, SECTIONS, CardKeys, CardTable, RunKeys
from gpufan.core.curve import Curve
from gpufan.errors import InputError
from gpufan.system.resources import template

_COMMAND_LINE_ONLY = ("simulate", "workload", "time_scale", "record", "runtime_dir", "config", "debug")
"""Options of `run` that a file must not set: they would turn a service into a simulation, or hide its state."""

_K = TypeVar("_K", bound=CardKeys)


def parse(text: bytes) -> tuple[RunKeys, tuple[CardTable, ...]]:
    """Parse the text of a settings file. Raises SettingsError that names lines, keys and the allowed values."""
    content, lines, mistakes = decode_lines(text)
    found: list[tuple[int, str, str]] = []
    tables = content.pop("gpu", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        found.append((0, "gpu", "gpu: write a table for each card, headed [[gpu]] with two brackets"))
        tables = []
    file = _parse_table(RunKeys, content, 0, found)
    cards = [_parse_table(CardTable, table, number, found) for number, table in enumerate(tables, 1)]
    if found:
        line_of = key_lines(lines)
        # A line that is not TOML may be the missing match.
        found = [(table, key, text) for table, key, text in found if key or not mistakes]
        mistakes += [Mistake(line_of.get((table, key)), text) for table, key, text in found]
    if mistakes:
        raise SettingsError(sorted(mistakes, key=lambda mistake: mistake.line or 0))
    assert file is not None  # else there was a mistake
    return file, tuple(card for card in cards if card is not None)


def render(keys: RunKeys = NOTHING, tables: Sequence[CardTable] = ()) -> str:
    """Text of a file that sets `keys` and `tables`, and shows every other key with its meaning as a comment."""

    def line(key: str) -> str:
        value = getattr(keys, key)
        return f"#{key} = {toml(getattr(EXAMPLES, key))}" if value is None else f"{key} = {toml(value)}"

    sections = {title: [(about(key), line(key)) for key in names] for title, names in SECTIONS.items()}
    lines = [
        [f"{key} = {toml(value)}" for key in ("match", *CARD_KEYS) if (value := getattr(table, key)) is not None]
        for table in tables
    ]
    return template("templates/config.toml.j2").render(sections=sections, tables=lines)


def toml(value: Any) -> str:
    """`value` as TOML writes it."""
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    # JSON is TOML here, except that it does not escape this character.
    return msgspec.json.encode(str(value) if isinstance(value, Curve) else value).decode().replace("\x7f", "\\u007f")


def toml_or_words(key: str, value: Any) -> str:
    """`value` of `key` as TOML writes it. For a value that is not set: what happens then, in words."""
    return UNSET[key] if value in (None, ()) else toml(value)


def _parse_table(
    keys: type[_K], table: Mapping[str, Any], number: int, mistakes: list[tuple[int, str, str]]
) -> _K | None:
    """The settings in table `number`; 0 is for the keys above all tables.

    With mistakes the result is None. They are added to `mistakes`: number of the table, key, and text.
    """
    types = {field.name: field.type for field in msgspec.structs.fields(keys)}
    where = f"[[gpu]] {number}: " if number else ""
    values: dict[str, Any] = {}
    count = len(mistakes)
    for key, value in table.items():
        try:
            if key not in types:
                raise InputError(_why_unusable(keys, key))
            is_curve = key == "curve"
            values[key] = Curve.parse(msgspec.convert(value, str)) if is_curve else msgspec.convert(value, types[key])
        except InputError as error:
            mistakes.append((number, key, f"{where}{error}"))
        except msgspec.ValidationError:
            written = str(value) if isinstance(value, float) else toml(value)
            mistakes.append((number, key, f"{where}{key} = {written[:60]}: write {expected(key)}"))
    if keys is CardTable and "match" not in table:
        mistakes.append((number, "", f"{where}no match in it: write {expected('match')}"))
    return keys(**values) if len(mistakes) == count else None


def _why_unusable(keys: type[CardKeys], key: str) -> str:
    """Explain why `key`, which is not in `keys`, cannot be used there."""
    if key in _COMMAND_LINE_ONLY:
        return f"{key} is only an option of the command line, --{key.replace('_', '-')}"
    if key == "match":
        return "match belongs below a line with [[gpu]]"
    if key in RUN_KEYS:
        return f"{key} is for all cards together: write it above the first [[gpu]]"
    import difflib  # only a mistake needs it

    names = keys.__struct_fields__
    near = difflib.get_close_matches(key, names, 1, 0.5)
    return f"unknown key {toml(key)}: " + (f"did you mean {near[0]}?" if near else f"the keys are {', '.join(names)}")
