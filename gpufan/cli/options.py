"""Options and option types that several commands share. So all commands spell and explain them in the same way."""

import errno
import math
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gpufan.cli.completion import complete_card, complete_card_or_case_fan
from gpufan.config.schema import DEFAULTS, NOTHING, RunKeys, key_bounds, without_unit
from gpufan.config.settings import DEFAULT_PATH, Source
from gpufan.core.curve import Curve
from gpufan.core.number import read_number
from gpufan.errors import InputError
from gpufan.history import DEFAULT_FOLDER
from gpufan.system.paths import RUNTIME_FOLDER

_UNITS_S = 1, 86400, 3600, 60, 1
"""The length in seconds of the unit of each part of a duration: of a number without a unit, of d, h, m and s."""

_LONGEST_S = 3650 * 86400.0

_PATH_FAULTS = {
    errno.ENAMETOOLONG: "the name is too long: use a shorter one",
    errno.ENOTDIR: "a file in this path is used as a folder: correct the path",
    errno.ELOOP: "its symbolic links form a circle: name another path",
}
"""What is wrong with a path for which the system reports one of these errors, and the remedy."""

_LONGEST_SHOWN_PATH = 200
"""A message shows the beginning of a path that has more characters."""


def parsed_option_type(parse: Callable[[str], Any]) -> Callable[[object], Any]:
    """Return the type of an option whose text `parse` converts to a value.

    If `parse` raises InputError, click prints an error that names the option.
    """

    @wraps(parse)
    def convert(text: object) -> Any:
        try:
            return parse(str(text))
        except InputError as error:
            raise click.BadParameter(str(error)) from error

    return convert


class FloatRange(click.FloatRange):
    """The type of an option whose value is a number within a range.

    Unlike the class of click, this class describes the range in words, refuses NaN, and accepts a unit after the
    number.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert `value` to a number. Raises click.BadParameter if it is not a number within the range."""
        with suppress(click.BadParameter):
            text: Any = without_unit(str(param.name), value) if param and isinstance(value, str) else value
            number = super().convert(read_number(text) if isinstance(text, str) else text, param, ctx)
            if self.accepts(number):
                return number
        return self.fail(
            f"{str(value).strip() or 'empty'}: write a {self.numbers} from {self._describe_range()}", param, ctx
        )

    numbers = "number"

    def accepts(self, number: float) -> bool:
        """Whether the option accepts `number`, which is within the range. Every number except NaN is accepted."""
        return not math.isnan(number)

    def _describe_range(self) -> str:
        """Return the range in words: `1 to 3600`. click writes them into the help."""
        return f"{self.min:g} to {self.max:g}"


class IntRange(FloatRange):
    """The type of an option whose value is a whole number within a range."""

    numbers = "whole number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert `value` to a whole number. Raises click.BadParameter if it is not a whole number within the range."""
        return int(super().convert(value, param, ctx))

    def accepts(self, number: float) -> bool:
        """Whether the option accepts `number`, which is within the range. Only whole numbers are accepted."""
        return number.is_integer()


