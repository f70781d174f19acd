"""The commands: parse, call one function, print. No logic of its own."""

import io
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from gpufan.cli.deploy import deploy
from gpufan.cli.doctor import doctor
from gpufan.cli.history import history, keep_history, report
from gpufan.cli.metrics import dashboard, exporter
from gpufan.cli.options import (
    WORKLOAD,
    FloatRange,
    backend_option,
    config_option,
    debug_option,
    display_option,
    gpu_option,
    is_given,
    read_duration_s,
    read_with,
    runtime_option,
    settings_source,
    simulate_option,
)
from gpufan.cli.service import install_service, uninstall_service
from gpufan.cli.setup_xorg import setup_xorg
from gpufan.cli.shell import completion, man
from gpufan.cli.tune import simulate, tune
from gpufan.config import schema as config
from gpufan.config.settings import Source
from gpufan.core.curve import Curve
from gpufan.errors import GpufanError, InputError
from gpufan.system.paths import RUNTIME_FOLDER, SNAPSHOT
from gpufan.system.printable import printable


def _time_scale(text: str) -> float:
    try:
        scale = float("inf" if text == "max" else text)
    except ValueError:
        scale = 0.0
    if not scale > 0:
        raise InputError(f"'{text}' is not a speed: write a number above 0, or max")
    return scale


def _refuse_without_simulate(*names: str) -> None:
    """Options of a simulation must not be taken to mean anything for real cards."""
    for name in names:
        if is_given(name):
            raise InputError(f"--{name.replace('_', '-')} goes with --simulate: add that, or leave it out")


def _print_versions(context: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:
    if is_asked and not context.resilient_parsing:
        from gpufan.system.versions import versions

        click.echo(versions())
        context.exit()


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Show the versions of gpufan, driver, its binding and Python.",
)
@debug_option
@click.pass_context
def cli(context: click.Context) -> None:
    """Fan control for NVIDIA cards: cool, quiet, and never left standing still.

    Try it without a card: gpufan run --simulate --time-scale 60
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@click.option(
    "--curve",
    metavar="T:D,...",
    callback=read_with(Curve.parse),
    default=str(config.DEFAULTS.curve),
    show_default=True,
    help="Duty in percent over temperature in °C, linear between points; 'auto' as the first duty leaves the fans to"
    " the driver below the second point.",
)
@click.option(
    "--target",
    "target_c",
    type=FloatRange(*config.limits("target_c")),
    metavar="°C",
    help="Hold this temperature or less with the least sound; the curve counts only above it.",
)
@gpu_option
@backend_option
@display_option
@click.option(
    "--interval",
    "interval_s",
    type=FloatRange(*config.limits("interval_s")),
    metavar="SECONDS",
    default=config.DEFAULTS.interval_s,
    show_default=True,
    help="Time between readings.",
)
@click.option(
    "--hysteresis",
    "hysteresis_c",
    type=FloatRange(*config.limits("hysteresis_c")),
    metavar="°C",
    default=config.DEFAULTS.hysteresis_c,
    show_default=True,
    help="How much a card must cool before its fans slow down.",
)
@click.option(
    "--hold",
    "hold_s",
    type=FloatRange(*config.limits("hold_s")),
    metavar="SECONDS",
    default=config.DEFAULTS.hold_s,
    show_default=True,
    help="How long it must stay that cool.",
)
@click.option(
    "--min-duty",
    "min_duty_percent",
    type=click.IntRange(*config.limits("min_duty_percent")),
    metavar="PERCENT",
    help="Lowest duty ever set. [default: the card's own, and 30 where that is under 20]",
)
@click.option("--dry-run", is_flag=True, help="Read the cards, say what would be set, set nothing.")
@simulate_option
@click.option(
    "--workload",
    type=WORKLOAD,
    default="epochs",
    show_default=True,
    help="What the simulated cards are busy with.",
)
@click.option(
    "--time-scale",
    metavar="X|max",
    callback=read_with(_time_scale),
    default="1",
    show_default=True,
    help="Simulated seconds per second.",
)
@click.option(
    "--duration",
    "duration_s",
    metavar="90s|30m|1h",
    callback=read_with(read_duration_s),
    help="Stop after this long. [default: never]",
)
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Append a row for each card and tick to this CSV file, for `gpufan tune`.",
)
@config_option
@runtime_option
@debug_option
def run(
    simulate: str | None,
    workload: str,
    time_scale: float,
    record: Path | None,
    config_path: Path | None,
    runtime_dir: Path | None,
    **options: Any,
) -> None:
    """Keep the cards cool along a curve, or at a target, until stopped.

    However it ends, the fans are given back to the driver. Options count more than the file of settings.
    """
    from gpufan.daemon.run import SimulationOptions, run_cards, run_simulation
    from gpufan.terminal.report import open_report

    given = config.RunKeys(**{key: value for key, value in options.items() if is_given(key)})
    if simulate is None:
        _refuse_without_simulate("workload", "time_scale")
        run_cards(settings_source(config_path, given), runtime_dir or RUNTIME_FOLDER, record, open_report)
        return
    for name in ("backend", "display"):
        if is_given(name):
            raise InputError(f"--{name} is for real cards: leave out that, or --simulate")
    # A simulation depends on nothing of this machine, so there the file must be asked for.
    source = Source(config_path, required=True, options=given)
    summaries = run_simulation(
        source, runtime_dir, record, SimulationOptions(simulate, workload, time_scale), open_report
    )
    from gpufan.terminal.tables import print_summary

    print_summary(summaries)


@cli.group("config", invoke_without_command=True)
@click.pass_context
def config_group(context: click.Context) -> None:
    """Check and show the file of settings."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@config_group.command()
