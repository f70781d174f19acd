"""The commands that record and show the past: `gpufan keep-history`, `gpufan history` and `gpufan report`."""

import time
from itertools import islice
from pathlib import Path

import click

from gpufan.cli import options
from gpufan.cli.command import Command
from gpufan.daemon.recording import HEADER, to_csv
from gpufan.history import DEFAULT_FOLDER
from gpufan.history.reader import Past, Span
from gpufan.system.paths import SNAPSHOT

_state_option = options.file(
    "--state-dir", envvar="GPUFAN_STATE_DIR", metavar="FOLDER", default=DEFAULT_FOLDER, help="Folder of the history."
)
_last_option = options.duration("--last", "last_s", metavar="30m|24h|7d", help="Only this long until now.")


@click.command("keep-history", cls=Command)
@_state_option
@options.runtime_dir
def keep_history(state_dir: Path, runtime_dir: Path) -> None:
    """Record what the running gpufan does, until stopped: each second for a day, each minute for a week.

    It needs no rights except to write to its folder. install-service installs it as a service of its own.
    """
    from gpufan.history.keeper import keep

    keep(runtime_dir / SNAPSHOT, state_dir, lambda text: click.echo(f"gpufan: {text}", err=True))


@click.command(cls=Command)
@click.option("--day", metavar="DATE", help="Only this day: 2026-11-22, today or yesterday.")
@_last_option
@options.gpu
@click.option("--events", "as_events", is_flag=True, help="Print each event and its cause on a line.")
@click.option("--csv", "as_csv", is_flag=True, help="Print every reading as CSV, for `gpufan tune`.")
@_state_option
def history(
    day: str | None, last_s: float | None, gpus: tuple[str, ...], as_events: bool, as_csv: bool, state_dir: Path
) -> None:
    """Show how hot, how loud and how busy the cards were on each day, and what went wrong.

    Every reading is stored for a day; mean, lowest and highest value of each minute are stored for a week.
    """
    if as_events:
        options.refuse(["as_csv"], "and --events exclude each other: leave out one")
    if day is not None:
        options.refuse(["last_s"], "and --day exclude each other: leave out one")
    from gpufan.history import daily as days

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


@click.command(cls=Command)
@options.file("--output", metavar="FILE.html|FILE.png", default="gpufan-report.html", help="The file to write.")
@_last_option
@options.gpu
@_state_option
def report(output: Path, last_s: float | None, gpus: tuple[str, ...], state_dir: Path) -> None:
    """Write temperature, fans, power, sound and events of the cards over time, and the time spent on their curves.

    An HTML page is a single file, to be opened in a browser, sent or printed. This needs the extra `plot`:
    pip install 'gpufan[plot]'
    """
    from gpufan.history.page import SUFFIXES, write_report
    from gpufan.history.plot import check_output

    check_output(output, SUFFIXES)
    with Past(state_dir) as past:
        write_report(past, past.cards(gpus), _until_now(past, last_s), output)
    click.echo(f"wrote {output}")


def _until_now(past: Past, last_s: float | None) -> Span:
    """The whole history, or its last `last_s` seconds."""
    span = past.span()
    return span if last_s is None else span._replace(begin_s=time.time() - last_s)
