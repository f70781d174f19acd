"""The settings in effect. Their sources are the built-in settings, the file, its tables, and the command line.

A later source overrides an earlier one. The keys that a file may have are in `schema.py`.
"""

import math
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from gpufan.config.mistakes import SettingsError
from gpufan.config.schema import CARD_KEYS, CURVE_KEYS, DEFAULTS, NOTHING, CardKeys, CardTable, FanTable, RunKeys
from gpufan.config.toml_text import parse_settings_text, toml
from gpufan.core.card_settings import ALL_CARDS, CardSettings
from gpufan.core.gpu import GpuInfo
from gpufan.core.quiet_hours import QuietHours
from gpufan.core.selection import card_matches, card_may_match, is_card_index
from gpufan.errors import InputError
from gpufan.hwmon.channels import find_channels
from gpufan.system.files import read_file

DEFAULT_PATH = Path("/etc/gpufan/config.toml")

BUILT_IN, FILE, COMMAND_LINE = "built-in", "file", "command line"
"""The origins of a value. A value from a table has another origin, such as `[[gpu]] 1`."""


class Value(NamedTuple):
    """The value of a setting that is in effect, and the origin of the value."""

    value: Any
    origin: str


class RunSettings(NamedTuple):
    """The settings in effect that are for all cards together."""

    gpus: tuple[str, ...]
    """Names of the cards to control; empty for all."""
    backend: str
    display: str | None
    """The X server to use. If None, gpufan starts its own X server when it needs one."""
    interval_s: float
    dry_run: bool
    duration_s: float | None
    """The run stops after this time, s. If None, it does not stop by itself."""


