"""The commands about fans on headers of the motherboard: `gpufan fans identify` and `gpufan fans calibrate`."""

from pathlib import Path

import click

from gpufan.cli import options
from gpufan.cli.command import Command, Group


@click.group(cls=Group)
def fans() -> None:
    """Find out which fan is which on the motherboard, and at which duty it turns.

    `gpufan list --fans` shows them. No other gpufan may run: `sudo systemctl stop gpufan` stops it.
    """


@fans.command("identify", cls=Command)
@options.runtime_dir
def identify(runtime_dir: Path) -> None:
    """Move each fan in turn, and name its tachometer.

    Each fan moves for some seconds. A line names each tachometer whose speed has changed with it.

    Every fan is given back as it was, also after Ctrl-C or kill -9. The exit status is 1 if a fan could not be tried.
    """
    from gpufan.service.channel_trials import identify_channels

    identify_channels(runtime_dir, click.echo)


@fans.command("calibrate", cls=Command)
@click.argument("name")
@options.runtime_dir
def calibrate(name: str, runtime_dir: Path) -> None:
    """Find the duties at which a fan stops and starts.

    The fan NAME stands still for some seconds, so the cards that it cools must be idle. It is given back as it was.
    """
    from gpufan.service.channel_trials import SAFETY_PERCENT, calibrate_channel

    stop_percent, start_percent = calibrate_channel(name, runtime_dir, click.echo)
    if start_percent == 0:
        click.echo(f"{name} turns at every duty: min_duty_percent = 0 is possible")
        return
    lowest = min(stop_percent + SAFETY_PERCENT, 100)
    click.echo(f"{name} stops at {stop_percent} % and starts at {start_percent} %: min_duty_percent = {lowest} is safe")
