"""Options that several commands share, so that they are spelled and explained in one way."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from gpufan.config.schema import NOTHING, RunKeys
from gpufan.config.settings import DEFAULT_PATH, Source
from gpufan.errors import InputError
from gpufan.system.paths import RUNTIME_FOLDER

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def read_with(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback that reads an option's text with `parse`, each text of one that may be repeated.

    An InputError becomes click's, which names the option.
    """

    def callback(context: click.Context, parameter: click.Parameter, text: str | tuple[str, ...] | None) -> Any:
        try:
            if isinstance(text, tuple):
                return tuple(parse(each) for each in text)
            return None if text is None else parse(text)
        except InputError as error:
            raise click.BadParameter(str(error), context, parameter) from error

    return callback


class FloatRange(click.FloatRange):
    """A range that NaN is not in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read `value` as a number within the range; click says what is wrong with it."""
        number = super().convert(value, param, ctx)
        return self.fail(f"{value} is not a number", param, ctx) if math.isnan(number) else number


def read_duration_s(text: str) -> float:
    """Read `90s`, `30m` or `1h` as seconds. Raises InputError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([smhd]?)", text.strip())
    seconds = float(match[1]) * _UNITS_S[match[2]] if match else 0.0
    if not seconds > 0:
        raise InputError(f"'{text}' is not a time: write it as 90s, 30m or 1h")
    return seconds


def is_given(name: str) -> bool:
    """Whether the option was given rather than left at its default."""
    return click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT


def settings_source(path: Path | None, options: RunKeys = NOTHING) -> Source:
    """The file at `path`; without one the usual file, if it is there."""
    return Source(path or DEFAULT_PATH, required=path is not None, options=options)


def _cards(context: click.Context, _parameter: click.Parameter, incomplete: str) -> "list[CompletionItem]":
    from gpufan.cli.completion import cards  # only who presses TAB needs it

    return cards(context, incomplete)


gpu_option = click.option(
    "--gpu",
    "gpus",
    multiple=True,
    metavar="CARD",
    shell_complete=_cards,
    help="Only this card: UUID, PCI address, index or name. Repeatable. [default: all]",
)
backend_option = click.option(
    "--backend",
    type=click.Choice(["auto", "nvml", "x11"]),
    default="auto",
    show_default=True,
    help="What sets the fans; auto takes NVML for every card where that works, and X for the rest.",
)
display_option = click.option(
    "--display",
    metavar=":N",
    envvar="GPUFAN_DISPLAY",
    help="Use the X server that runs there, with the cookie in XAUTHORITY. [default: one of our own, when needed]",
)
config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"File of settings. [default: {DEFAULT_PATH}, if it is there]",
)
runtime_option = click.option(
    "--runtime-dir",
    type=click.Path(path_type=Path),
    envvar="GPUFAN_RUNTIME_DIR",
    metavar="FOLDER",
    help=f"Where lock and snapshot lie. [default: {RUNTIME_FOLDER}]",
)
# Both written out, since the model should be loaded only by those who use it; a test compares.
PROFILE = click.Choice(["1080ti", "dual-1080ti", "dual-1080ti-open-air", "quad-2080ti"])
WORKLOAD = click.Choice(["epochs", "sweep", "step", "idle"])
simulate_option = click.option(
    "--simulate",
    type=PROFILE,
    is_flag=False,
    flag_value="dual-1080ti",
    metavar="[PROFILE]",
    help="Use a simulated box and touch nothing of this machine: 1080ti, dual-1080ti (when bare),"
    " dual-1080ti-open-air, quad-2080ti.",
)
# main() looks for it, wherever it stands.
debug_option = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