@dataclass(frozen=True)
class Settings:
    """All sources of the settings of one run. The methods of this class read no file."""

    path: Path | None = None
    """The file that was read; None if there is none."""
    file: RunKeys = NOTHING
    tables: tuple[CardTable, ...] = ()
    options: RunKeys = NOTHING
    """The options of the command line."""
    content: bytes | None = field(default=None, repr=False, compare=False)
    """The content of the file; None if none was read."""

    def resolve(self, key: str, tables: Sequence[int] = ()) -> Value:
        """Return the value of `key` that is in effect for a card.

        `tables` are the numbers of the `[[gpu]]` tables that match the card, in rising order. The first table is 1.
        If there are no numbers, no table counts.
        """
        layers: list[tuple[str, CardKeys]] = [(COMMAND_LINE, self.options)]
        layers += [(f"[[gpu]] {number}", self.tables[number - 1]) for number in reversed(tables)]
        layers += [(FILE, self.file), (BUILT_IN, DEFAULTS)]
        for origin, layer in layers:
            value = getattr(layer, key, None)
            if key == "curve" and layer.target_c is not None:
                return Value(None, origin)  # a target overrides the curve of the same and of an earlier source
            if value is not None:
                return Value(value, origin)
            if key == "target_c" and layer.curve is not None:
                return Value(None, origin)  # a curve overrides the target of an earlier source
        return Value(None, BUILT_IN)

    def for_card(self, info: GpuInfo) -> CardSettings:
        """Return the settings in effect for one card, or for a case fan."""
        if info.is_case_fan:
            return self._for_case_fan(info.name)
        tables = [number for number, table in enumerate(self.tables, 1) if card_matches(info, str(table.match))]
        values = {key: self.resolve(key, tables).value for key in CARD_KEYS}
        if values["curve"] is None:
            del values["curve"]
        fans = self.resolve("fans", tables).value or ()
        return CardSettings(**values, fans=fans, quiet_hours=tuple(self._quiet_hours()))

    def _for_case_fan(self, name: str) -> CardSettings:
        """Return the settings of the case fan whose table has `name`. Of quiet hours, only the highest duty counts."""
        table = next(fan for fan in self.case_fans if fan.name == name)
        follows = self.follows(table)
        lowest_percent = table.min_duty_percent
        if lowest_percent is None and table.curve is not None:
            # A fan of a case may turn slower than that of a card, and starts again if it stops.
            lowest_percent = math.floor(table.curve.lowest_duty)
        quiet = tuple(hours._replace(target_c=None, gives_way=False) for hours in self._quiet_hours())
        settings = CardSettings(
            follows=follows,
            neighbours=follows,
            by_demand=table.curve is None,
            min_duty_percent=lowest_percent,
            quiet_hours=tuple(hours for hours in quiet if hours.max_duty_percent is not None),
        )
        return settings if table.curve is None else replace(settings, curve=table.curve)

    @staticmethod
    def follows(fan: FanTable) -> tuple[str, ...]:
        """Return the names of the cards that a case fan follows."""
        return ALL_CARDS if fan.follows is None else tuple(map(str, fan.follows))

    @property
    def case_fans(self) -> tuple[FanTable, ...]:
        """The `[[fan]]` tables."""
        return self.file.fan or ()

    def with_case_fans(self, names: Sequence[str]) -> "Settings":
        """Return these settings with case fans on the channels `names`, which follow the demand of all cards."""
        return replace(self, file=msgspec.structs.replace(self.file, fan=tuple(FanTable(name=name) for name in names)))

    def _quiet_hours(self) -> Iterator[QuietHours]:
        """Return the quiet hours, which are the same for every card.

        If the command line has a target or a curve, the targets of quiet hours do not count. Quiet hours that have only
        a target are left out then.
        """
        for hours in (table.hours() for table in self.file.quiet or ()):
            if self.options.target_c is None and self.options.curve is None:
                yield hours
            elif hours.max_duty_percent is not None or hours.gives_way:
                yield hours._replace(target_c=None)

    def run_settings(self) -> RunSettings:
        """Return the settings in effect that are for all cards together."""
        gpus, *others = (self.resolve(key).value for key in RunSettings._fields)
        return RunSettings(tuple(str(name) for name in gpus), *others)

    def keys_without_effect(self) -> dict[str, str]:
        """Return the keys that have no effect because no source has a curve. The values of the result are warnings."""
        sources: tuple[CardKeys, ...] = (self.file, *self.tables, self.options)
        if any(source.curve is not None for source in sources):
            return {}
        keys = [key for key in CURVE_KEYS if any(getattr(source, key) is not None for source in sources)]
        return {key: f"{key} has no effect: it is for a curve, and a target is held" for key in keys}

    @property
    def has_header_fans(self) -> bool:
        """Whether a `[[gpu]]` table names fans on headers of the motherboard."""
        return bool(self.header_fans)

    @property
    def header_fans(self) -> list[tuple[str, tuple[str, ...]]]:
        """Each `match` of a `[[gpu]]` table that names fans on headers of the motherboard, with these names."""
        return [(str(table.match), table.fans) for table in self.tables if table.fans]

    @property
    def channel_names(self) -> list[str]:
        """The names of all channels of the motherboard that a run with these settings sets."""
        return [*(name for _, names in self.header_fans for name in names), *(fan.name for fan in self.case_fans)]

    def unmatched_tables(self, cards: Sequence[GpuInfo]) -> list[str]:
        """Return a warning for each table and each name of a neighbour that matches none of `cards`."""
        return [
            f"{self.path}: {where} {toml(name)} matches no card here"
            for where, name in self._names()
            if not any(card_may_match(info, str(name)) for info in cards)
        ]

    def index_warnings(self) -> list[str]:
        """Return a warning for each index of a card in the file. After a reboot, another card may have this index."""
        names = [*(("gpus:", name) for name in self.file.gpus or ()), *self._names()]
        return [
            f"{self.path}: {where} {toml(name)} may be the index of another card after a reboot: use the card's UUID"
            for where, name in names
            if is_card_index(str(name))
        ]

    def _names(self) -> list[tuple[str, str | int]]:
        """Return the names of cards in tables and in lists of neighbours.

        Each name comes after the place where it stands: `[[gpu]] 1: match =`.
        """
        neighbours = [name for keys in (self.file, *self.tables) for name in keys.neighbours or ()]
        follows = [(number, name) for number, fan in enumerate(self.case_fans, 1) for name in fan.follows or ()]
        return [
            *((f"[[gpu]] {number}: match =", table.match) for number, table in enumerate(self.tables, 1)),
            *(("neighbours:", name) for name in dict.fromkeys(neighbours)),
            *((f"[[fan]] {number}: follows:", name) for number, name in follows),
        ]


@dataclass(frozen=True)
class Source:
    """The file and the options of the command line. Settings are read from them at the start and at every reload."""

    path: Path | None
    """The settings file. If None, no file is read."""
    required: bool
    """Whether a missing file is an error."""
    options: RunKeys = NOTHING

    def read(self) -> Settings:
        """Read the file, if it exists, and return the settings.

        Raises InputError if the file cannot be read or has mistakes, or if a required file is missing.
        """
        if self.path is None:
            return Settings(options=self.options)
        try:
            content = read_file(self.path)
            file, tables = parse_settings_text(content, find_channels)
        except FileNotFoundError:
            if self.required:
                raise InputError(f"{self.path}: no such file: create it, or name another with --config") from None
            return Settings(options=self.options)
        except OSError as error:
            raise unreadable_settings(self.path, error) from error
        except SettingsError as error:
            option = "" if self.path == DEFAULT_PATH else f" --config {shlex.quote(str(self.path))}"
            raise SettingsError(error.mistakes, f"{self.path}: ", f"gpufan config check{option}") from error
        return Settings(self.path, file, tables, self.options, content)


def unreadable_settings(path: Path, error: OSError) -> InputError:
    """Return the error for a settings file `path` that cannot be read because of `error`. It says what to do."""
    remedy = "replace it with a file" if path == DEFAULT_PATH else "name another file with --config"
    if isinstance(error, PermissionError) and os.geteuid() != 0:
        remedy = "run this with sudo"
    return InputError(f"{path}: cannot be read: {error.strerror}: {remedy}")
