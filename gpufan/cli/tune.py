"""The commands `gpufan simulate` and `gpufan tune`: parse, call, print."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpufan.cli.options import (
    PROFILE,
    WORKLOAD,
    FloatRange,
    config_option,
    debug_option,
    gpu_option,
    is_given,
    read_duration_s,
    read_with,
    runtime_option,
    settings_source,
    simulate_option,
)
from gpufan.config.schema import limits
from gpufan.config.settings import Source
from gpufan.core.curve import Curve
from gpufan.errors import InputError
from gpufan.system.paths import RUNTIME_FOLDER, SNAPSHOT

if TYPE_CHECKING:
    from gpufan.daemon.recording import Row

_LONGEST_S = 86400.0

_output_option = click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw temperature, duty and sound over time into this file, .svg or .png.",
)


@click.command(short_help="Compare curves and targets on simulated cards.")
@click.option(
    "--curve",
    "curves",
    multiple=True,
    metavar="T:D,...",
    callback=read_with(Curve.parse),
    help="A curve to compare. Repeatable.",
)
@click.option(
    "--target",
    "targets_c",
    type=FloatRange(*limits("target_c")),
    multiple=True,
    metavar="°C",
    help="A temperature to hold, to compare. Repeatable.",
)
@click.option("--profile", type=PROFILE, default="dual-1080ti", show_default=True, help="The simulated box.")
@click.option(
    "--fitted",
    "recording",
    type=click.Path(path_type=Path),
    metavar="RECORDING",
    help="Instead of a box, the cards recorded by `gpufan run --record`, each fitted as `gpufan tune` does.",
)
@gpu_option
@click.option(
    "--workload",
    type=WORKLOAD,
    default="epochs",
    help="What the cards are busy with. [default: epochs, or the recorded power]",
)
@click.option(
    "--duration",
    "duration_s",
    metavar="90s|30m|1h",
    callback=read_with(read_duration_s),
    default="1h",
    show_default=True,
    help="How long, in simulated time.",
)
@click.option("--inlet", "inlet_c", type=FloatRange(0, 60), metavar="°C", help="Air that the cards take in.")
@_output_option
@debug_option
def simulate(
    curves: tuple[Curve, ...],
    targets_c: tuple[float, ...],
    profile: str,
    recording: Path | None,
    gpus: tuple[str, ...],
    workload: str,
    duration_s: float,
    inlet_c: float | None,
    output: Path | None,
) -> None:
    """Compare curves and targets on simulated cards: how hot, how loud, how restless.

    The default curve and the stock driver are compared too. Of several cards the worst counts, and the sound of all
    together. Nothing of this machine is touched.
    """
    if recording is not None and is_given("profile"):
        raise InputError("--fitted takes the place of --profile: leave one out")
    if recording is None and gpus:
        raise InputError("--gpu goes with --fitted: add that, or leave it out")
    if duration_s > _LONGEST_S:
        raise InputError("--duration: a day is the most that is simulated")
    from gpufan.history import plot

    if output is not None:
        plot.check_output(output)
    from gpufan.daemon.summary import HOT_C
    from gpufan.tune import compare
    from gpufan.tune.replay import panels, replay
    from gpufan.tune.tables import print_outcomes

    if recording is None:
        make_box = compare.simulated_boxes(profile, workload, inlet_c)
    else:
        make_box = compare.fitted_boxes(recording, gpus, workload if is_given("workload") else None, inlet_c)
    outcomes = [replay(make_box(), setting, duration_s) for setting in compare.settings(curves, targets_c)]
    print_outcomes(outcomes)
    if output is not None:
        plot.save(plot.time_panels(panels(outcomes, HOT_C)), output)


@click.command(short_help="Learn the cards from a recording, and propose settings.")
@click.argument("recording", required=False, type=click.Path(path_type=Path))
@click.option(
    "--minutes",
    type=FloatRange(1, 24 * 60),
    metavar="MINUTES",
    default=10,
    show_default=True,
    help="Without a recording: how long to watch the gpufan that runs.",
)
@gpu_option
@click.option(
    "--limit",
    "limit_c",
    type=FloatRange(50, 85),
    metavar="°C",
    default=80,
    show_default=True,
    help="The card is to stay at or under this.",
)
@_output_option
@simulate_option
@config_option
@runtime_option
@debug_option
def tune(
    recording: Path | None,
    minutes: float,
    gpus: tuple[str, ...],
    limit_c: float,
    output: Path | None,
    simulate: str | None,
    config_path: Path | None,
    runtime_dir: Path | None,
) -> None:
    """Learn how each card cools from a recording, and propose the quietest setting that keeps it under a limit.

    RECORDING is a file of `gpufan run --record` or `gpufan history --csv`. Without it the gpufan that runs is watched
    for some minutes, under whatever load there is. Fans are never touched, no load is made, and root is not needed.
    """
    if recording is not None and (is_given("minutes") or simulate is not None):
        raise InputError("--minutes and --simulate go without a recording: leave out one or the other")
    from gpufan.history import plot

    if output is not None:
        plot.check_output(output)
    from gpufan.daemon.recording import read
    from gpufan.tune import observe as live
    from gpufan.tune import propose
    from gpufan.tune.fit import fit
    from gpufan.tune.readings import choose, collect
    from gpufan.tune.replay import panels
    from gpufan.tune.tables import print_config, print_proposal

    settings = (settings_source(config_path) if simulate is None else Source(config_path, required=True)).read()
    rows: Iterable[Row]
    if recording is not None:
        rows, source = read(recording), str(recording)
    elif simulate is not None:
        rows, source = live.simulated(simulate, minutes * 60), f"the simulated {simulate}"
    else:
        rows, source = _watch((runtime_dir or RUNTIME_FOLDER) / SNAPSHOT, minutes), "the running gpufan"
    proposals = []
    for card in choose(collect(rows), gpus, source):
        proposals.append(propose.propose(fit(card), settings.for_card(card.info), limit_c))
        print_proposal(proposals[-1])
    print_config(proposals)
    if output is not None:
        drawn = [
            panel
            for proposal in proposals
            for panel in panels([c.outcome for c in proposal.candidates], limit_c, f"{proposal.fit.card.label}\n")
        ]
        plot.save(plot.time_panels(drawn), output)


def _watch(path: Path, minutes: float) -> "list[Row]":
    """Rows of what the running gpufan does for so long, with a bar for who waits."""
    from rich.console import Console
    from rich.progress import Progress

    from gpufan.tune import observe as live

    live.check_running(path)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("watching; ctrl-c goes on with what there is", total=minutes * 60)
        return live.watch(path, minutes * 60, lambda seconds: progress.update(bar, completed=seconds))
