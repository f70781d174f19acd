"""Options that several commands share, so that they are spelled and explained in one way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gpufan.config import DEFAULT_PATH
from gpufan.runtime import DEFAULT_FOLDER

F = TypeVar("F", bound=Callable[..., Any])

gpu_option = click.option(
    "--gpu",
    "gpus",
    multiple=True,
    metavar="CARD",
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
    help=f"Where lock and snapshot lie. [default: {DEFAULT_FOLDER}]",
)
simulate_option = click.option(
    "--simulate",
    # Written out, since the model should be loaded only by those who use it; a test compares.
    type=click.Choice(["1080ti", "dual-1080ti", "dual-1080ti-open-air", "quad-2080ti"]),
    is_flag=False,
    flag_value="dual-1080ti",
    metavar="[PROFILE]",
    help="Use a simulated box and touch nothing of this machine: 1080ti, dual-1080ti (when bare),"
    " dual-1080ti-open-air, quad-2080ti.",
)
# main() looks for it, wherever it stands.
debug_option = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
