"""The keys of the settings file: types, bounds and defaults, and how the text of the file is read and written.

Which source a value in effect comes from is decided in `settings.py`.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from gpufan.config.descriptions import ABOUT, UNSET
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.errors import InputError
from gpufan.system.resources import template

_CardName = Annotated[str, Meta(min_length=1)] | int
"""An index may stand without quotes."""


class CardKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What may be set for one card alone. None everywhere: not set here."""

    target_c: Annotated[float, Meta(ge=50, le=90)] | None = None
    curve: Curve | None = None
    hysteresis_c: Annotated[float, Meta(ge=0, le=30)] | None = None
    hold_s: Annotated[float, Meta(ge=0, le=3600)] | None = None
    min_duty_percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    neighbours: tuple[_CardName, ...] | None = None


class RunKeys(CardKeys, frozen=True, kw_only=True):
    """What may be set for a whole run: the same for every card, and what concerns all of them together."""

    gpus: tuple[_CardName, ...] | None = None
    backend: Literal["auto", "nvml", "x11"] | None = None
    display: Annotated[str, Meta(min_length=1)] | None = None
    interval_s: Annotated[float, Meta(ge=0.1, le=5)] | None = None
    dry_run: bool | None = None
    duration_s: Annotated[float, Meta(ge=1, le=365 * 86400)] | None = None


class CardTable(CardKeys, frozen=True, kw_only=True):
    """One `[[gpu]]` of the file."""

    match: _CardName


CARD_KEYS = CardKeys.__struct_fields__
RUN_KEYS = RunKeys.__struct_fields__

NOTHING = RunKeys()
"""Nothing set."""

_LAW = CardSettings()
DEFAULTS = RunKeys(
    curve=_LAW.curve,
    hysteresis_c=_LAW.hysteresis_c,
    hold_s=_LAW.hold_s,
    neighbours=_LAW.neighbours,
    gpus=(),
    backend="auto",
    interval_s=1.0,
    dry_run=False,
)
"""What is built in. What is None here has no value until one is set."""

_EXAMPLES = RunKeys(target_c=78.0, min_duty_percent=30, display=":0", duration_s=3600.0)
"""For a file to show where nothing is built in."""

_COMMAND_LINE_ONLY = ("simulate", "workload", "time_scale", "record", "runtime_dir", "config", "debug")
"""Options of `run` that a file must not set: it would turn a service into a simulation, or hide where its state is."""


