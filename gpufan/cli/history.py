"""The commands `gpufan keep-history`, `history` and `report`: parse, call, print."""

import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpufan.cli.options import debug_option, gpu_option, read_duration_s, read_with, runtime_option
from gpufan.errors import InputError
from gpufan.history import DEFAULT_FOLDER
from gpufan.system.paths import RUNTIME_FOLDER, SNAPSHOT

if TYPE_CHECKING:
    from gpufan.history.reader import Past, Span

state_option = click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    envvar="GPUFAN_STATE_DIR",
    metavar="FOLDER",
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Where the history lies.",
)
last_option = click.option(
    "--last",
    "last_s",
    metavar="30m|24h|7d",
    callback=read_with(read_duration_s),
    help="Only so long until now.",
)


@click.command("keep-history", short_help="Keep a week's history, for `history` and `report`.")
@state_option
@runtime_option
@debug_option
def keep_history(state_dir: Path, runtime_dir: Path | None) -> None:
    """Keep what the running gpufan did, until stopped: a day by the second, a week by the minute.

    Needs no rights but to write to its folder. install-service makes it a service of its own.
    """
    from gpufan.history.keeper import keep

    keep((runtime_dir or RUNTIME_FOLDER) / SNAPSHOT, state_dir, lambda text: click.echo(f"gpufan: {text}", err=True))


@click.command(short_help="Show what the cards did in the last week.")
@click.option("--day", metavar="DATE", help="Only this day: 2026-11-22, today or yesterday.")
@last_option
@gpu_option
@click.option("--events", "as_events", is_flag=True, help="What happened and why, line by line.")
@click.option("--csv", "as_csv", is_flag=True, help="Every reading, as `gpufan tune` takes it.")
@state_option
@debug_option
def history(
    day: str | None, last_s: float | None, gpus: tuple[str, ...], as_events: bool, as_csv: bool, state_dir: Path
) -> None:
    """Show how hot, how loud and how busy the cards were, day by day, and what went wrong.

    A reading is kept for a day, the mean, least and most of a minute for a week.
    """
    if as_events and as_csv:
        raise InputError("--events and --csv are two ways to print it: leave out one")
    if day is not None and last_s is not None:
        raise InputError("--day and --last are two ways to say when: leave out one")
    from gpufan.daemon.recording import HEADER, to_csv
    from gpufan.history import daily as days
    from gpufan.history.reader import Past

    wanted = None if day is None else days.read_day(day)
    with Past(state_dir) as past:
        cards = past.cards(gpus)
        span = wanted or _until_now(past, last_s)
        if as_csv:
            click.echo(HEADER, nl=False)
            rows = past.readings(cards, span)
            while some := list(islice(rows, 1000)):
                click.echo(to_csv(some), nl=False)
        elif as_events:
            days.print_events(cards, past.events(cards, span))
        else:
            days.print_days(past, cards, span)


@click.command(short_help="Write a page or picture of the last week.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE.html|FILE.png",
    default="gpufan-report.html",
    show_default=True,
    help="The file to write.",
)
@last_option
@gpu_option
@state_option
@debug_option
def report(output: Path, last_s: float | None, gpus: tuple[str, ...], state_dir: Path) -> None:
    """Write temperature, fans, power, sound and events of the cards over time, and where on their curves they lived.

    HTML is one file that needs nothing beside it, to be opened in a browser, sent or printed. Needs the extra `plot`:
    pip install 'gpufan[plot]'
    """
    from gpufan.history.page import SUFFIXES, write_report
    from gpufan.history.plot import check_output
    from gpufan.history.reader import Past

    check_output(output, SUFFIXES)
    with Past(state_dir) as past:
        write_report(past, past.cards(gpus), _until_now(past, last_s), output)
    click.echo(f"wrote {output}")


def _until_now(past: "Past", last_s: float | None) -> "Span":
    """All of the history, or only the last so many seconds."""
    span = past.span()
    return span if last_s is None else span._replace(begin_s=time.time() - last_s)