@config_option
@debug_option
def check(config_path: Path | None) -> None:
    """Look for mistakes in the file of settings, and change nothing."""
    source = settings_source(config_path)
    settings = source.read()
    if settings.path is None:
        click.echo(f"no {source.path}: what is built in holds")
    else:
        click.echo(f"{settings.path}: no mistake found")


@config_group.command()
@click.argument("keys", metavar="[KEY]...", nargs=-1, type=click.Choice(config.RUN_KEYS))
@config_option
@debug_option
def show(keys: tuple[str, ...], config_path: Path | None) -> None:
    """Show every value in effect without options, and where it came from.

    With KEYs, only those, and what they mean.
    """
    from gpufan.terminal.tables import print_settings

    print_settings(settings_source(config_path).read(), keys)


@cli.command("list")
@gpu_option
@backend_option
@display_option
@simulate_option
@runtime_option
@debug_option
def list_cards(
    gpus: tuple[str, ...], backend: str, display: str | None, simulate: str | None, runtime_dir: Path | None
) -> None:
    """Show the cards, their fans and what controls them."""
    from gpufan.daemon.run import find
    from gpufan.terminal.tables import print_cards

    print_cards(find(gpus, simulate, backend, display, runtime_dir or RUNTIME_FOLDER))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print the snapshot as it is; with --watch each on a line.")
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C; in a pipe, with a line for each change.")
@runtime_option
@debug_option
def status(as_json: bool, watch: bool, runtime_dir: Path | None) -> None:
    """Show what the running gpufan does, and why."""
    folder = runtime_dir or RUNTIME_FOLDER
    if watch:
        from gpufan.terminal.watch import watch as watch_snapshots

        watch_snapshots(folder / SNAPSHOT, service=folder == RUNTIME_FOLDER, as_json=as_json)
        return
    from gpufan.terminal.tables import print_status

    print_status(folder / SNAPSHOT, as_json=as_json)


@cli.command()
@gpu_option
@backend_option
@display_option
@config_option
@runtime_option
@debug_option
def restore(gpus: tuple[str, ...], config_path: Path | None, runtime_dir: Path | None, **options: Any) -> None:
    """Give every fan back to the driver. Harmless to repeat."""
    from gpufan.daemon.run import restore as give_all_back

    given = config.RunKeys(**{key: value for key, value in options.items() if is_given(key)})
    for line in give_all_back(gpus, runtime_dir or RUNTIME_FOLDER, settings_source(config_path, given)):
        click.echo(line)


@cli.command()
@runtime_option
@debug_option
def xserver(runtime_dir: Path | None) -> None:
    """Keep a headless X server that can set fans.

    Only where fans need X; `gpufan run` starts one by itself.
    """
    from gpufan.daemon.run import run_xserver

    run_xserver((runtime_dir or RUNTIME_FOLDER) / "xserver", click.echo)


cli.add_command(doctor)
cli.add_command(setup_xorg)
cli.add_command(history)
cli.add_command(report)
cli.add_command(tune)
cli.add_command(simulate)
cli.add_command(keep_history)
cli.add_command(exporter)
cli.add_command(dashboard)
cli.add_command(install_service)
cli.add_command(uninstall_service)
cli.add_command(deploy)
cli.add_command(man)
cli.add_command(completion)


def main() -> None:
    """Run the command line; end the process with 0, 1 (failed) or 2 (bad input), and one line that says why."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed when we were started
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r" if name == "stdin" else "w"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that has no degree sign shows a question mark.
        sys.stdout.reconfigure(errors="replace")
    try:
        ended_with = cli.main(standalone_mode=False)
        sys.stdout.flush()
        status, message = ended_with or 0, None
    except click.ClickException as error:
        status, message = error.exit_code, " ".join(error.format_message().split())
    except click.Abort:
        status, message = 130, "interrupted"
    except BrokenPipeError:
        # Whoever read our output has had enough; the interpreter must not try to flush it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status, message = 1, None
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        known = isinstance(error, GpufanError)
        status = error.exit_status if isinstance(error, GpufanError) else 1
        message = str(error) if known else f"{type(error).__name__}: {error} (this is a bug: --debug shows where)"
    if message:
        with suppress(OSError):  # the terminal may be gone
            print(f"gpufan: {printable(message)}", file=sys.stderr)
    sys.exit(status)
