"""Reads and writes the text of the settings file. The message about a mistake says what to write instead."""

from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from gpufan.config.descriptions import UNSET, about, expected
from gpufan.config.schema import CARD_KEYS, EXAMPLES, NOTHING, RUN_KEYS, SECTIONS, CardKeys, CardTable, RunKeys
from gpufan.core.curve import Curve
from gpufan.errors import InputError
from gpufan.system.resources import template

_COMMAND_LINE_ONLY = ("simulate", "workload", "time_scale", "record", "runtime_dir", "config", "debug")
"""Options of `run` that a file must not set: they would turn a service into a simulation, or hide its state."""

_K = TypeVar("_K", bound=CardKeys)


def parse(text: bytes) -> tuple[RunKeys, tuple[CardTable, ...]]:
    """Parse the text of a settings file. Raises InputError that names the key or line, and the allowed values."""
    try:
        content = msgspec.toml.decode(text.removeprefix(BOM_UTF8))  # editors on Windows write this mark
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # the latter two: not UTF-8, absurd nesting
        raise InputError(f"this is not TOML: {error}") from error
    tables = content.pop("gpu", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputError("gpu: write a table for each card, headed [[gpu]] with two brackets")
    file = _parse_table(RunKeys, content, "")
    return file, tuple(_parse_table(CardTable, table, f"[[gpu]] {number}: ") for number, table in enumerate(tables, 1))


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


def _parse_table(keys: type[_K], table: Mapping[str, Any], where: str) -> _K:
    """The settings in `table`. Raises InputError, whose text begins with `where`."""
    types = {field.name: field.type for field in msgspec.structs.fields(keys)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in types:
            raise InputError(where + _why_unusable(keys, key))
        try:
            is_curve = key == "curve"
            values[key] = Curve.parse(msgspec.convert(value, str)) if is_curve else msgspec.convert(value, types[key])
        except InputError as error:
            raise InputError(f"{where}{error}") from error
        except msgspec.ValidationError as error:
            written = str(value) if isinstance(value, float) else toml(value)
            raise InputError(f"{where}{key} = {written[:60]}: write {expected(key)}") from error
    if keys is CardTable and "match" not in values:
        raise InputError(f"{where}no match in it: write {expected('match')}")
    return keys(**values)


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
