"""Reads and writes the text of the settings file. A message about a mistake says how to mend it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from gpufan.config.channel_names import FindChannels, NamedChannel, find_repeated_channels
from gpufan.config.descriptions import CASE_FANS, QUIET_HOURS, UNSET, describe_key, describe_values
from gpufan.config.mistakes import TABLES, Mistake, SettingsError, decode_lines, key_lines, table_name
from gpufan.config.schema import (
    EXAMPLES,
    FAN_KEYS,
    NOTHING,
    QUIET_KEYS,
    RUN_KEYS,
    SECTIONS,
    TABLE_KEYS,
    CardTable,
    FanTable,
    QuietTable,
    RunKeys,
)
from gpufan.core.curve import Curve
from gpufan.errors import InputError
from gpufan.hwmon.channels import NAME_EXAMPLE, is_channel_name
from gpufan.system.resources import template

_COMMAND_LINE_ONLY = ("simulate", "workload", "time_scale", "record", "runtime_dir", "config", "debug")
"""Options of `run` that a file must not set: they would turn a service into a simulation, or hide its state."""

_K = TypeVar("_K", RunKeys, CardTable, QuietTable, FanTable)


def parse_settings_text(text: bytes, find_channels: FindChannels = tuple) -> tuple[RunKeys, tuple[CardTable, ...]]:
    """Read the text of a settings file. Return the keys above all tables, and the `[[gpu]]` tables.

    The `[[quiet]]` and `[[fan]]` tables are in `RunKeys.quiet` and `RunKeys.fan`. `find_channels` returns the channels
    of this box, so that two different names of one channel are a mistake too. Raises SettingsError for mistakes.
    """
    content, lines, mistakes = decode_lines(text)
    found: list[_FoundMistake] = []
    card_tables = _parse_tables(content, "gpu", "for each card", found)
    quiet_tables = _parse_tables(content, "quiet", "for each period", found)
    fan_tables = _parse_tables(content, "fan", "for each case fan", found)
    file = _parse_table(RunKeys, content, "", found)
    cards = [_parse_table(CardTable, table, where, found) for where, table in card_tables.items()]
    quiet = [_parse_table(QuietTable, table, where, found) for where, table in quiet_tables.items()]
    fans = [_parse_table(FanTable, table, where, found) for where, table in fan_tables.items()]
    found += _check_parsed_channels(
        dict(zip(card_tables, cards, strict=True)), dict(zip(fan_tables, fans, strict=True)), find_channels
    )
    for where, hours in zip(quiet_tables, quiet, strict=True):
        found += [] if hours is None else _check_parsed_hours(hours, where)
    if found:
        line_of = key_lines(lines)
        # A line that is not TOML may be the missing match.
        found = [each for each in found if each.key or not mistakes]
        mistakes += [Mistake(line_of.get((each.where, each.key)), str(each)) for each in found]
    if mistakes:
        raise SettingsError(sorted(mistakes, key=lambda mistake: mistake.line or 0))
    assert file is not None  # else there was a mistake
    file = msgspec.structs.replace(
        file,
        quiet=tuple(hours for hours in quiet if hours is not None) or None,
        fan=tuple(fan for fan in fans if fan is not None) or None,
    )
    return file, tuple(card for card in cards if card is not None)


def render_settings_text(keys: RunKeys = NOTHING, tables: Sequence[CardTable] = ()) -> str:
    """Return the text of a settings file that sets `keys` and has `tables`.

    A comment shows each key that is not set.
    """

    def toml_line(key: str) -> str:
        value = getattr(keys, key)
        return f"#{key} = {toml(getattr(EXAMPLES, key))}" if value is None else f"{key} = {toml(value)}"

    sections = {title: [(describe_key(key), toml_line(key)) for key in names] for title, names in SECTIONS.items()}
    lines = [
        [f"{key} = {toml(value)}" for key in ("match", *TABLE_KEYS) if (value := getattr(table, key)) is not None]
        for table in tables
    ]
    quiet = [[f"{key} = {toml(value)}" for key, value in quiet_values_for_toml(hours)] for hours in keys.quiet or ()]
    fans = [[f"{key} = {toml(value)}" for key, value in fan_values_for_toml(fan)] for fan in keys.fan or ()]
    return template("templates/config.toml.j2").render(
        sections=sections, tables=lines, quiet=quiet, about_quiet=QUIET_HOURS, fans=fans, about_fans=CASE_FANS
    )


def quiet_values_for_toml(hours: QuietTable) -> list[tuple[str, Any]]:
    """Return the keys that are set in a `[[quiet]]` table, with their values."""
    values = zip(QUIET_KEYS, msgspec.structs.astuple(hours), strict=True)
    return [(key, value) for key, value in values if value is not None]


def fan_values_for_toml(fan: FanTable) -> list[tuple[str, Any]]:
    """Return the keys that are set in a `[[fan]]` table, with their values."""
    values = zip(FAN_KEYS, msgspec.structs.astuple(fan), strict=True)
    return [(key, value) for key, value in values if value is not None]


def toml(value: Any) -> str:
    """Return `value` as TOML text."""
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    # JSON is TOML here, except that it does not escape this character.
    return msgspec.json.encode(str(value) if isinstance(value, Curve) else value).decode().replace("\x7f", "\\u007f")


def toml_or_words(key: str, value: Any) -> str:
    """Return the `value` of `key` as TOML text. If the key is not set, return in words what happens then."""
    return UNSET[key] if value in (None, ()) else toml(value)


class _FoundMistake(NamedTuple):
    """A mistake whose line is not known yet."""

    where: str
    """The name of the table; empty for a key above all tables."""
    key: str
    """The key; empty if the whole table has the mistake."""
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}" if self.where else self.text


def _parse_tables(
    content: dict[str, Any], kind: str, what_for: str, found: list[_FoundMistake]
) -> dict[str, dict[str, Any]]:
    """Remove the tables of a kind from `content`, and return them by their names, such as `[[gpu]] 1`.

    If `content` has another value under `kind`, add a mistake to `found` and return no tables. `what_for` says in this
    mistake what such a table is for.
    """
    tables = content.pop(kind, [])
    if isinstance(tables, list) and all(isinstance(table, dict) for table in tables):
        return {table_name(kind, number): table for number, table in enumerate(tables, 1)}
    found.append(_FoundMistake("", kind, f"{kind}: write a table {what_for}, headed [[{kind}]] with two brackets"))
    return {}


def _parse_table(keys: type[_K], table: Mapping[str, Any], where: str, found: list[_FoundMistake]) -> _K | None:
    """Convert the content of a table to an object of the class `keys`.

    If the table has mistakes, add them to `found` and return None. `where` is the name of the table in the mistakes; it
    is empty for the keys above all tables.
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(keys) if field.name not in ("quiet", "fan")}
    values: dict[str, Any] = {}
    mistakes: list[_FoundMistake] = []
    for key, value in table.items():
        try:
            if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
                raise InputError(
                    f"there are no tables [[{key}]]: write {' or '.join(f'[[{kind}]]' for kind in TABLES)}"
                )
            if key not in fields:
                raise InputError(_why_key_is_not_parsed(tuple(fields), key))
            parsed = Curve.parse(msgspec.convert(value, str)) if key == "curve" else None
            values[fields[key].name] = parsed or msgspec.convert(value, fields[key].type)
            if key in ("fans", "name"):
                _check_channel_names(values[key] if key == "fans" else [values[key]])
        except InputError as error:
            mistakes.append(_FoundMistake(where, key, str(error)))
        except msgspec.ValidationError:
            written = str(value) if isinstance(value, float) else toml(value)
            wanted = '"power", or leave it out' if (key, keys) == ("give_way", QuietTable) else describe_values(key)
            mistakes.append(_FoundMistake(where, key, f"{key} = {written[:60]}: write {wanted}"))
    missing = [key for key, field in fields.items() if field.required and key not in table]
    mistakes += [_FoundMistake(where, "", f"no {key} in it: write {describe_values(key)}") for key in missing]
    found += mistakes
    return None if mistakes else keys(**values)


