"""The settings in effect: built-in values, the file, its tables for some cards, and the command line, in this order.

A later source overrides an earlier one. What may stand in the file is in `schema.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gpufan.config.schema import CARD_KEYS, DEFAULTS, NOTHING, CardKeys, CardTable, RunKeys, parse, toml
from gpufan.core.card_settings import CardSettings
from gpufan.core.gpu import GpuInfo
from gpufan.core.selection import matches
from gpufan.errors import InputError
from gpufan.system.files import read_file

DEFAULT_PATH = Path("/etc/gpufan/config.toml")

BUILT_IN, FILE, COMMAND_LINE = "built-in", "file", "command line"
"""Where a value may come from; a table of the file is `[[gpu]] 1`."""


class Value(NamedTuple):
    """A value in effect, and where it came from."""

    value: Any
    origin: str


class RunSettings(NamedTuple):
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

    def resolve(self, key: str, tables: Sequence[int] = ()) -> Value:
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
        return CardSettings(**{key: self.resolve(key, tables).value for key in CARD_KEYS})

    def run_settings(self) -> RunSettings:
        """What is in effect for all cards together."""
        gpus, *others = (self.resolve(key).value for key in RunSettings._fields)
        return RunSettings(tuple(str(name) for name in gpus), *others)

    def unmatched_tables(self, cards: Sequence[GpuInfo]) -> list[str]:
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