def parse(text: bytes) -> tuple[RunKeys, tuple[CardTable, ...]]:
    """Read the text of a file. Raises InputError: key or line, and what would be right."""
    try:
        content = msgspec.toml.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # the latter two: not UTF-8, absurd nesting
        raise InputError(f"this is not TOML: {error}") from error
    tables = content.pop("gpu", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InputError("gpu: write a table for each card, headed [[gpu]] with two brackets")
    file = _read(RunKeys, content, "")
    return file, tuple(_read(CardTable, table, f"[[gpu]] {number}: ") for number, table in enumerate(tables, 1))


def limits(key: str) -> tuple[Any, Any]:
    """Lowest and highest value that `key` takes, for the command line."""
    kind = _kind(RunKeys, key)
    return kind.ge, kind.le


def render(keys: RunKeys = NOTHING, tables: Sequence[CardTable] = ()) -> str:
    """Text of a file that sets what is given, and explains and shows all else as comments."""
    entries = [(about(key), _line(keys, key)) for key in RUN_KEYS]
    count = len(CARD_KEYS)
    sections = [("The same for every card", entries[:count]), ("All cards together", entries[count:])]
    lines = [
        [f"{key} = {toml(value)}" for key in ("match", *CARD_KEYS) if (value := getattr(table, key)) is not None]
        for table in tables
    ]
    return template("templates/config.toml.j2").render(sections=sections, tables=lines)


def _line(keys: RunKeys, key: str) -> str:
    value = getattr(keys, key)
    return f"{'#' if value is None else ''}{key} = {toml(example(key) if value is None else value)}"


def about(key: str) -> str:
    """What `key` means and takes, as text without line breaks."""
    kind = _kind(CardTable if key == "match" else RunKeys, key)
    bounds = f" From {_bounds(kind)}." if isinstance(kind, _NUMBERS) else ""
    return ABOUT[key] + bounds


def example(key: str) -> Any:
    """What `key` may be set to: what is built in, if anything is."""
    return next(value for keys in (DEFAULTS, _EXAMPLES) if (value := getattr(keys, key)) is not None)


def shown(key: str, value: Any) -> str:
    """`value` of `key` for a person: as in the file, or what holds where there is none."""
    return UNSET[key] if value in (None, ()) else toml(value)


_K = TypeVar("_K", bound=CardKeys)


def _read(keys: type[_K], table: Mapping[str, Any], where: str) -> _K:
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in keys.__struct_fields__:
            raise InputError(where + _unknown(keys, key))
        try:
            if key == "curve":
                values[key] = Curve.parse(msgspec.convert(value, str))
            else:
                values[key] = msgspec.convert(value, _types(keys)[key])
        except InputError as error:
            raise InputError(f"{where}{error}") from error
        except msgspec.ValidationError as error:
            written = value if isinstance(value, float) else toml(value)
            raise InputError(f"{where}{key} = {written}: write {_right(keys, key)}") from error
    if keys is CardTable and "match" not in values:
        raise InputError(f"{where}no match in it: write {_right(keys, 'match')}")
    return keys(**values)


def _unknown(keys: type[CardKeys], key: str) -> str:
    if key in _COMMAND_LINE_ONLY:
        return f"{key} stands only on the command line, as --{key.replace('_', '-')}"
    if key == "match":
        return "match belongs below a line with [[gpu]]"
    if key in RUN_KEYS:
        return f"{key} is for all cards together: put it above the first [[gpu]]"
    names = keys.__struct_fields__
    import difflib  # only a mistake needs it

    near = difflib.get_close_matches(key, names, 1, 0.5)
    return f"unknown key {toml(key)}: " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}")


@cache
def _types(keys: type[CardKeys]) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(keys)}


def _kind(keys: type[CardKeys], key: str) -> Any:
    """What msgspec knows of a key's type, None left out."""
    kind = msgspec.inspect.type_info(_types(keys)[key])
    if isinstance(kind, msgspec.inspect.UnionType):
        return next(part for part in kind.types if not isinstance(part, msgspec.inspect.NoneType))
    return kind


def _right(keys: type[CardKeys], key: str) -> str:
    """What may stand after `key =`, in words."""
    if key == "curve":
        return f"text such as {toml(DEFAULTS.curve)}"
    if key == "match":
        return 'a UUID, PCI address, index or name, such as match = "GTX 1080 Ti"'
    kind = _kind(keys, key)
    if isinstance(kind, msgspec.inspect.VarTupleType):
        return 'a list of UUIDs, PCI addresses, indices or names, such as ["0", "GTX 1080 Ti"]'
    if isinstance(kind, msgspec.inspect.BoolType):
        return "true or false"
    if isinstance(kind, msgspec.inspect.LiteralType):
        return " or ".join(toml(value) for value in kind.values)
    if isinstance(kind, msgspec.inspect.StrType):
        return f"text such as {toml(getattr(_EXAMPLES, key))}"
    whole = "whole " if isinstance(kind, msgspec.inspect.IntType) else ""
    return f"a {whole}number from {_bounds(kind)}"


_NUMBERS = (msgspec.inspect.IntType, msgspec.inspect.FloatType)


def _bounds(kind: Any) -> str:
    return f"{kind.ge:.10g} to {kind.le:.10g}"


def toml(value: Any) -> str:
    """How TOML writes `value`; of what no key takes, the beginning as Python does."""
    if isinstance(value, Curve):
        value = str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON escapes all that TOML wants escaped, but for this one character.
        return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml(item) for item in value)}]"
    return str(value)[:60]
