"""Edits single keys in the text of a settings file. All other text and all comments stay as they are.

This module does no I/O. It is the only one that loads tomlkit, so it is imported only when a file is changed.
"""

import difflib
import math
import re
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import tomlkit
from tomlkit.items import AoT, Item

from gpufan.config.descriptions import describe_values
from gpufan.config.mistakes import TABLES, SettingsError
from gpufan.config.schema import CARD_KEYS, DAYS, QUIET_KEYS, QuietTable, is_number_key, without_unit
from gpufan.config.toml_text import parse_settings_text, quiet_values_for_toml, toml
from gpufan.core.number import read_number
from gpufan.errors import InputError

_LISTS = ("gpus", "neighbours")
"""Keys that have a list of cards as their value."""

_COMMENTED = r"(?m)^#[ \t]*{key}[ \t]*=.*$"
"""The pattern of a comment that shows a key with a value: `#target_c = 78`."""


def edited_value(key: str, words: Sequence[str]) -> Any:
    """Convert `words` of a command line to a value of `key`. The bounds of the key are not checked.

    Raises InputError if there is not exactly one word, or if the word is not a number although `key` needs one. A key
    that has a list accepts any number of words.

    >>> edited_value("target_c", ["75"]), edited_value("gpus", ["0", "1080 Ti"]), edited_value("dry_run", ["true"])
    (75, ['0', '1080 Ti'], True)
    """
    if key in _LISTS:
        return list(words)
    if len(words) != 1:
        raise InputError(f"{key}: write one value, {describe_values(key)}")
    word = words[0].strip()
    if key == "dry_run":
        return {"true": True, "false": False}.get(word, word)
    if not is_number_key(key):
        return word
    text = without_unit(key, word)
    number = read_number(text)
    if math.isnan(number):
        raise InputError(f"{key} = {word or repr(word)}: write {describe_values(key)}")
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,15}", text) else number


def text_with_key(text: str, key: str, value: Any, match: str | None = None) -> str:
    """Return the text with `key` set to `value`.

    Without `match`, the key is set above all tables. With `match`, it is set in the `[[gpu]]` table that has this
    `match`; a missing table is added at the end. Raises InputError if the text or the value has a mistake.
    """
    _check_key_to_edit(key, match)
    if match is None:
        changed = _edit_above_tables(text, key, value)
    else:
        document = tomlkit.parse(_checked_before_edit(text))
        table = _table_to_edit(document, match)
        if table is not None:
            _edit_in_place(table, key, value)
            changed = document.as_string()
        elif isinstance(tables := document.get("gpu"), Item) and not isinstance(tables, AoT):
            raise InputError("gpu is a list on one line: write a table for each card, headed [[gpu]]")
        else:
            changed = f"{text.rstrip()}\n\n[[gpu]]\nmatch = {toml(match)}\n{key} = {toml(value)}\n".lstrip()
    return _checked_after_edit(changed)


def text_without_key(text: str, key: str, match: str | None = None) -> str:
    """Return the text with the line of `key` turned into a comment; the same text if `key` is not set.

    Without `match`, this is the key above all tables. With `match`, it is the key in the `[[gpu]]` table that has this
    `match`. Raises InputError if there is no such table, or if the text has a mistake.
    """
    _check_key_to_edit(key, match)
    document = tomlkit.parse(_checked_before_edit(text))
    table: Any = document if match is None else _table_to_edit(document, match)
    if table is None:
        raise InputError(f"there is no [[gpu]] table with match = {toml(match)}: `gpufan config show` shows the tables")
    if key not in table:
        return text
    body = table.body if match is None else table.value.body
    index = next(number for number, (name, _) in enumerate(body) if name is not None and name.key == key)
    item = body[index][1]
    body[index] = (None, tomlkit.comment(f"{key} = {toml(item.unwrap())}{_comment_behind_edited(item)}"))
    return _checked_after_edit(document.as_string())


def text_with_quiet_tables(text: str, tables: Sequence[QuietTable]) -> str:
    """Return the text with exactly these `[[quiet]]` tables. A table that the text has already stays as it is.

    The order of the tables in the text may differ from that of `tables`; it has no meaning. Raises InputError if the
    text or a table has a mistake.
    """
    before = parse_settings_text(text.encode())[0].quiet or ()
    missing = list(tables)
    surplus = []
    for number, table in enumerate(before):
        if table in missing:
            missing.remove(table)
        else:
            surplus.append(number)
    if not missing and not surplus:
        return text
    document = tomlkit.parse(text)
    written: Any = document.get("quiet", [])
    if len(written) != len(before) or (written and not isinstance(written, AoT)):
        raise InputError("the tables of quiet hours are not headed [[quiet]] one by one: edit the file by hand")
    for number, table in zip(surplus, missing, strict=False):
        values = dict(quiet_values_for_toml(table))
        for key in QUIET_KEYS:
            if key in values:
                _edit_in_place(written[number], key, values[key])
            elif key in written[number]:
                del written[number][key]
    for number in reversed(surplus[len(missing) :]):
        del written[number]
    if written == [] and "quiet" in document:
        del document["quiet"]
    changed = document.as_string()
    for table in missing[len(surplus) :]:
        lines = "".join(f"{key} = {toml(value)}\n" for key, value in quiet_values_for_toml(table))
        changed = f"{changed.rstrip()}\n\n[[quiet]]\n{lines}".lstrip()
    after = parse_settings_text(_checked_after_edit(changed).encode())[0].quiet or ()
    if sorted(after, key=repr) != sorted(tables, key=repr):
        raise InputError("the tables of quiet hours cannot be changed here: edit the file by hand")
    return changed


