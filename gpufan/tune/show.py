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
    ("warming by other cards", "K/W", ".3f", lambda plant: plant.coupling),
)


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Print a row for each setting."""
    table = _table("setting", "peak °C", _HOT, "dB(A)", "swings", "throttled")
    for outcome in outcomes:
        peak_c, *values = _cells(outcome)
        table.add_row(outcome.name, peak_c, *values, f"{outcome.throttled_percent or 0:.1f} %")
    Console().print(table)


def print_proposal(proposal: Proposal) -> None:
    """Print the fit of a card, the settings that were tried, and the proposal."""
    card, console = proposal.fit.card, Console()
    temperatures_c = [reading.temperature_c for reading in card.readings]
    seen = f"{min(temperatures_c):g}..{max(temperatures_c):g} °C"
    print(f"{card.label}: {len(temperatures_c)} readings in {card.seconds / 60:.0f} min, {seen}\n")
    _print_fit(proposal.fit)
    for gap in gaps(proposal.fit):
        console.print(f"note: {gap}", markup=False, highlight=False)
    print()
    _print_candidates(proposal.candidates)
    print()
    console.print(proposal.reason, markup=False, highlight=False)
    print()


def print_config(proposals: Sequence[Proposal]) -> None:
    """Print the lines for the settings file that apply the proposals, and where they belong."""
    changes = [proposal.config() for proposal in proposals if proposal.best is not None]
    if changes:
        print(f"for {DEFAULT_PATH}, and then `sudo systemctl reload gpufan`:\n")
        print("\n".join(changes), end="")


def panels(outcomes: Sequence[Outcome], limit_c: float, card: str = "") -> list[Panel]:
    """Temperature, duty and sound of `outcomes` over time, to be drawn; `card` is put before each quantity."""

    def series(values: Callable[[Outcome], Sequence[float]]) -> list[Series]:
        return [Series(outcome.name, outcome.times_s, values(outcome)) for outcome in outcomes]

    return [
        Panel(f"{card}temperature", "°C", series(lambda o: o.temperature_c), [(limit_c, f"{limit_c:g} °C")]),
        Panel(f"{card}duty", "%", series(lambda o: o.duty_percent)),
        Panel(f"{card}sound", "dB(A)", series(lambda o: [value or math.nan for value in o.sounds_db])),
    ]


def _print_fit(fit: Fit) -> None:
    table = _table("R(d) = R0 + R1·d^-n", "fitted", "90 % sure", "")
    alone = not any(reading.others_w for reading in fit.card.readings)
    for name, unit, digits, value in _PARAMETERS[: -1 if alone else None]:
        low, high = (format(end, digits) for end in fit.interval(value))
        table.add_row(name, format(value(fit.plant), digits), f"{low}..{high}", unit)
    table.add_row("misfit", f"{fit.misfit_k:.2f}", "", "K; rounding alone makes 0.29")
    Console().print(table)


def _print_candidates(candidates: Sequence[Candidate]) -> None:
    # Without a column for throttling: it starts above every limit.
    table = _table("setting", "peak °C", "at most", _HOT, "dB(A)", "swings")
    for candidate in candidates:
        peak_c, *values = _cells(candidate.outcome)
        at_most = "" if math.isnan(candidate.at_most_c) else f"{candidate.at_most_c:.1f}"
        table.add_row(candidate.outcome.name, peak_c, at_most, *values)
    Console().print(table)


def _cells(outcome: Outcome) -> tuple[str, ...]:
    return f"{outcome.peak_c:.1f}", f"{outcome.hot_s:.0f}", f"{outcome.sound_db:.1f}", str(outcome.swings)


def _table(first: str, *headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left", no_wrap=bool(heading))
    return table