def _check_channel_names(names: Sequence[str]) -> None:
    """Raise InputError if one of `names` cannot be the name of a channel."""
    for name in names:
        if not is_channel_name(name):
            raise InputError(f"{toml(name)} is no fan: write chip and output, such as {toml(NAME_EXAMPLE)}")


def _check_parsed_channels(
    cards: Mapping[str, CardTable | None], fans: Mapping[str, FanTable | None], find_channels: FindChannels
) -> list[_FoundMistake]:
    """Return a mistake for each name of a channel that was named before, perhaps by another name.

    `cards` and `fans` map the name of each table to its content; None if the table has another mistake.
    """
    named = [NamedChannel(where, "fans", name) for where, card in cards.items() if card for name in card.fans or ()]
    named += [NamedChannel(where, "name", fan.name) for where, fan in fans.items() if fan]
    found = []
    for later, earlier in find_repeated_channels(named, find_channels):
        holder = "this list" if earlier.table == later.table else earlier.table
        alias = "" if earlier.name == later.name else f" as {toml(earlier.name)}"
        text = f"{later.key}: {toml(later.name)}: {holder} has this fan already{alias}: remove one of them"
        found.append(_FoundMistake(later.table, later.key, text))
    return found


def _check_parsed_hours(hours: QuietTable, where: str) -> list[_FoundMistake]:
    """Return the mistakes in the combination of keys in a `[[quiet]]` table. The value of each single key is right.

    `where` is the name of the table in the mistakes.
    """
    found = []
    if hours.begin == hours.end:
        text = f'to = {toml(hours.end)} is the same time as from: for all day, write from = "00:00" and to = "24:00"'
        found.append(_FoundMistake(where, "to", text))
    if hours.max_duty_percent is None and hours.target_c is None and hours.give_way is None:
        found.append(_FoundMistake(where, "", "it limits nothing: write max_duty_percent, target_c or give_way"))
    return found


def _why_key_is_not_parsed(names: Sequence[str], key: str) -> str:
    """Return a message that says why a table cannot have `key`, and what to do.

    `names` are the keys that the table can have.
    """
    if key in _COMMAND_LINE_ONLY:
        return f"{key} is only an option of the command line, --{key.replace('_', '-')}"
    if key in ("match", "fans") and not {"from", "follows"} & set(names):
        return f"{key} belongs below a line with [[gpu]]"
    if key in RUN_KEYS:
        is_elsewhere = "from" in names or "follows" in names
        return f"{key} is for all cards together: write it above the first {'table' if is_elsewhere else '[[gpu]]'}"
    if key in ("name", "follows"):
        return f"{key} belongs below a line with [[fan]]"
    if key in QUIET_KEYS:
        return f"{key} belongs below a line with [[quiet]]"
    import difflib  # only a mistake needs it

    near = difflib.get_close_matches(key, names, 1, 0.5)
    return f"unknown key {toml(key)}: " + (f"did you mean {near[0]}?" if near else f"the keys are {', '.join(names)}")
