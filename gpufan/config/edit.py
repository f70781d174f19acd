"""Changes of single keys in the text of a settings file; comments, order and spelling of all else stay. No I/O is here.

tomlkit, which does this, is loaded only here, and only when a file is changed.
"""

import difflib
import re
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import tomlkit
from tomlkit.items import AoT, Item

from gpufan.config.descriptions import expected
from gpufan.config.mistakes import TABLES, SettingsError
from gpufan.config.schema import CARD_KEYS, is_number
from gpufan.config.toml_text import parse, toml
from gpufan.errors import InputError

_LISTS = ("gpus", "neighbours")
"""Keys whose values are lists of names of cards."""

_COMMENTED = r"(?m)^#[ \t]*{key}[ \t]*=.*$"
"""A line that shows a key, as a comment."""


def value_of(key: str, words: Sequence[str]) -> Any:
    """Read the words of a command line as a value of `key`. Whether its limits allow it, `parse` checks.

    Raises InputError.

    >>> value_of("target_c", ["75"]), value_of("gpus", ["0", "1080 Ti"]), value_of("dry_run", ["true"])
    (75, ['0', '1080 Ti'], True)
    """
    if key in _LISTS:
        return list(words)
    if len(words) != 1:
        raise InputError(f"{key}: write one value, {expected(key)}")
    word = words[0].strip()
    if key == "dry_run":
        return {"true": True, "false": False}.get(word, word)
    if not is_number(key):
        return word
    try:
        return int(word) if re.fullmatch(r"[+-]?\d{1,15}", word) else float(word)
    except ValueError:
        raise InputError(f"{key} = {word}: write {expected(key)}") from None


def with_key(text: str, key: str, value: Any, match: str | None = None) -> str:
    """The text with `key` set to `value`: above the tables, or in the table for the cards that `match` names.

    If there is no such table, it is added at the end. Raises InputError if the text or the value has a mistake.
    """
    _check_place(key, match)
    if match is None:
        changed = _set_at_top(text, key, value)
    else:
        document = tomlkit.parse(_checked(text))
        table = _table(document, match)
        if table is not None:
            _set(table, key, value)
            changed = document.as_string()
        elif isinstance(tables := document.get("gpu"), Item) and not isinstance(tables, AoT):
            raise InputError("gpu is a list on one line: write a table for each card, headed [[gpu]]")
        else:
            changed = f"{text.rstrip()}\n\n[[gpu]]\nmatch = {toml(match)}\n{key} = {toml(value)}\n".lstrip()
    return _changed(changed)


def without_key(text: str, key: str, match: str | None = None) -> str:
    """The text without a value for `key`, which stays as a comment. The same text if there is none.

    Raises InputError if there is no table for the cards that `match` names, or if the text has a mistake.
    """
    _check_place(key, match)
    document = tomlkit.parse(_checked(text))
    table: Any = document if match is None else _table(document, match)
    if table is None:
        raise InputError(f"there is no [[gpu]] table with match = {toml(match)}: `gpufan config show` shows the tables")
    if key not in table:
        return text
    body = table.body if match is None else table.value.body
    index = next(number for number, (name, _) in enumerate(body) if name is not None and name.key == key)
    item = body[index][1]
    body[index] = (None, tomlkit.comment(f"{key} = {toml(item.unwrap())}{_comment_behind(item)}"))
    return _changed(document.as_string())


def difference(before: str, after: str) -> list[str]:
    """The lines that differ, marked with - and +, with a line around them."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def _check_place(key: str, match: str | None) -> None:
    if match is not None and key not in CARD_KEYS:
        raise InputError(f"{key} is for all cards together: leave out --gpu")


def _checked(text: str) -> str:
    """`text`, if it has no mistake. Raises InputError."""
    parse(text.encode())
    return text


def _changed(text: str) -> str:
    """`text`, if it has no mistake. Raises InputError without a line, since no file has this text."""
    try:
        return _checked(text)
    except SettingsError as error:
        raise InputError(error.mistakes[0].text) from error


def _set_at_top(text: str, key: str, value: Any) -> str:
    """Set a key above the tables: in its place, else where a comment shows it, else below the last key there."""
    document = tomlkit.parse(_checked(text))
    if key in document:
        _set(document, key, value)
        return document.as_string()
    line = f"{key} = {toml(value)}"
    first_table = re.search(r"(?m)^[ \t]*\[", text)
    top = text if first_table is None else text[: first_table.start()]
    shown = re.search(_COMMENTED.format(key=key), top)
    if shown is not None:
        changed = text[: shown.start()] + line + text[shown.end() :]
        with suppress(msgspec.DecodeError):  # it was a line of a longer value
            if _content(changed) == _content(text) | _content(line):
                return changed
    body = document.body
    keys = [number for number, (name, item) in enumerate(body) if name is not None and name.key not in TABLES]
    index = keys[-1] + 1 if keys else 0
    if keys and not body[keys[-1]][1].trivia.trail:
        body[keys[-1]][1].trivia.trail = "\n"
    body[index:index] = tomlkit.parse(f"{line}\n").body
    return document.as_string()


def _content(text: str) -> dict[str, Any]:
    content: dict[str, Any] = msgspec.toml.decode(text)
    return content


def _set(table: MutableMapping[str, Any], key: str, value: Any) -> None:
    """Set a key in its place with the comment behind it, or add it."""
    table[key] = tomlkit.value(toml(value))


def _table(document: tomlkit.TOMLDocument, match: str) -> Any:
    """The last table whose `match` is `match`; None if there is none."""
    tables = document.get("gpu", [])
    return next(
        (table for table in reversed(list(tables)) if str(table["match"]).strip().lower() == match.strip().lower()),
        None,
    )


def _comment_behind(item: Item) -> str:
    """The comment behind a value, with the space before it."""
    return f"{item.trivia.comment_ws}{item.trivia.comment}" if item.trivia.comment else ""
