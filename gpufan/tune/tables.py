"""What `simulate` and `tune` print."""

import math
from collections.abc import Callable, Sequence

import click
from rich.console import Console
from rich.table import Table

from gpufan.config.settings import DEFAULT_PATH
from gpufan.tune.fit import Fit, FittedPlant
from gpufan.tune.propose import Candidate, Proposal, gaps
from gpufan.tune.replay import HEADINGS, Outcome

_PARAMETERS: tuple[tuple[str, str, str, Callable[[FittedPlant], float]], ...] = (
    ("inlet air", "°C", ".1f", lambda plant: plant.inlet_c),
    ("resistance at 50 %", "K/W", ".3f", lambda plant: plant.resistance(50)),
    ("resistance at 100 %", "K/W", ".3f", lambda plant: plant.resistance(100)),
    ("R0, at any speed", "K/W", ".3f", lambda plant: plant.resistance_floor),
    ("of that die to heatsink", "K/W", ".3f", lambda plant: plant.die_resistance),
    ("R1, at full speed", "K/W", ".3f", lambda plant: plant.resistance_flow),
    ("exponent n", "", ".2f", lambda plant: plant.resistance_exponent),
    ("heat capacity C", "J/K", ".0f", lambda plant: plant.heat_capacity),
    ("heat of other cards", "K/W", ".3f", lambda plant: plant.coupling),
)


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Print a row for each setting."""
    table = _table(*HEADINGS)
    for outcome in outcomes:
        table.add_row(*outcome.row)
    Console().print(table)


def print_proposal(proposal: Proposal) -> None:
    """Print what was learnt of a card, what settings would come to, and which to take."""
    card, console = proposal.fit.card, Console()
    temperatures_c = [reading.temperature_c for reading in card.readings]
    seen = f"{min(temperatures_c):g}..{max(temperatures_c):g} °C"
    click.echo(f"{card.label}: {len(temperatures_c)} readings in {card.seconds / 60:.0f} min, {seen}\n")
    _print_fit(proposal.fit)
    for gap in gaps(proposal.fit):
        console.print(f"note: {gap}", markup=False, highlight=False)
    click.echo()
    _print_candidates(proposal.candidates)
    click.echo()
    console.print(proposal.reason, markup=False, highlight=False)
    click.echo()


def print_config(proposals: Sequence[Proposal]) -> None:
    """Print the lines that take on what is proposed, and where they belong."""
    changes = [proposal.config() for proposal in proposals if proposal.best is not None]
    if changes:
        click.echo(f"for {DEFAULT_PATH}, and then `sudo systemctl reload gpufan`:\n")
        click.echo("\n".join(changes), nl=False)


def _print_fit(fit: Fit) -> None:
    table = _table("R(d) = R0 + R1·d^-n", "fitted", "90 % sure", "")
    alone = not any(reading.others_w for reading in fit.card.readings)
    for name, unit, digits, value in _PARAMETERS[: -1 if alone else None]:
        low, high = (format(end, digits) for end in fit.interval(value))
        table.add_row(name, format(value(fit.plant), digits), f"{low}..{high}", unit)
    table.add_row("misfit", f"{fit.misfit_k:.2f}", "", "K; rounding alone makes 0.29")
    Console().print(table)


def _print_candidates(candidates: Sequence[Candidate]) -> None:
    setting, peak, *others, _ = HEADINGS  # throttling starts above every limit
    table = _table(setting, peak, "at most", *others)
    for candidate in candidates:
        _, peak, *values, _ = candidate.outcome.row
        at_most = "" if math.isnan(candidate.at_most_c) else f"{candidate.at_most_c:.1f}"
        table.add_row(str(candidate), peak, at_most, *values)
    Console().print(table)


def _table(first: str, *headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left", no_wrap=bool(heading))
    return table
