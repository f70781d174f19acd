"""Tables and pictures of `gpufan simulate` and `gpufan tune`."""

import math
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from gpufan.config.settings import DEFAULT_PATH
from gpufan.daemon.summary import HOT_C
from gpufan.history.plot import Panel, Series
from gpufan.tune.fit import Fit
from gpufan.tune.plant import FittedPlant
from gpufan.tune.propose import Candidate, Proposal, gaps
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
    """Print a row for each setting."""
    table = _table("setting", "peak °C", _HOT, "dB(A)", "swings", "throttled")
    for outcome in outcomes:
        table.add_row(outcome.name, *_measures(outcome), f"{outcome.throttled_percent or 0:.1f} %")
    Console().print(table)


def print_proposals(proposals: Sequence[Proposal]) -> None:
    """Print one table of all cards: as recorded, now and as proposed; then, for each card, why."""
    table = _table("", "peak °C", "at most", "dB(A)", "swings")
    for proposal in proposals:
        table.add_row(proposal.fit.card.label)
        for candidate in (*proposal.candidates[:2], proposal.best):
            if candidate is not None:
                peak_c, at_most, _, *others = _cells(candidate)
                name = f"{'proposed: ' if candidate is proposal.best else ''}{candidate.outcome.name}"
                table.add_row(name, peak_c, at_most, *others)
    console = Console()
    console.print(table)
    for proposal in proposals:
        lines = [proposal.reason, _learnt_from(proposal.fit), *(f"note: {gap}" for gap in gaps(proposal.fit))]
        console.print(f"\n{proposal.fit.card.label}: " + "\n".join(lines), markup=False, highlight=False)
    print()


def _learnt_from(fit: Fit) -> str:
    """What the fit was learnt from, and the root mean square of its errors where it had not seen the recording."""
    temperatures_c = [reading.temperature_c for reading in fit.card.readings]
    text = f"learnt from {len(temperatures_c)} readings in {fit.card.seconds / 60:.0f} min"
    text += f", {min(temperatures_c):g}..{max(temperatures_c):g} °C"
    if fit.unseen_k is None:
        return text
    return f"{text}; the last third was predicted from the first two with an error of {fit.unseen_k:.1f} K"


def print_fit(proposal: Proposal) -> None:
    """Print the constants of a card, and all settings that were tried on it."""
    fit = proposal.fit
    table = _table(fit.card.label, "fitted", "90 % sure", "")
    alone = not any(reading.others_w for reading in fit.card.readings)
    for name, unit, digits, value in _PARAMETERS[: -1 if alone else None]:
        low, high = (format(end, digits) for end in fit.interval(value))
        table.add_row(name, format(value(fit.plant), digits), f"{low}..{high}", unit)
    table.add_row("misfit", f"{fit.misfit_k:.2f}", "", "K; rounding alone makes 0.29")
    tried = _table("setting", "peak °C", "at most", _HOT, "dB(A)", "swings")
    for candidate in proposal.candidates:
        # Without a column for throttling: it starts above every limit.
        tried.add_row(candidate.outcome.name, *_cells(candidate))
    console = Console()
    console.print(table)
    print()
    console.print(tried)
    print()


def print_config(proposals: Sequence[Proposal]) -> None:
    """Print the lines for the settings file that apply the proposals, and where they belong."""
    changes = [proposal.config() for proposal in proposals if proposal.best is not None]
    if changes:
        print(f"for {DEFAULT_PATH}, and then `sudo systemctl reload gpufan`:\n")
        print("\n".join(changes), end="")


def panels(outcomes: Sequence[Outcome], limit_c: float) -> list[Panel]:
    """Temperature and duty of each card and the sound of all cards over time, to be drawn: a line for each outcome."""

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


def _cells(candidate: Candidate) -> tuple[str, ...]:
    peak_c, *others = _measures(candidate.outcome)
    return peak_c, "" if math.isnan(candidate.at_most_c) else f"{candidate.at_most_c:.1f}", *others


def _measures(outcome: Outcome) -> tuple[str, ...]:
    return f"{outcome.peak_c:.1f}", f"{outcome.hot_s:.0f}", f"{outcome.sound_db:.1f}", str(outcome.swings)


def _table(first: str, *headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left", no_wrap=bool(heading), overflow="fold")
    return table