def text_with_quiet_hours(text: str, table: QuietTable) -> str:
    """Return the text with this `[[quiet]]` table. It replaces the tables with the same times and days.

    Raises InputError if the text or the table has a mistake.
    """
    others = [each for each in _quiet_tables_of(text) if not _is_same_period(each, table, table.days or DAYS)]
    return text_with_quiet_tables(text, [*others, table])


def text_without_quiet_hours(text: str, period: QuietTable) -> str:
    """Return the text without the `[[quiet]]` tables that have the times and days of `period`.

    If `period` has no days, the days of a table do not matter. Raises InputError if there is no such table, or if the
    text has a mistake.
    """
    before = _quiet_tables_of(text)
    others = [each for each in before if not _is_same_period(each, period, period.days)]
    if len(others) == len(before):
        hours = f"{period.begin}-{period.end}"
        raise InputError(f"there are no quiet hours {hours} to remove: `gpufan config show quiet` shows them")
    return text_with_quiet_tables(text, others)


def edited_lines(before: str, after: str) -> list[str]:
    """Return the lines that differ between the texts `before` and `after`.

    Old lines begin with `-` and new lines with `+`. One unchanged line before and after them is also returned.
    """
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def _quiet_tables_of(text: str) -> Sequence[QuietTable]:
    """Return the `[[quiet]]` tables of the text. Raises SettingsError if the text has a mistake."""
    return parse_settings_text(text.encode())[0].quiet or ()


def _is_same_period(table: QuietTable, period: QuietTable, days: Sequence[str] | None) -> bool:
    """Whether `table` has the times of `period`, and the days `days`. If these are None, the days do not matter."""
    is_same_time = (table.begin, table.end) == (period.begin, period.end)
    return is_same_time and (days is None or set(table.days or DAYS) == set(days))


def _check_key_to_edit(key: str, match: str | None) -> None:
    """Raise InputError if `match` is given, but `key` is for all cards together."""
    if match is not None and key not in CARD_KEYS:
        raise InputError(f"{key} is for all cards together: leave out --gpu")


def _checked_before_edit(text: str) -> str:
    """Return `text` unchanged. Raises SettingsError, which names the lines, if `text` has a mistake."""
    parse_settings_text(text.encode())
    return text


def _checked_after_edit(text: str) -> str:
    """Return `text` unchanged. Raises InputError if `text` has a mistake.

    The error names no line, since no file has this text.
    """
    try:
        return _checked_before_edit(text)
    except SettingsError as error:
        raise InputError(error.mistakes[0].text) from error


def _edit_above_tables(text: str, key: str, value: Any) -> str:
    """Return `text` with `key` set to `value` above all tables.

    If the key has a line, this line is changed. Otherwise, a comment that shows the key is replaced by a line. If there
    is no such comment, a line is added below the last key.
    """
    document = tomlkit.parse(_checked_before_edit(text))
    if key in document:
        _edit_in_place(document, key, value)
        return document.as_string()
    line = f"{key} = {toml(value)}"
    first_table = re.search(r"(?m)^[ \t]*\[", text)
    top = text if first_table is None else text[: first_table.start()]
    shown = re.search(_COMMENTED.format(key=key), top)
    if shown is not None:
        changed = text[: shown.start()] + line + text[shown.end() :]
        with suppress(msgspec.DecodeError):  # it was a line of a longer value
            if _content_to_compare_edit(changed) == _content_to_compare_edit(text) | _content_to_compare_edit(line):
                return changed
    body = document.body
    keys = [number for number, (name, item) in enumerate(body) if name is not None and name.key not in TABLES]
    index = keys[-1] + 1 if keys else 0
    if keys and not body[keys[-1]][1].trivia.trail:
        body[keys[-1]][1].trivia.trail = "\n"
    body[index:index] = tomlkit.parse(f"{line}\n").body
    return document.as_string()


def _content_to_compare_edit(text: str) -> dict[str, Any]:
    """Return the keys and values of a TOML text, to compare the text before and after an edit."""
    content: dict[str, Any] = msgspec.toml.decode(text)
    return content


def _edit_in_place(table: MutableMapping[str, Any], key: str, value: Any) -> None:
    """Set `key` to `value` in `table`, a table of tomlkit. A missing key is added.

    The place of the key and the comment after its value stay.
    """
    table[key] = tomlkit.value(toml(value))


def _table_to_edit(document: tomlkit.TOMLDocument, match: str) -> Any:
    """Return the last `[[gpu]]` table that has this `match`; None if there is no such table. Case does not count."""
    tables = document.get("gpu", [])
    return next(
        (table for table in reversed(list(tables)) if str(table["match"]).strip().lower() == match.strip().lower()),
        None,
    )


def _comment_behind_edited(item: Item) -> str:
    """Return the comment after the value `item`, with the space before the comment; empty if there is no comment."""
    return f"{item.trivia.comment_ws}{item.trivia.comment}" if item.trivia.comment else ""
