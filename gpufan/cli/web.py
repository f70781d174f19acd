"""The command `gpufan web`."""

from pathlib import Path

import click

from gpufan.cli import options
from gpufan.cli.command import Command
from gpufan.errors import MissingExtra
from gpufan.history import DEFAULT_FOLDER


@click.command(cls=Command)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    type=options.parsed_option_type(options.read_listen_option),
    default="127.0.0.1:10836",
    help="Where to serve the page. Other machines can reach an address that is not local; the link is needed anyway.",
)
@options.simulate
@options.workload(help="The load of the simulated cards.")
@options.config
@options.file("--state-dir", metavar="FOLDER", default=DEFAULT_FOLDER, help="Folder of the history.")
@options.runtime_dir
def web(
    listen: tuple[str, int],
    simulate: str | None,
    workload: str,
    config_path: Path | None,
    state_dir: Path,
    runtime_dir: Path,
) -> None:
    """Show the cards, the last week and the settings on a page in the browser.

    Prints a link that opens the page once. The page serves this machine only; other machines reach it through `ssh -L`.
    """
    if simulate is None:
        options.refuse_options(["workload"], "goes with --simulate: add that, or leave it out")
    try:
        from gpufan.web.run import WebOptions, serve_page
    except ModuleNotFoundError as error:
        raise MissingExtra("the page needs", str(error.name), "web") from None
    serve_page(
        WebOptions(listen, runtime_dir, options.source_of_config_option(config_path), state_dir, simulate, workload),
        click.echo,
    )
