"""The command `gpufan setup-xorg`."""

import shlex
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path

import click

from gpufan.cli import options
from gpufan.cli.command import Command
from gpufan.core.pci import PciAddress
from gpufan.errors import GpufanError
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox
from gpufan.gpu.x_server import addresses_for_x_server
from gpufan.system import files
from gpufan.system.own_command import with_own_command
from gpufan.system.printable import printable
from gpufan.xorg import box as xorg_box
from gpufan.xorg import search, setup
from gpufan.xorg.coolbits import FANS_BIT


@click.command("setup-xorg", cls=Command)
@options.file("--output", show_default="the xorg.conf that X reads", help="The file to create or change.")
@click.option(
    "--coolbits", type=options.IntRange(1, 31), metavar="N", default=FANS_BIT, help="Coolbits; 4 allows fan control."
)
@click.option("--edid", is_flag=True, help="Simulate a monitor, for an X server that does not start without one.")
@click.option("--layout", metavar="NAME", show_default="the one that X uses", help="The ServerLayout to complete.")
@click.option("--yes", is_flag=True, help="Change the files although X will no longer use something as before.")
@click.option("--dry-run", is_flag=True, help="Show the difference and change nothing.")
@click.option("--restore", is_flag=True, help="Restore all files as they were before the first run.")
@options.simulate
@click.pass_context
def setup_xorg(
    context: click.Context,
    output: Path | None,
    coolbits: int,
    edid: bool,
    layout: str | None,
    yes: bool,
    dry_run: bool,
    restore: bool,
    simulate: str | None,
) -> None:
    """Let X set the fans of every NVIDIA card, for drivers that have no other way.

    Reads all files of X as one configuration, and changes only what must change in them. Shows the difference, and
    backs up each file. If X cannot set the fans of a card, says why, with exit status 1.
    """
    if restore:
        options.refuse_options(["coolbits", "edid", "layout", "yes"], "has no meaning with --restore: leave out one")
    # A simulation touches no file of this machine unless it is named.
    dry_run |= simulate is not None and output is None
    path = output or search.main_config_file()
    folders = search.snippet_folders()
    if not dry_run:
        files.check_folder_is_writable(search.real_config_file(path))
    with nullcontext() if dry_run else setup.lock_setup(path, folders):
        if not dry_run:
            setup.remove_setup_leftovers(path, folders)
        if restore:
            _restore_setup_xorg(path, folders, dry_run)
            return
        if not coolbits & FANS_BIT:
            _echo_setup_warning(
                f"--coolbits {coolbits} lacks {FANS_BIT}, with which fans are set: use --coolbits {coolbits | FANS_BIT}"
            )
        box = _box_for_setup_xorg(simulate)
        change = setup.plan_setup(path, box, folders, coolbits, edid, layout)
        for note in change.notes:
            click.echo(f"note: {printable(note)}", err=True)
        click.echo(setup.setup_difference(change.changes), nl=False)
        for loss in change.plan.losses:
            _echo_setup_warning(loss)
        if change.changes and not dry_run:
            if change.plan.losses and not yes:
                raise GpufanError("nothing was written: configure this in a file of X first, or accept it with --yes")
            setup.write_setup(change)
            again = f" --output {shlex.quote(str(path))}" if output else ""
            click.echo(f"wrote {printable(' and '.join(str(file.path) for file in change.changes))}")
            how = "" if change.is_read_by_x else f" with `-config {printable(str(path))}`"
            revert = with_own_command(f"`gpufan setup-xorg --restore{again}` reverts it")
            click.echo(f"it applies from the next start of X{how}; {revert}")
            # What counts is what is in the files now.
            change = setup.plan_setup(path, box, folders, coolbits, edid, layout)
        elif not change.changes and not change.out_of_reach:
            click.echo(f"{path} needs no change" if path.exists() else "X needs no change: the fans can be set already")
    for line in change.out_of_reach:
        _echo_setup_warning(line)
    if change.out_of_reach:
        context.exit(1)


def _box_for_setup_xorg(simulate: str | None) -> xorg_box.Box:
    """Return the graphics devices of this machine. If `simulate` is a profile, return those of the simulated machine.

    Prints a note for each NVIDIA card that X cannot use. Raises GpufanError if X can use no NVIDIA card.
    """
    if simulate is not None:
        simulated = SimulatedBox(PROFILES[simulate], WORKLOADS["idle"])
        return xorg_box.make_box([PciAddress.parse(gpu.info.pci) for gpu in simulated.gpus])
    devices = xorg_box.graphics_devices()
    _echo_left_out_devices([device for device in devices if device.unusable], "")
    box = xorg_box.make_box(addresses_for_x_server(), devices)
    _echo_left_out_devices(
        [device for device in box.others if not device.unusable], "NVIDIA's driver does not drive it"
    )
    for device in devices:
        if device.address in box.cards and device.kernel_driver not in ("", xorg_box.NVIDIA_MODULE):
            click.echo(f"note: {device.kernel_driver} has {device} now: X needs NVIDIA's driver there", err=True)
    if not box.cards:
        raise GpufanError("no NVIDIA card is left for X")
    return box


def _echo_left_out_devices(devices: Iterable[xorg_box.GraphicsDevice], reason: str) -> None:
    """Print a note for each NVIDIA card in `devices`. It says that the card is left out, and why.

    `reason` is the reason for a card whose `unusable` is empty.
    """
    for device in devices:
        if device.is_nvidia:
            click.echo(f"note: {device} is left out: {device.unusable or reason}", err=True)


def _restore_setup_xorg(path: Path, folders: Sequence[Path], dry_run: bool) -> None:
    """Restore the files of X as they were before the first setup, and print the difference.

    `path` is the main file. `folders` are the folders of snippets. With `dry_run`, only print the difference. Raises
    GpufanError, and restores nothing, if a file has changed since gpufan wrote it.
    """
    changes = setup.plan_setup_restore(path, folders)
    if changes is None:
        click.echo(f"{path} has nothing to restore: gpufan has not changed it")
        return
    changed_since = setup.users_changes_since_setup(path, changes)
    click.echo(setup.setup_difference(changed_since or changes), nl=False)
    if changed_since:
        raise setup.setup_restore_error(path, changed_since)
    if dry_run:
        return
    kept = setup.write_setup_restore(path, changes)
    for change in changes:
        if change.after is None:
            click.echo(f"removed {printable(str(change.path))}, which gpufan had created")
        else:
            click.echo(f"restored {printable(str(change.path))}")
    for file in kept:
        click.echo(f"left {printable(str(file))} as it is, since its original was removed")
    if not changes and not kept:
        click.echo(f"{path} has nothing to restore: its content is the original")


def _echo_setup_warning(text: str) -> None:
    """Print a warning of `gpufan setup-xorg` to standard error."""
    click.echo(f"gpufan: {printable(text)}", err=True)
