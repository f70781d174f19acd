"""The command `gpufan setup-xorg`."""

import shlex
from pathlib import Path

import click

from gpufan.cli import options
from gpufan.cli.command import Command
from gpufan.core.pci import PciAddress
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
from gpufan.gpu.x_server import addresses_for_x_server
from gpufan.system import files
from gpufan.xorg import setup


@click.command("setup-xorg", cls=Command)
@options.file("--output", default="/etc/X11/xorg.conf", help="The file to create or change.")
@click.option("--coolbits", type=click.IntRange(1, 31), metavar="N", default=4, help="Coolbits; 4 allows fan control.")
@click.option("--edid", is_flag=True, help="Simulate a monitor, for an X server that does not start without one.")
@click.option("--dry-run", is_flag=True, help="Show the difference and change nothing.")
@click.option("--restore", is_flag=True, help="Restore the file as it was before the first run.")
@options.simulate
def setup_xorg(output: Path, coolbits: int, edid: bool, dry_run: bool, restore: bool, simulate: str | None) -> None:
    """Let X set the fans of every NVIDIA card, for drivers that have no other way.

    Creates xorg.conf, or changes only what must change in it. Shows the difference and makes a backup.
    """
    # A simulation touches no file of this machine unless it is named.
    dry_run |= simulate is not None and not options.is_given("output")
    if not dry_run:
        files.check_writable(files.real_path(output))
    change: setup.Change | None
    if restore:
        change = setup.plan_restore(output)
        if change is None:
            click.echo(f"{output} has nothing to restore: gpufan has not changed it")
            return
    else:
        if simulate is None:
            cards = addresses_for_x_server()
        else:
            box = SimulatedBox(PROFILES[simulate], WORKLOADS["idle"])
            cards = [PciAddress.parse(gpu.info.pci) for gpu in box.gpus]
        change = setup.plan_setup(output, cards, coolbits, edid, setup.SNIPPET_FOLDERS)
        for note in change.notes:
            click.echo(f"note: {note}", err=True)
        if not change.is_needed:
            click.echo(f"{output} needs no change")
            return
    click.echo(change.difference(), nl=False)
    if dry_run:
        return
    backup = setup.apply_restore(change) if restore else setup.apply_setup(change)
    done = f"wrote {output}"
    if restore:
        done = f"restored {output}" if change.after is not None else f"removed {output}, which gpufan had created"
    click.echo(done + (f"; the file before is in {backup}" if backup else ""))
    if not restore:
        named = f" --output {shlex.quote(str(output))}" if options.is_given("output") else ""
        click.echo(f"it applies from the next start of X; `gpufan setup-xorg --restore{named}` reverts it")
