"""The keys of the settings file: types, bounds and defaults, and how the text of the file is read and written.

Which source a setting in effect comes from is decided in `settings.py`.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from gpufan.config.descriptions import ABOUT, EXPECTED, UNSET
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.errors import InputError
from gpufan.system.resources import template

_CardName = Annotated[str, Meta(min_length=1)] | int
"""A name or UUID; an index may be written without quotes."""


class CardKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that may differ from card to card. None means: not set here."""

    target_c: Annotated[float, Meta(ge=50, le=90)] | None = None
    curve: Curve | None = None
    hysteresis_c: Annotated[float, Meta(ge=0, le=30)] | None = None
    hold_s: Annotated[float, Meta(ge=0, le=3600)] | None = None
    min_duty_percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    neighbours: tuple[_CardName, ...] | None = None


class RunKeys(CardKeys, frozen=True, kw_only=True):
    """All settings of a run: those of every card, and those of the run itself. None means: not set here."""

    gpus: tuple[_CardName, ...] | None = None
    backend: Literal["auto", "nvml", "x11"] | None = None
    display: Annotated[str, Meta(min_length=1)] | None = None
    interval_s: Annotated[float, Meta(ge=0.1, le=5)] | None = None
    dry_run: bool | None = None
    duration_s: Annotated[float, Meta(ge=1, le=365 * 86400)] | None = None


class CardTable(CardKeys, frozen=True, kw_only=True):
    """A `[[gpu]]` table: settings of the cards that match."""

    match: _CardName


CARD_KEYS = CardKeys.__struct_fields__
RUN_KEYS = RunKeys.__struct_fields__
SECTIONS = {"The same for every card": CARD_KEYS, "All cards together": RUN_KEYS[len(CARD_KEYS) :]}
"""The keys by section of the file."""

NOTHING = RunKeys()
"""No setting at all."""

_CARD_DEFAULTS = {key: getattr(CardSettings(), key) for key in CARD_KEYS}
DEFAULTS = RunKeys(**_CARD_DEFAULTS, gpus=(), backend="auto", interval_s=1.0, dry_run=False)
"""The built-in settings. None here means that there is none; `UNSET` says what happens then."""

EXAMPLES = msgspec.structs.replace(DEFAULTS, target_c=78.0, min_duty_percent=30, display=":0", duration_s=3600.0)
"""A value for every key: the built-in setting, or an example if there is none."""

_COMMAND_LINE_ONLY = ("simulate", "workload", "time_scale", "record", "runtime_dir", "config", "debug")
"""Options of `run` that a file must not set: they would turn a service into a simulation, or hide its state."""

_K = TypeVar("_K", bound=CardKeys)


def parse(text: bytes) -> tuple[RunKeys, tuple[CardTable, ...]]:
    """Parse the text of a settings file. Raises InputError that names the key or line, and the allowed values."""
    try:
        content = msgspec.toml.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # the latter two: not UTF-8, absurd nesting
        raise InputError(f"this is not TOML: {error}") from error
    tables = content.pop("gpu", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputError("gpu: write a table for each card, headed [[gpu]] with two brackets")
    file = _read(RunKeys, content, "")
    return file, tuple(_read(CardTable, table, f"[[gpu]] {number}: ") for number, table in enumerate(tables, 1))


def render(keys: RunKeys = NOTHING, tables: Sequence[CardTable] = ()) -> str:
    """Text of a file that sets `keys` and `tables`, and shows every other key with its meaning as a comment."""
    sections = {title: [(about(key), _line(keys, key)) for key in names] for title, names in SECTIONS.items()}
    lines = [
        [f"{key} = {toml(value)}" for key in ("match", *CARD_KEYS) if (value := getattr(table, key)) is not None]
        for table in tables
    ]
    return template("templates/config.toml.j2").render(sections=sections, tables=lines)


def _line(keys: RunKeys, key: str) -> str:
    value = getattr(keys, key)
    return f"#{key} = {toml(getattr(EXAMPLES, key))}" if value is None else f"{key} = {toml(value)}"


def limits(key: str) -> tuple[Any, Any]:
    """Lowest and highest number that `key` accepts."""
    number = _numbers()[key]
    return number.ge, number.le


def about(key: str) -> str:
    """Explain `key` and its bounds in one line of text."""
    return ABOUT[key] + (f" From {_bounds(key)}." if key in _numbers() else "")


def shown(key: str, value: Any) -> str:
    """`value` of `key` for a person: as in the file, or in words where it is not set."""
    return UNSET[key] if value in (None, ()) else toml(value)


def toml(value: Any) -> str:
    """`value` as TOML writes it."""
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    # JSON is TOML here, except that it does not escape this character.
    return msgspec.json.encode(str(value) if isinstance(value, Curve) else value).decode().replace("\x7f", "\\u007f")


def _read(keys: type[_K], table: Mapping[str, Any], where: str) -> _K:
    """The settings in `table`. Raises InputError, whose text begins with `where`."""
    types = {field.name: field.type for field in msgspec.structs.fields(keys)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in types:
            raise InputError(where + _unknown(keys, key))
        try:
            is_curve = key == "curve"
            values[key] = Curve.parse(msgspec.convert(value, str)) if is_curve else msgspec.convert(value, types[key])
        except InputError as error:
            raise InputError(f"{where}{error}") from error
        except msgspec.ValidationError as error:
            written = str(value) if isinstance(value, float) else toml(value)
            raise InputError(f"{where}{key} = {written[:60]}: write {_expected(key)}") from error
    if keys is CardTable and "match" not in values:
        raise InputError(f"{where}no match in it: write {_expected('match')}")
    return keys(**values)


def _unknown(keys: type[CardKeys], key: str) -> str:
    """Explain why `key`, which is not in `keys`, cannot be used."""
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


def _expected(key: str) -> str:
    """Describe the values that `key` accepts."""
    if key in EXPECTED:
        return EXPECTED[key]
    if key not in _numbers():
        return f"text such as {toml(getattr(EXAMPLES, key))}"
    whole = "whole " if isinstance(_numbers()[key], msgspec.inspect.IntType) else ""
    return f"a {whole}number from {_bounds(key)}"


def _bounds(key: str) -> str:
    low, high = limits(key)
    return f"{low:.10g} to {high:.10g}"


@cache
def _numbers() -> dict[str, Any]:
    """The msgspec type of each key that takes a number, which has its bounds."""
    struct: Any = msgspec.inspect.type_info(RunKeys)
    kinds = msgspec.inspect.IntType, msgspec.inspect.FloatType
    return {field.name: kind for field in struct.fields for kind in field.type.types if isinstance(kind, kinds)}
