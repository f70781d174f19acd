"""The command `gpufan web`."""

from pathlib import Path

import click

from gpufan.cli import options
from gpufan.cli.command import Command
from gpufan.errors import MissingExtra
from gpufan.system.paths import WEB_KEY


@click.command(
    cls=Command,
    sections={
        "How to reach it": ("listen", "key_file", "url"),
        "Try it out": ("simulate", "workload"),
        "Files": ("config_path", "state_dir", "runtime_dir"),
    },
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    type=options.parsed_option_type(options.read_listen_option),
    default="127.0.0.1:10836",
    help="Where to serve the page. There is no encryption, so prefer `ssh -L` to another address.",
)
@options.file(
    "--key-file",
    show_default="print a link",
    help="Print no link, but write the key that signs links to this file, as the service does.",
)
@click.option("--url", is_flag=True, help="Print a link to the page that runs as a service, or that --key-file names.")
@options.simulate
@options.workload(help="The load of the simulated cards.")
@options.config
@options.state_dir
@options.runtime_dir
def web(
    listen: tuple[str, int],
    key_file: Path | None,
    url: bool,
    simulate: str | None,
    workload: str,
    config_path: Path | None,
    state_dir: Path,
    runtime_dir: Path,
) -> None:
    """Show the cards, the last week and the settings on a page in the browser.

    Prints a link that opens the page once. With sudo, the page can also change the settings while the terminal is open;
    the process that speaks to the browser still has no rights.
    """
    if url:
        refused = ("listen", "simulate", "workload", "config_path", "state_dir", "runtime_dir")
        options.refuse_options(refused, "is for a page that starts now, and --url is for one that runs: leave out one")
        from gpufan.web.links import link_of_running_page

        link, tunnel = link_of_running_page(key_file or WEB_KEY)
        click.echo(f"open {link}\n{f'from another computer, first: {tunnel}' if tunnel else ''}".rstrip())
        click.echo("the link works once, within ten minutes")
        return
    if simulate is None:
        options.refuse_options(["workload"], "goes with --simulate: add that, or leave it out")
    else:
        real = ("config_path", "state_dir", "runtime_dir")
        options.refuse_options(real, "is for real cards: leave out that, or --simulate")
    try:
        from gpufan.web.run import WebOptions, serve_page
    except ModuleNotFoundError as error:
        raise MissingExtra("the page needs", str(error.name), "web") from None
    source = options.source_of_config_option(config_path)
    serve_page(WebOptions(listen, runtime_dir, source, state_dir, key_file, simulate, workload), click.echo)
