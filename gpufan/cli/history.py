"""The commands that record and show the history: `gpufan keep-history`, `gpufan history` and `gpufan report`."""

import sys
import time
from pathlib import Path

import click

from gpufan.cli import options
from gpufan.cli.command import Command
from gpufan.history.local_time import parse_day
from gpufan.history.reader import HistoryReader, TimeRange
from gpufan.system.paths import SNAPSHOT

_last_option = options.duration(
    "--last", "last_s", metavar="30m|24h|7d", help="Only the period of this length that ends now."
)


@click.command("keep-history", cls=Command)
@options.state_dir
@options.runtime_dir
def keep_history(state_dir: Path, runtime_dir: Path) -> None:
    """Record what the running gpufan does, until stopped: each second for a day, each minute for a week.

    It needs no rights except to write to its folder. install-service installs it as a service of its own.
    """
    from gpufan.history.recorder import record_history
    from gpufan.terminal.log import log_to

    with log_to(sys.stderr):
        record_history(runtime_dir / SNAPSHOT, state_dir)


@click.command(cls=Command)
@click.option("--day", metavar="DATE", help="Only this day: 2026-11-22, today or yesterday.")
@_last_option
@options.gpu
@click.option("--events", "as_events", is_flag=True, help="Print each event and its cause on a line.")
@click.option("--csv", "as_csv", is_flag=True, help="Print every reading as CSV, for `gpufan tune`.")
@options.state_dir
def history(
    day: str | None, last_s: float | None, gpus: tuple[str, ...], as_events: bool, as_csv: bool, state_dir: Path
) -> None:
    """Show how hot, how loud and how busy the cards were on each day, and what went wrong.

    Every reading is stored for a day; mean, lowest and highest value of each minute are stored for a week.
    """
    if as_events:
        options.refuse_options(["as_csv"], "and --events exclude each other: leave out one")
    if day is not None:
        options.refuse_options(["last_s"], "and --day exclude each other: leave out one")
    from gpufan.history import tables

    day_range = None if day is None else parse_day(day)
    with HistoryReader(state_dir) as reader:
        cards = reader.cards(gpus)
        time_range = day_range or _range_of_last_option(reader, last_s)
        if as_csv:
            tables.print_csv(reader.readings(cards, time_range))
        elif as_events:
            tables.print_events(cards, reader.events(cards, time_range))
        else:
            tables.print_days(reader, cards, time_range)


@click.command(cls=Command)
@options.file("--output", metavar="FILE.html|FILE.png", default="gpufan-report.html", help="The file to write.")
@_last_option
@options.gpu
@options.state_dir
def report(output: Path, last_s: float | None, gpus: tuple[str, ...], state_dir: Path) -> None:
    """Write temperature, fans, power, sound and events of the cards over time, and the time spent on their curves.

    An HTML page is a single file, to be opened in a browser, sent or printed. A PNG needs the extra `plot`, and the
    plots of a page have more detail with it: pip install 'gpufan[plot]'
    """
    from gpufan.history.plot import check_plot_path
    from gpufan.history.report import SUFFIXES, write_report

    check_plot_path(output, SUFFIXES)
    with HistoryReader(state_dir) as reader:
        write_report(reader, reader.cards(gpus), _range_of_last_option(reader, last_s), output)
    click.echo(f"wrote {output}")


def _range_of_last_option(reader: HistoryReader, last_s: float | None) -> TimeRange:
    """Return the time range that the option --last chooses: the last `last_s` seconds.

    If `last_s` is None, return the range of the complete history.
    """
    time_range = reader.time_range()
    return time_range if last_s is None else time_range._replace(begin_s=time.time() - last_s)
