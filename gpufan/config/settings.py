"""Settings of a run: what may be set, the file it is read from and written to, and what counts more than what.

A source lies over the one before: what is built in, the file, its tables that fit a card, the command line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.gpu import GpuInfo
from gpufan.core.selection import matches
from gpufan.errors import InputError
from gpufan.system.files import read_file
from gpufan.system.resources import template

DEFAULT_PATH = Path("/etc/gpufan/config.toml")

BUILT_IN, FILE, COMMAND_LINE = "built-in", "file", "command line"
"""Where a value may come from; a table of the file is `[[gpu]] 1`."""

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


class Value(NamedTuple):
    """A value in effect, and where it came from."""

    value: Any
    origin: str


class WholeRun(NamedTuple):
    """What is in effect for all cards together."""

    gpus: tuple[str, ...]
    """Names of the cards to control; empty for all."""
    backend: str
    display: str | None
    """The X server to use; None for one of our own."""
    interval_s: float
    dry_run: bool
    duration_s: float | None


@dataclass(frozen=True)
class Settings:
    """All sources of one run. Pure: asking it reads nothing."""

    path: Path | None = None
    """The file that was read; None where there is none."""
    file: RunKeys = NOTHING
    tables: tuple[CardTable, ...] = ()
    options: RunKeys = NOTHING
    """What the command line said."""

    def look_up(self, key: str, tables: Sequence[int] = ()) -> Value:
        """The value of `key`, for a card that the tables with these numbers fit, counted from 1."""
        layers: list[tuple[str, CardKeys]] = [(COMMAND_LINE, self.options)]
        layers += [(f"[[gpu]] {number}", self.tables[number - 1]) for number in reversed(tables)]
        layers += [(FILE, self.file), (BUILT_IN, DEFAULTS)]
        for origin, layer in layers:
            value = getattr(layer, key, None)
            if value is not None:
                return Value(value, origin)
            if key == "target_c" and layer.curve is not None and origin != BUILT_IN:
                return Value(None, origin)  # whoever asks for a curve, and no target, wants the curve
        return Value(None, BUILT_IN)

    def for_card(self, info: GpuInfo) -> CardSettings:
        """How the fans of one card are to follow its temperature."""
        tables = [number for number, table in enumerate(self.tables, 1) if matches(info, str(table.match))]
        return CardSettings(**{key: self.look_up(key, tables).value for key in CARD_KEYS})

    def whole(self) -> WholeRun:
        """What is in effect for all cards together."""
        gpus, *others = (self.look_up(key).value for key in WholeRun._fields)
        return WholeRun(tuple(str(name) for name in gpus), *others)

    def idle_tables(self, cards: Sequence[GpuInfo]) -> list[str]:
        """A line for each table and each neighbour that is none of `cards`."""
        return [
            f"{self.path}: [[gpu]] {number}: match = {toml(table.match)} fits no card here"
            for number, table in enumerate(self.tables, 1)
            if not any(matches(info, str(table.match)) for info in cards)
        ] + [
            f"{self.path}: neighbours: {toml(name)} fits no card here"
            for name in dict.fromkeys(name for keys in (self.file, *self.tables) for name in keys.neighbours or ())
            if not any(matches(info, str(name)) for info in cards)
        ]


@dataclass(frozen=True)
class Source:
    """Where settings are read from, at the start and again at every reload."""

    path: Path | None
    """None looks at no file."""
    required: bool
    """Whether the file must be there."""
    options: RunKeys = NOTHING

    def read(self) -> Settings:
        """Read the file, if there is one. Raises InputError: file, key, and what would be right."""
        if self.path is None:
            return Settings(options=self.options)
        try:
            text = read_file(self.path)
        except FileNotFoundError:
            if self.required:
                raise InputError(f"{self.path}: no such file") from None
            return Settings(options=self.options)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror}") from error
        try:
            file, tables = parse(text)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error
        return Settings(self.path, file, tables, self.options)


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
    from gpufan.config.descriptions import ABOUT  # only who explains a key needs it

    kind = _kind(CardTable if key == "match" else RunKeys, key)
    bounds = f" From {_bounds(kind)}." if isinstance(kind, _NUMBERS) else ""
    return ABOUT[key] + bounds


def example(key: str) -> Any:
    """What `key` may be set to: what is built in, if anything is."""
    return next(value for keys in (DEFAULTS, _EXAMPLES) if (value := getattr(keys, key)) is not None)


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
