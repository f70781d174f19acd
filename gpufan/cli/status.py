"""The commands that show the present: `gpufan status` and `gpufan list`."""

from pathlib import Path

import click

from gpufan.cli import options
from gpufan.cli.command import Command
from gpufan.system.paths import RUNTIME_FOLDER, SNAPSHOT


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print the snapshot as JSON; with --watch, each on its own line.")
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C; in a pipe, print a line for each change.")
@options.runtime_dir
def status(as_json: bool, watch: bool, runtime_dir: Path) -> None:
    """Show what the running gpufan does, and why."""
    if watch:
        from gpufan.terminal.watch import watch as watch_snapshots

        watch_snapshots(runtime_dir / SNAPSHOT, of_service=runtime_dir == RUNTIME_FOLDER, as_json=as_json)
        return
    from gpufan.terminal.tables import print_status

    print_status(runtime_dir / SNAPSHOT, of_service=runtime_dir == RUNTIME_FOLDER, as_json=as_json)


@click.command("list", cls=Command)
@options.gpu
@options.backend
@options.display
@options.simulate
@click.option("--fans", "of_board", is_flag=True, help="Show the fans on headers of the motherboard instead.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@options.runtime_dir
def list_cards(
    gpus: tuple[str, ...],
    backend: str,
    display: str | None,
    simulate: str | None,
    of_board: bool,
    as_json: bool,
    runtime_dir: Path,
) -> None:
    """Show the cards, their fans and what controls them."""
    if of_board:
        options.refuse_options(["gpus", "backend", "display"], "is for cards: leave out that, or --fans")
        from gpufan.daemon.channels import channels_to_list
        from gpufan.terminal.channel_table import print_channels

        print_channels(channels_to_list(runtime_dir, simulate), as_json=as_json)
        return
    from gpufan.daemon.restore import cards_to_list, controllers_to_list
    from gpufan.terminal.tables import print_cards, print_cards_as_json

    print_them = print_cards_as_json if as_json else print_cards
    pids = controllers_to_list(runtime_dir) if simulate is None else {}
    print_them(cards_to_list(gpus, simulate, backend, display, runtime_dir), pids)