class FilePath(click.Path):
    """The type of an option whose value is the path of a file. The file need not exist.

    An empty path, which would be the current folder, is refused, and so is a path at which no file can be.
    """

    kind = "file"

    def __init__(self) -> None:
        super().__init__(path_type=Path, readable=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Convert `value` to a path. Raises click.BadParameter if no file can have this path."""
        text = os.fspath(value)
        if not text:
            self.fail(f"it is empty: name a {self.kind}", param, ctx)
        try:
            is_folder = stat.S_ISDIR(Path(text).stat().st_mode)
        except OSError as error:
            if error.errno in _PATH_FAULTS:
                shown = text if len(text) <= _LONGEST_SHOWN_PATH else f"{text[:40]}..."
                self.fail(f"{shown}: {_PATH_FAULTS[error.errno]}", param, ctx)
        else:
            if is_folder is not (self.kind == "folder"):
                self.fail(f"{text} is {'a' if is_folder else 'no'} folder: name a {self.kind}", param, ctx)
        return super().convert(value, param, ctx)


class FolderPath(FilePath):
    """The type of an option whose value is the path of a folder. The folder need not exist."""

    kind = "folder"


def _read_duration_option_s(text: str) -> float:
    """Convert a duration, such as `90`, `90s`, `30m` or `1h30m`, to seconds.

    On a terminal, say that a number without a unit means seconds. Raises InputError if `text` is not a duration, is
    0, or is longer than ten years.
    """
    number = r"([0-9]+(?:\.[0-9]+)?)\s*"
    match = re.fullmatch(rf"{number}|(?:{number}d\s*)?(?:{number}h\s*)?(?:{number}m\s*)?(?:{number}s)?", text.strip())
    parts = match.groups() if match else ()
    seconds = sum(float(part or 0) * unit_s for part, unit_s in zip(parts, _UNITS_S, strict=False))
    if not seconds > 0:
        raise InputError(f"'{text}' is not a time: write it as 90s, 30m or 1h30m")
    if parts[0] is not None and sys.stderr.isatty():
        click.echo(f"gpufan: {parts[0]} without a unit means seconds: write {parts[0]}s, or {parts[0]}m", err=True)
    if seconds > _LONGEST_S:
        raise InputError(f"'{text}' is too long: at most 3650d")
    return seconds


def read_listen_option(text: str) -> tuple[str, int]:
    """Convert `text`, in the form `HOST:PORT`, to a host and a port.

    An empty host stands for every address of this machine. Raises InputError if `text` does not have this form.
    """
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]\s]*)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65535:
        example = "127.0.0.1:8080, [::1]:8080, or :8080 for all"
        raise InputError(f"'{text}' is not an address: write HOST:PORT, such as {example}")
    return match[1] or match[2] or "", int(match[3])


# Both are written out here, so that a real run need not load the simulator; a test compares.
PROFILES = ("1080ti", "dual-1080ti", "dual-1080ti-open-air", "dual-1080ti-case", "p40-header", "quad-2080ti")
WORKLOADS = ("epochs", "sweep", "step", "idle")


def is_option_given(name: str) -> bool:
    """Whether the user has given the option with the parameter `name`. A value from the environment counts too."""
    return click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT


def refuse_options(names: Iterable[str], reason: str) -> None:
    """Raise InputError if the command line has an option in `names`. A value from the environment is ignored.

    The message is the spelling of the option, then `reason`.
    """
    context = click.get_current_context()
    for parameter in context.command.params:
        is_given = context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
        if parameter.name in names and is_given:
            raise InputError(f"{parameter.opts[0]} {reason}")


def keys_of_given_options(options: Mapping[str, Any]) -> RunKeys:
    """Return the settings that the command line contains. `options` maps the key of each option to its value.

    An option that the user has not given is not set in the result.
    """
    return RunKeys(**{name: value for name, value in options.items() if is_option_given(name)})


def refuse_target_beside_curve(target_c: float | None, curve: Curve | None) -> None:
    """Raise InputError if the command line has both a target and a curve. None means that the option is not given."""
    if target_c is not None and curve is not None:
        raise InputError("--target and --curve exclude each other: leave one out")


def source_of_config_option(path: Path | None, options: RunKeys = NOTHING) -> Source:
    """Return the source of the settings: the file `path`, and the `options` of the command line.

    If `path` is None, the file is the default file. Only the default file may be missing.
    """
    return Source(path or DEFAULT_PATH, required=path is not None, options=options)


def _read_card_option(text: str) -> str:
    """Return `text`, the name of a card. Raises InputError if it is blank, since each name would match it."""
    if not text.strip():
        raise InputError("it is empty: name a card, as `gpufan list` shows it")
    return text


card_name = parsed_option_type(_read_card_option)
"""The type of an option whose value is the name of a card."""

# Kinds of options, of which each command says the rest.
file = partial(click.option, type=FilePath(), metavar="FILE")
folder = partial(click.option, type=FolderPath(), metavar="FOLDER")
duration = partial(click.option, type=parsed_option_type(_read_duration_option_s), metavar="90s|30m|1h30m")
curve = partial(click.option, "--curve", type=parsed_option_type(Curve.parse), metavar="T:D,...")
target = partial(click.option, "--target", type=FloatRange(*key_bounds("target_c")), metavar="°C")
workload = partial(click.option, "--workload", type=click.Choice(WORKLOADS), default="epochs")


def number_option(flag: str, key: str, metavar: str, help: str) -> Callable[[Any], Any]:
    """Return an option, spelled `flag`, for a number that overrides `key` of the settings file.

    The option has the bounds and the default of the key. `metavar` stands for the value in the help.
    """
    default = f"{getattr(DEFAULTS, key):g}"
    return click.option(flag, key, type=FloatRange(*key_bounds(key)), metavar=metavar, default=default, help=help)


# Options that are the same in every command.
gpu = click.option(
    "--gpu",
    "gpus",
    multiple=True,
    metavar="CARD",
    type=card_name,
    shell_complete=complete_card,
    show_default="all cards",
    help="Only this card: UUID, PCI address, index or name. Repeatable.",
)
gpu_or_case_fan = click.option(
    "--gpu",
    "gpus",
    multiple=True,
    metavar="CARD",
    type=card_name,
    shell_complete=complete_card_or_case_fan,
    show_default="all cards",
    help="Only this card: UUID, PCI address, index or name; or this case fan, by its name. Repeatable.",
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
runtime_dir = folder("--runtime-dir", envvar="GPUFAN_RUNTIME_DIR", default=RUNTIME_FOLDER, help="Folder of live state.")
state_dir = folder("--state-dir", envvar="GPUFAN_STATE_DIR", default=DEFAULT_FOLDER, help="Folder of the history.")
simulate = click.option(
    "--simulate",
    type=click.Choice(PROFILES),
    is_flag=False,
    flag_value="dual-1080ti",
    metavar="[PROFILE]",
    help=f"Simulate the cards and touch nothing of this machine: {', '.join(PROFILES)}; without PROFILE, dual-1080ti.",
)
plot = file("--output", help="Draw temperature, duty and sound over time into this .svg or .png file.")
