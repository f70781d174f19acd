"""Options and option types that several commands share, so that all commands spell and explain them in one way."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gpufan.cli.completion import complete_card
from gpufan.config.schema import DEFAULTS, NOTHING, RunKeys, key_bounds
from gpufan.config.settings import DEFAULT_PATH, Source
from gpufan.core.curve import Curve
from gpufan.errors import InputError
from gpufan.system.paths import RUNTIME_FOLDER

_UNITS_S = 1, 86400, 3600, 60, 1
"""Seconds of each part of a duration: a number without a unit; d, h, m and s."""

_LONGEST_S = 3650 * 86400.0


def parsed_option_type(parse: Callable[[str], Any]) -> Callable[[object], Any]:
    """Return the type of an option whose value is read by `parse`. An InputError of `parse` names the option."""

    @wraps(parse)
    def convert(text: object) -> Any:
        try:
            return parse(str(text))
        except InputError as error:
            raise click.BadParameter(str(error)) from error

    return convert


class FloatRange(click.FloatRange):
    """A range of numbers. Unlike click's own it is described in words, and it refuses NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return `value` as a number within the range. Else raises click.BadParameter."""
        with suppress(click.BadParameter):
            number = super().convert(value, param, ctx)
            if self.accepts(number):
                return number
        return self.fail(f"{value}: write a {self.numbers} from {self._describe_range()}", param, ctx)

    numbers = "number"

    def accepts(self, number: float) -> bool:
        """Whether `number`, which is within the range, is accepted: every number except NaN is."""
        return not math.isnan(number)

    def _describe_range(self) -> str:
        """Return the range in words, which click writes into the help."""
        return f"{self.min:g} to {self.max:g}"


class IntRange(FloatRange):
    """A range of whole numbers."""

    numbers = "whole number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return `value` as a whole number within the range. Else raises click.BadParameter."""
        return int(super().convert(value, param, ctx))

    def accepts(self, number: float) -> bool:
        """Whether the number is whole."""
        return number.is_integer()


class FilePath(click.Path):
    """A path that is not empty. An empty path would mean the present folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return `value` as a path. Raises click.BadParameter if it is empty."""
        if not str(value):
            self.fail("it is empty: name a file or folder", param, ctx)
        return super().convert(value, param, ctx)


def _read_duration_option_s(text: str) -> float:
    """Return the duration `90`, `90s`, `30m` or `1h30m` in seconds. Raises InputError."""
    number = r"([0-9]+(?:\.[0-9]+)?)\s*"
    match = re.fullmatch(rf"{number}|(?:{number}d\s*)?(?:{number}h\s*)?(?:{number}m\s*)?(?:{number}s)?", text.strip())
    parts = match.groups() if match else ()
    seconds = sum(float(part or 0) * unit_s for part, unit_s in zip(parts, _UNITS_S, strict=False))
    if not seconds > 0:
        raise InputError(f"'{text}' is not a time: write it as 90s, 30m or 1h30m")
    if seconds > _LONGEST_S:
        raise InputError(f"'{text}' is too long: at most 3650d")
    return seconds


# Both are written out here, so that a real run need not load the simulator; a test compares.
PROFILES = ("1080ti", "dual-1080ti", "dual-1080ti-open-air", "quad-2080ti")
WORKLOADS = ("epochs", "sweep", "step", "idle")


def is_option_given(name: str) -> bool:
    """Whether the user has given the option `name`. An option of the environment counts as given."""
    return click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT


def refuse_options(names: Iterable[str], reason: str) -> None:
    """Raise InputError if an option in `names` was given. The message is the spelling of the option and `reason`."""
    for parameter in click.get_current_context().command.params:
        if parameter.name in names and is_option_given(parameter.name):
            raise InputError(f"{parameter.opts[0]} {reason}")


def keys_of_given_options(options: Mapping[str, Any]) -> RunKeys:
    """Return the options that were given as settings of the command line. `options` maps keys to values."""
    return RunKeys(**{name: value for name, value in options.items() if is_option_given(name)})


def source_of_config_option(path: Path | None, options: RunKeys = NOTHING) -> Source:
    """Return the source of the settings: the file `path`, or for None the default file, which may be missing."""
    return Source(path or DEFAULT_PATH, required=path is not None, options=options)


# Kinds of options, of which each command says the rest.
file = partial(click.option, type=FilePath(path_type=Path, readable=False), metavar="FILE")
duration = partial(click.option, type=parsed_option_type(_read_duration_option_s), metavar="90s|30m|1h30m")
curve = partial(click.option, "--curve", type=parsed_option_type(Curve.parse), metavar="T:D,...")
target = partial(click.option, "--target", type=FloatRange(*key_bounds("target_c")), metavar="°C")
workload = partial(click.option, "--workload", type=click.Choice(WORKLOADS), default="epochs")


def number_option(flag: str, key: str, metavar: str, help: str) -> Callable[[Any], Any]:
    """Return an option `flag` that sets `key`, with the bounds and the default of the settings file."""
    default = f"{getattr(DEFAULTS, key):g}"
    return click.option(flag, key, type=FloatRange(*key_bounds(key)), metavar=metavar, default=default, help=help)


# Options that are the same in every command.
gpu = click.option(
    "--gpu",
    "gpus",
    multiple=True,
    metavar="CARD",
    shell_complete=complete_card,
    show_default="all cards",
    help="Only this card: UUID, PCI address, index or name. Repeatable.",
)
backend = click.option(
    "--backend",
    type=click.Choice(["auto", "nvml", "x11"]),
    default="auto",
    help="How fans are set; auto uses NVML for every card where that works, and X for the others.",
)
display = click.option(
    "--display", metavar=":N", envvar="GPUFAN_DISPLAY", show_default="start one if needed", help="Use this X server."
)
config = file("--config", "config_path", show_default=f"{DEFAULT_PATH}, if it exists", help="The settings file.")
runtime_dir = file(
    "--runtime-dir", envvar="GPUFAN_RUNTIME_DIR", metavar="FOLDER", default=RUNTIME_FOLDER, help="Folder of live state."
)
simulate = click.option(
    "--simulate",
    type=click.Choice(PROFILES),
    is_flag=False,
    flag_value="dual-1080ti",
    metavar="[PROFILE]",
    help=f"Simulate the cards and touch nothing of this machine: {', '.join(PROFILES)}; without PROFILE, dual-1080ti.",
)
plot = file("--output", help="Draw temperature, duty and sound over time into this .svg or .png file.")
