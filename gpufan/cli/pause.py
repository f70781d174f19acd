"""The commands `gpufan pause` and `gpufan resume`."""

from pathlib import Path

import click

from gpufan.cli import options
from gpufan.cli.command import Command
from gpufan.daemon import pause as pauses


@click.command(cls=Command)
@options.gpu
@options.duration("--for", "for_s", default="10m", help="The pause ends by itself after this time.")
@options.runtime_dir
def pause(gpus: tuple[str, ...], for_s: float, runtime_dir: Path) -> None:
    """Close a card for a while: gpufan gives its fans to the driver, and does not touch it.

    A card can be reset (`nvidia-smi --gpu-reset`), unbound from the driver or passed to a virtual machine only while no
    process has it open. The other cards stay under control. The pause ends after `--for`, with `gpufan resume`, and
    when gpufan is started anew.
    """
    for line in pauses.pause_cards(gpus, runtime_dir, for_s):
        click.echo(line)


@click.command(cls=Command)
@options.gpu
@options.runtime_dir
def resume(gpus: tuple[str, ...], runtime_dir: Path) -> None:
    """End a pause before its time: gpufan controls the card again."""
    for line in pauses.resume_cards(gpus, runtime_dir):
        click.echo(line)
