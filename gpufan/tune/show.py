"""Prints the tables of `gpufan simulate` and `gpufan tune`, and makes the panels of the pictures of both commands."""

import math
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from gpufan.config.settings import DEFAULT_PATH
from gpufan.daemon.summary import HOT_C
from gpufan.history.plot import Panel, Series
from gpufan.tune.plant import FittedPlant
from gpufan.tune.propose import Candidate, Proposal, proposal_notes
from gpufan.tune.replay import Outcome

_HOT = f"s > {HOT_C:g} °C"

_PARAMETERS: tuple[tuple[str, str, str, Callable[[FittedPlant], float]], ...] = (
    ("inlet air", "°C", ".1f", lambda plant: plant.inlet_c),
    ("resistance at 50 %", "K/W", ".3f", lambda plant: plant.resistance(50)),
    ("resistance at 100 %", "K/W", ".3f", lambda plant: plant.resistance(100)),
    ("R0, at any speed", "K/W", ".3f", lambda plant: plant.resistance_floor),
    ("R0, die to heatsink", "K/W", ".3f", lambda plant: plant.die_resistance),
    ("R1, at full speed", "K/W", ".3f", lambda plant: plant.resistance_flow),
    ("exponent n", "", ".2f", lambda plant: plant.resistance_exponent),
    ("heat capacity C", "J/K", ".0f", lambda plant: plant.heat_capacity),
    ("fans that stand still", "K/W", ".2f", lambda plant: plant.resistance_still),
    ("air warmed by the card", "K/W", ".3f", lambda plant: plant.case_resistance),
    ("warming by other cards", "K/W", ".3f", lambda plant: plant.coupling),
)


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Print a table with a row for each setting and its outcome."""
    table = _tune_table("setting", "peak °C", _HOT, "dB(A)", "swings", "throttled")
    for outcome in outcomes:
        table.add_row(outcome.name, *_outcome_cells(outcome), f"{outcome.throttled_percent or 0:.1f} %")
    Console().print(table)


def print_proposals(proposals: Sequence[Proposal]) -> None:
    """Print one table for all cards. Then print for each card why a setting is proposed, or why none is.

    For each card the table has a row for the recording, for the present setting, and for the proposed setting if there
    is one.
    """
    table = _tune_table("", "peak °C", "at most", "dB(A)", "swings")
    for proposal in proposals:
        table.add_row(proposal.fit.card.label)
        for candidate in (*proposal.candidates[:2], proposal.best):
            if candidate is not None:
                peak_c, at_most, _, *others = _candidate_cells(candidate)
                name = f"{'proposed: ' if candidate is proposal.best else ''}{candidate.outcome.name}"
                table.add_row(name, peak_c, at_most, *others)
    console = Console()
    console.print(table)
    for proposal in proposals:
        _print_reasons(proposal, console)
    print()


def _print_reasons(proposal: Proposal, console: Console) -> None:
    """Print the reason for a proposal, how long the recording is, the error of predictions, and the notes."""
    fit = proposal.fit
    temperatures_c = [reading.temperature_c for reading in fit.card.readings]
    learnt = f"learnt from {len(temperatures_c)} readings in {fit.card.seconds / 60:.0f} min"
    learnt += f", {min(temperatures_c):g}..{max(temperatures_c):g} °C"
    if fit.unseen_k is not None:
        learnt += f"; the last third was predicted from the first two with an error of {fit.unseen_k:.1f} K"
    lines = [proposal.reason, learnt, *(f"note: {note}" for note in proposal_notes(fit))]
    console.print(f"\n{fit.card.label}: " + "\n".join(lines), markup=False, highlight=False)


def print_fit(proposal: Proposal) -> None:
    """Print the fitted constants of the card, and a table of `proposal.candidates`."""
    fit = proposal.fit
    table = _tune_table(fit.card.label, "fitted", "90 % sure", "")
    alone = not any(reading.others_w for reading in fit.card.readings)
    for name, unit, digits, value in _PARAMETERS[: -1 if alone else None]:
        low, high = (format(end, digits) for end in fit.interval(value))
        table.add_row(name, format(value(fit.plant), digits), f"{low}..{high}", unit)
    table.add_row("misfit", f"{fit.misfit_k:.2f}", "", "K; rounding alone makes 0.29")
    tried = _tune_table("setting", "peak °C", "at most", _HOT, "dB(A)", "swings")
    for candidate in proposal.candidates:
        # Without a column for throttling: it starts above every limit.
        tried.add_row(candidate.outcome.name, *_candidate_cells(candidate))
    console = Console()
    console.print(table)
    print()
    console.print(tried)
    print()


def print_config(proposals: Sequence[Proposal]) -> None:
    """Print the lines that a user can put into the settings file to apply the proposals, and the path of this file.

    Prints nothing if no setting is proposed.
    """
    changes = [proposal.config() for proposal in proposals if proposal.best is not None]
    if changes:
        print(f"add this to {DEFAULT_PATH}, then run `sudo systemctl reload gpufan`:\n")
        print("\n".join(changes), end="")


def outcome_panels(outcomes: Sequence[Outcome], limit_c: float) -> list[Panel]:
    """Return the panels of a picture: temperature and duty of each card, and the sound of all cards together.

    Each panel has a line for each outcome. The panels of temperature have a horizontal line at `limit_c`, °C.
    """

    def series(values: Callable[[Outcome], Sequence[float]]) -> list[Series]:
        return [Series(outcome.name, outcome.times_s, values(outcome)) for outcome in outcomes]

    labels = [trace.label for trace in outcomes[0].cards]
    drawn = []
    for number, label in enumerate(labels):
        temperatures = series(lambda outcome: outcome.cards[number].temperature_c)  # noqa: B023  # called at once
        drawn.append(Panel(f"{label}\ntemperature", "°C", temperatures, [(limit_c, f"{limit_c:g} °C")]))
        duties = series(lambda outcome: outcome.cards[number].duty_percent)  # noqa: B023  # called at once
        drawn.append(Panel(f"{label}\nduty", "%", duties))
    sounds = series(lambda outcome: [sound or math.nan for sound in outcome.sounds_db])
    return [*drawn, Panel(f"{'all cards' if len(labels) > 1 else labels[0]}\nsound", "dB(A)", sounds)]


def _candidate_cells(candidate: Candidate) -> tuple[str, ...]:
    """Return the cells of a row: peak, `at_most_c`, seconds above `HOT_C`, sound, swings."""
    peak_c, *others = _outcome_cells(candidate.outcome)
    return peak_c, "" if math.isnan(candidate.at_most_c) else f"{candidate.at_most_c:.1f}", *others


def _outcome_cells(outcome: Outcome) -> tuple[str, ...]:
    """Return the cells of a row: peak, seconds above `HOT_C`, sound, swings."""
    return f"{outcome.peak_c:.1f}", f"{outcome.hot_s:.0f}", f"{outcome.sound_db:.1f}", str(outcome.swings)


def _tune_table(first: str, *headings: str) -> Table:
    """Return an empty table. Its first column is for texts and has the heading `first`.

    The other columns are for numbers and have `headings`. A column with an empty heading is for texts.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left", no_wrap=bool(heading), overflow="fold")
    return table
