"""The commands that set fans: `gpufan run`, `gpufan restore` and `gpufan xserver`."""

import math
from pathlib import Path
from typing import Any

import click

from gpufan.cli import options
from gpufan.cli.command import Command
from gpufan.config.schema import DEFAULTS, key_bounds
from gpufan.config.settings import Source
from gpufan.core.number import read_number
from gpufan.daemon.last_good import read_settings_or_last_good
from gpufan.daemon.restore import restore_cards as restore_fans
from gpufan.daemon.restore import restore_taken
from gpufan.daemon.run import run_cards
from gpufan.daemon.xserver import run_xserver
from gpufan.errors import InputError
from gpufan.terminal.log import log_to_stderr
from gpufan.terminal.run_view import run_view


def _read_time_scale_option(text: str) -> float:
    """Convert `text` to the speed of a simulation: a number above 0; `max` gives infinity.

    Raises InputError if `text` is not such a number.
    """
    scale = math.inf if text == "max" else read_number(text)
    if not scale > 0:
        raise InputError(f"'{text}' is not a speed: write a number above 0, or max")
    return scale


@click.command(
    cls=Command,
    sections={
        "How to cool": ("target_c", "curve", "min_duty_percent", "hysteresis_c", "hold_s", "interval_s"),
        "Which cards": ("gpus", "backend", "display"),
        "Try it out": ("simulate", "workload", "time_scale", "dry_run", "duration_s"),
        "Files and output": ("config_path", "record", "runtime_dir"),
    },
)
@options.curve(
    help="Follow this curve instead of holding a target: duty in percent over temperature in °C, linear between points."
    " With 'auto' as the first duty the driver controls the fans below the second point.",
)
@options.target(
    "target_c", default=f"{DEFAULTS.target_c:g}", help="Hold this temperature or less with the least sound."
)
@click.option(
    "--min-duty",
    "min_duty_percent",
    type=options.IntRange(*key_bounds("min_duty_percent")),
    metavar="PERCENT",
    show_default="the card's own, or 30 if that is under 20",
    help="Lowest duty ever set.",
)
@options.number_option(
    "--hysteresis", "hysteresis_c", "°C", "Under a curve: how much a card must cool before its fans slow down."
)
@options.number_option("--hold", "hold_s", "SECONDS", "Under a curve: how long the card must first stay that cool.")
@options.number_option("--interval", "interval_s", "SECONDS", "Time between readings.")
@options.gpu
@options.backend
@options.display
@options.simulate
@options.workload(help="The load of the simulated cards.")
@click.option(
    "--time-scale",
    metavar="X|max",
    type=options.parsed_option_type(_read_time_scale_option),
    default="1",
    help="Simulated seconds per second. The simulated clock begins on a Monday at 00:00.",
)
@click.option("--dry-run", is_flag=True, help="Read the cards and say what would be set, but set nothing.")
@options.duration("--duration", "duration_s", show_default="never", help="Stop after this time.")
@options.config
@options.file("--record", help="Append a row for each card and reading to this CSV file, for `gpufan tune`.")
@options.runtime_dir
def run(
    simulate: str | None,
    workload: str,
    time_scale: float,
    record: Path | None,
    config_path: Path | None,
    runtime_dir: Path,
    **settings: Any,
) -> None:
    """Control the fans to hold a target temperature, or along a curve, until stopped.

    However gpufan ends, it gives the fans back to the driver. Options override the settings file.
    """
    given = options.keys_of_given_options(settings)
    options.refuse_target_beside_curve(given.target_c, given.curve)
    if simulate is None:
        options.refuse_options(["workload", "time_scale"], "goes with --simulate: add that, or leave it out")
        with run_view() as open_view:
            run_cards(options.source_of_config_option(config_path, given), runtime_dir, record, open_view)
        return
    options.refuse_options(["backend", "display"], "is for real cards: leave out that, or --simulate")
    from gpufan.daemon.simulation import SimulationOptions, run_simulation
    from gpufan.terminal.tables import print_run_summary

    # A simulation depends on nothing of this machine: neither the default settings file nor the default folder.
    source = Source(config_path, required=True, options=given)
    folder = runtime_dir if options.is_option_given("runtime_dir") else None
    simulation = SimulationOptions(simulate, workload, time_scale)
    with run_view() as open_view:
        summaries = run_simulation(source, folder, record, simulation, open_view)
    print_run_summary(summaries)


@click.command(cls=Command)
@options.gpu
@click.option(
    "--taken", "only_taken", is_flag=True, help="Only the cards whose fans a killed gpufan set; the service uses this."
)
@options.backend
@options.display
@options.config
@options.runtime_dir
def restore(
    gpus: tuple[str, ...], only_taken: bool, config_path: Path | None, runtime_dir: Path, **settings: Any
) -> None:
    """Give every fan back to the driver, and restore the limits that a killed gpufan has changed.

    It does no harm to repeat this.
    """
    source = options.source_of_config_option(config_path, options.keys_of_given_options(settings))
    if only_taken:
        options.refuse_options(["gpus"], "names cards, and --taken does so too: leave one out")
    with log_to_stderr():
        lines = restore_taken(runtime_dir, source) if only_taken else restore_fans(gpus, runtime_dir, source)
        for line in lines:
            click.echo(line)


@click.command(cls=Command)
@options.config
@options.runtime_dir
def xserver(config_path: Path | None, runtime_dir: Path) -> None:
    """Run a headless X server that can set the fans of the cards in the settings, until stopped.

    Only for drivers that set fans through X; `gpufan run` starts one when it needs one.
    """
    with log_to_stderr():
        settings = read_settings_or_last_good(options.source_of_config_option(config_path)).settings
        run_xserver(runtime_dir / "xserver", settings.run_settings().gpus, click.echo)
