"""The commands `gpufan keep-history`, `history` and `report`: parse, call, print."""

from pathlib import Path

import click

from gpufan.options import debug_option, runtime_option
from gpufan.report.history import DEFAULT_FOLDER
from gpufan.runtime import DEFAULT_FOLDER as RUNTIME_FOLDER
from gpufan.runtime import SNAPSHOT

state_option = click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    envvar="GPUFAN_STATE_DIR",
    metavar="FOLDER",
    default=DEFAULT_FOLDER,
    show_default=True,
    help="Where the history lies.",
)


@click.command("keep-history", short_help="Keep a week's history, for `history` and `report`.")
@state_option
@runtime_option
@debug_option
def keep_history(state_dir: Path, runtime_dir: Path | None) -> None:
    """Keep what the running gpufan did, until stopped: a day by the second, a week by the minute.

    Needs no rights but to write to its folder. install-service makes it a service of its own.
    """
    from gpufan.report.history.keeper import keep

    keep((runtime_dir or RUNTIME_FOLDER) / SNAPSHOT, state_dir, lambda text: click.echo(f"gpufan: {text}", err=True))
