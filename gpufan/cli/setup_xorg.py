"""The command `gpufan setup-xorg`: parse, call, print."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpufan.cli.options import debug_option, is_given, simulate_option

if TYPE_CHECKING:
    from gpufan.core.pci import PciAddress


@click.command("setup-xorg", short_help="Prepare xorg.conf, for drivers that need X.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE",
    default="/etc/X11/xorg.conf",
    show_default=True,
    help="The file to write or change.",
)
@click.option(
    "--coolbits",
    type=click.IntRange(1, 31),
    metavar="BITS",
    default=4,
    show_default=True,
    help="Bits to set in Coolbits; 4 is control of fans.",
)
@click.option("--edid", is_flag=True, help="Pretend a monitor, for a server that does not start without one.")
@click.option("--dry-run", is_flag=True, help="Show the difference and change nothing.")
@click.option("--restore", is_flag=True, help="Give back the file as it was before the first run.")
@simulate_option
@debug_option
def setup_xorg(output: Path, coolbits: int, edid: bool, dry_run: bool, restore: bool, simulate: str | None) -> None:
    """Let X set the fans of every NVIDIA card, for drivers that cannot do it otherwise.

    Writes xorg.conf, or changes in it only what must change. Shows the difference and keeps a backup.
    """
    # Here and below, not above: other commands should not wait for what only this one needs.
    from gpufan.gpu.cards import nvml_addresses
    from gpufan.system import files
    from gpufan.xorg import setup

    # A simulation touches nothing of this machine, unless it is told what.
    dry_run |= simulate is not None and not is_given("output")
    if not dry_run:
        files.check_writable(files.real_path(output))
    if restore:
        _restore(output, dry_run)
        return
    cards = _simulated_addresses(simulate) if simulate else setup.find_cards(nvml_addresses)
    change = setup.plan_setup(output, cards, coolbits, edid, setup.SNIPPET_FOLDERS)
    for note in change.notes:
        click.echo(f"note: {note}", err=True)
    if not change.is_needed:
        click.echo(f"{output} needs no change")
        return
    click.echo(change.difference(), nl=False)
    if dry_run:
        return
    backup = setup.apply_setup(change)
    click.echo(f"wrote {output}" + (f"; what it was is in {backup}" if backup else ""))
    given = f" --output {shlex.quote(str(output))}" if is_given("output") else ""
    click.echo(f"it counts from the next start of X on; `gpufan setup-xorg --restore{given}` takes it back")


def _simulated_addresses(profile: str) -> "list[PciAddress]":
    from gpufan.core.pci import PciAddress
    from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox

    return [PciAddress.parse(gpu.info.pci) for gpu in SimulatedBox(PROFILES[profile], WORKLOADS["idle"]).gpus]


def _restore(output: Path, dry_run: bool) -> None:
    from gpufan.xorg import setup

    change = setup.plan_restore(output)
    if change is None:
        click.echo(f"{output} has nothing to restore: gpufan has not changed it")
        return
    click.echo(change.difference(), nl=False)
    if dry_run:
        return
    backup = setup.apply_restore(change)
    done = f"removed {output}, which was not there before" if change.after is None else f"restored {output}"
    click.echo(done + (f"; what it was is in {backup}" if backup else ""))
