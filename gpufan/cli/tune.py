"""The commands that look for better settings: `gpufan simulate` and `gpufan tune`."""

from collections.abc import Iterable
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from gpufan.cli import options
from gpufan.cli.command import Command
from gpufan.config.settings import Source
from gpufan.core.curve import Curve
from gpufan.daemon.recording import Row, read_recording
from gpufan.daemon.summary import HOT_C
from gpufan.errors import InputError
from gpufan.history import plot
from gpufan.system.paths import SNAPSHOT
from gpufan.tune import boxes, row_sources
from gpufan.tune.fit import fit
from gpufan.tune.propose import propose
from gpufan.tune.recorded_cards import choose_recorded, recorded_cards
from gpufan.tune.replay import replay, settings_to_compare
from gpufan.tune.show import outcome_panels, print_config, print_fit, print_outcomes, print_proposals


@click.command(cls=Command)
@options.curve("curves", multiple=True, help="A curve to compare. Repeatable.")
@options.target("targets_c", multiple=True, help="A target temperature to compare. Repeatable.")
@click.option(
    "--profile",
    type=click.Choice(options.PROFILES),
    metavar="PROFILE",
    default="dual-1080ti",
    help=f"The simulated machine: {', '.join(options.PROFILES)}.",
)
@options.file("--fitted", "recording", metavar="RECORDING", help="Simulate the cards of this recording instead.")
@options.gpu
@options.workload(show_default="epochs, or the recorded power", help="The load of the cards.")
@click.option("--inlet", "inlet_c", type=options.FloatRange(0, 60), metavar="°C", help="Temperature of the inlet air.")
@options.duration("--duration", "duration_s", default="1h", help="Simulated time.")
@options.plot
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

    The comparison includes the default target and the driver's own control. With several cards, the result is that of
    the worst card, and the sound of all together. A RECORDING is a file of `gpufan run --record`; its cards are
    simulated as `gpufan tune` learns them. Nothing of this machine is touched.
    """
    if duration_s > 24 * 3600:
        raise InputError("--duration: at most a day can be simulated")
    if output is not None:
        plot.check_plot_path(output)
    if recording is None:
        options.refuse_options(["gpus"], "goes with --fitted: add that, or leave it out")
        make_box = boxes.simulated_boxes(profile, workload, inlet_c)
    else:
        options.refuse_options(["profile"], "and --fitted exclude each other: leave out one")
        make_box = boxes.fitted_boxes(
            recording, gpus, workload if options.is_option_given("workload") else None, inlet_c
        )
    compared = settings_to_compare(curves, targets_c)
    outcomes = [replay(make_box(), name, settings, duration_s) for name, settings in compared.items()]
    print_outcomes(outcomes)
    if output is not None:
        plot.save_figure(plot.draw_time_panels(outcome_panels(outcomes, HOT_C)), output)


@click.command(cls=Command)
@click.argument("recording", required=False, type=options.FilePath())
@click.option(
    "--minutes", type=options.FloatRange(1, 24 * 60), metavar="N", default=10, help="Time to watch without a recording."
)
@options.gpu
@click.option(
    "--limit", "limit_c", type=options.FloatRange(50, 85), metavar="°C", default=80, help="Highest temperature allowed."
)
@options.plot
@click.option("--verbose", is_flag=True, help="Show what was learnt of each card, and all settings that were tried.")
@options.simulate
@options.config
@options.runtime_dir
def tune(
    recording: Path | None,
    minutes: float,
    gpus: tuple[str, ...],
    limit_c: float,
    output: Path | None,
    verbose: bool,
    simulate: str | None,
    config_path: Path | None,
    runtime_dir: Path,
) -> None:
    """Learn from a recording how each card cools, and propose the quietest setting that holds it under a limit.

    RECORDING is a file of `gpufan run --record` or `gpufan history --csv`. Without it, the running gpufan is watched
    for some minutes, under its present load. Fans are not touched, no load is made, and root is not needed.
    """
    if recording is not None:
        options.refuse_options(["minutes", "simulate"], "has no meaning with a recording: leave out one of them")
    if output is not None:
        plot.check_plot_path(output)
    settings = (
        options.source_of_config_option(config_path) if simulate is None else Source(config_path, required=True)
    ).read()
    rows: Iterable[Row]
    if recording is not None:
        rows, source = read_recording(recording), str(recording)
    elif simulate is not None:
        rows = row_sources.simulated_rows(simulate, minutes * 60, settings.for_card)
        source = f"the simulated {simulate}"
    else:
        rows, source = _watch_for_tune_command(runtime_dir / SNAPSHOT, minutes), "the running gpufan"
    cards = choose_recorded(recorded_cards(rows), gpus, source)
    proposals = [propose(fit(card), settings.for_card(card.info), limit_c) for card in cards]
    if verbose:
        for proposal in proposals:
            print_fit(proposal)
    print_proposals(proposals)
    print_config(proposals)
    if output is not None:
        drawn = []
        for proposal in proposals:
            drawn += outcome_panels([candidate.outcome for candidate in proposal.candidates], limit_c)
        plot.save_figure(plot.draw_time_panels(drawn), output)


def _watch_for_tune_command(path: Path, minutes: float) -> list[Row]:
    """Read the snapshots in the file `path` for `minutes`. Return their readings.

    Shows a progress bar if standard error is a terminal. Returns earlier after Ctrl-C, or when gpufan ends.
    """
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("watching; ctrl-c ends it early", total=minutes * 60)
        return row_sources.rows_of_running_gpufan(
            path, minutes * 60, lambda seconds: progress.update(bar, completed=seconds)
        )
