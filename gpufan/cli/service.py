"""The commands `gpufan install-service` and `gpufan uninstall-service`: parse, ask, call, print."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from gpufan.cli.options import FloatRange, debug_option, gpu_option, read_with
from gpufan.config.schema import limits
from gpufan.core.curve import Curve
from gpufan.errors import InputError


@click.command("install-service", short_help="Make gpufan a service of systemd.")
@click.option(
    "--curve", metavar="T:D,...", callback=read_with(Curve.parse), help="Curve to write into the configuration."
)
@click.option(
    "--target",
    "target_c",
    type=FloatRange(*limits("target_c")),
    metavar="°C",
    help="Temperature to hold, likewise; the curve counts only above it.",
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Configuration to install as /etc/gpufan/config.toml.",
)
@gpu_option
@click.option("--keep-display-manager", is_flag=True, help="Leave the display manager alone.")
@click.option(
    "--history/--no-history",
    default=None,
    help="Keep a history too, as a service without rights. [default: as before, at first yes]",
)
@click.option(
    "--exporter/--no-exporter",
    default=None,
    help="Serve metrics to Prometheus too, likewise. [default: as before, at first no]",
)
@click.option("--no-start", is_flag=True, help="Install and enable only; nothing is started or stopped now.")
@click.option("--skip-check", is_flag=True, help="Do not try the fans first, as for an image being built.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@debug_option
@click.pass_context
def install_service(
    context: click.Context,
    curve: Curve | None,
    target_c: float | None,
    config: Path | None,
    gpus: tuple[str, ...],
    keep_display_manager: bool,
    history: bool | None,
    exporter: bool | None,
    no_start: bool,
    skip_check: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Keep the fans under control from boot on, as a service of systemd.

    Tries the fans first, and says what it is about to do. `gpufan uninstall-service` puts all of it back.
    """
    from gpufan.cli.shell_files import shell_files
    from gpufan.service.install import install
    from gpufan.service.plan import InstallOptions, make_plan

    root = context.find_root().command
    assert isinstance(root, click.Group)
    options = InstallOptions(
        curve=curve,
        target_c=target_c,
        config=config,
        gpus=gpus,
        keep_display_manager=keep_display_manager,
        start=not no_start,
        check=not skip_check,
        companions={name: value for name, value in (("history", history), ("exporter", exporter)) if value is not None},
        shell_files=shell_files(root),
    )
    plan = make_plan(options)
    try:
        lines = plan.lines()
        _tell(lines, plan.notes, dry_run)
        if dry_run or not lines:
            return
        _agree(plan.people, yes)
        install(plan, click.echo)
    finally:
        plan.close()
    if no_start:
        click.echo("gpufan is installed; it starts at the next boot")
    else:
        click.echo("gpufan is in control: `gpufan status` shows it, `sudo gpufan uninstall-service` takes it back")


def _tell(lines: Sequence[str], notes: Sequence[str], dry_run: bool) -> None:
    click.echo("This would be done:" if dry_run else "This will be done:")
    for line in lines or ["nothing: all is as it should be"]:
        click.echo(f"  {line}")
    for note in notes:
        click.echo(f"note: {note}", err=True)


def _agree(people: list[str], yes: bool) -> None:
    """Return if the user agrees. Raises InputError where nobody can be asked, click.Abort where they do not."""
    if yes:
        return
    if people:
        raise InputError(f"{', '.join(people)} would be logged out of the screen: add --yes, or --keep-display-manager")
    if sys.stdin is None or not sys.stdin.isatty():
        raise InputError("there is no terminal to ask at: add --yes, or look first with --dry-run")
    click.confirm("Go on?", abort=True)


@click.command("uninstall-service", short_help="Remove the service, and put all back.")
@click.option("--purge", is_flag=True, help="Remove the configuration, the history and all that was learnt too.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and do nothing.")
@debug_option
def uninstall_service(purge: bool, dry_run: bool) -> None:
    """Give the fans back to the driver and put back all that install-service has changed."""
    from gpufan.service.plan import check_rights
    from gpufan.service.uninstall import plan_uninstall, uninstall

    check_rights()
    if dry_run:
        click.echo("This would be done:")
        for line in plan_uninstall(purge=purge) or ["nothing: gpufan is not installed as a service"]:
            click.echo(f"  {line}")
    elif not uninstall(click.echo, purge=purge):
        click.echo("gpufan is not installed as a service: nothing to put back")
