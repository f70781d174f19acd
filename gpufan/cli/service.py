"""The commands `gpufan install-service` and `gpufan uninstall-service`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from gpufan.alerts import settings as alert_settings
from gpufan.alerts.receivers import receiver_url_problems
from gpufan.cli import options
from gpufan.cli.command import Command
from gpufan.cli.completion import completion_script
from gpufan.cli.man import man_page
from gpufan.config.schema import DEFAULTS
from gpufan.errors import InputError
from gpufan.service import config_file
from gpufan.service.install import install
from gpufan.service.install_options import InstallOptions
from gpufan.service.plan import make_plan
from gpufan.service.rights import check_rights
from gpufan.service.uninstall import plan_uninstall, uninstall
from gpufan.system import paths

_dry_run_option = click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")


@click.command(
    "install-service",
    cls=Command,
    sections={
        "Settings of the service": ("target_c", "curve", "gpus", "config"),
        "What to install": ("history", "exporter", "web", "alerts", "no_alerts", "keep_display_manager"),
        "How to install": ("dry_run", "yes", "no_start", "skip_check"),
    },
)
@options.target(
    "target_c",
    show_default=f"as before, at first {DEFAULTS.target_c:g}",
    help="Write this target into the settings file.",
)
@options.curve(help="Write this curve into the settings file, and remove a target there.")
@options.gpu
@options.file("--config", help="Install this settings file as /etc/gpufan/config.toml.")
@click.option(
    "--history/--no-history", default=None, show_default="as before, at first yes", help="Also record a history."
)
@click.option(
    "--exporter/--no-exporter", default=None, show_default="as before, at first no", help="Also serve metrics."
)
@click.option(
    "--web/--no-web",
    default=None,
    show_default="as before, at first no",
    help="Also serve the page of `gpufan web`, which then cannot change settings.",
)
@click.option(
    "--alerts",
    metavar="URL|-",
    help="Also send messages to this receiver when a card needs help; - asks for the URL, so that no log gets it."
    " `gpufan alerts --help` says which URLs there are.",
)
@click.option("--no-alerts", is_flag=True, help="Send no messages any more.")
@click.option("--keep-display-manager", is_flag=True, help="Do not disable the display manager.")
@_dry_run_option
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--no-start", is_flag=True, help="Install and enable only; nothing is started or stopped now.")
@click.option("--skip-check", is_flag=True, help="Do not test the fans first, for example while an image is built.")
def install_service(
    history: bool | None,
    exporter: bool | None,
    web: bool | None,
    alerts: str | None,
    no_alerts: bool,
    dry_run: bool,
    yes: bool,
    no_start: bool,
    skip_check: bool,
    **chosen: Any,
) -> None:
    """Control the fans from boot on, with a systemd service.

    Shows the changes and asks. Tests the fans before it changes anything else. `gpufan uninstall-service` reverts all.
    """
    options.refuse_target_beside_curve(chosen["target_c"], chosen["curve"])
    if no_alerts:
        options.refuse_options(["alerts"], "and --no-alerts exclude each other: leave out one")
    companions = {
        "history": history,
        "exporter": exporter,
        "web": web,
        "alerts": False if no_alerts else (alerts is not None or None),
    }
    wanted = InstallOptions(
        start=not no_start,
        check=not skip_check,
        companions={name: value for name, value in companions.items() if value is not None},
        alerts_text=None if alerts is None else _alerts_text_from_option(alerts),
        shell_files=_shell_files_for_install_command(),
        **chosen,
    )
    with make_plan(wanted) as plan:
        lines = plan.lines()
        _echo_service_steps(
            "This would be done" if dry_run else "This will be done", lines or ["nothing: all is as it should be"]
        )
        for note in plan.notes:
            click.echo(f"note: {note}", err=True)
        if dry_run or not lines:
            return
        if not yes:
            _confirm_install_service(plan.people)
        install(plan, click.echo)
    if no_start:
        click.echo("gpufan is installed; it starts at the next boot")
    else:
        click.echo("gpufan is in control: `gpufan status` shows it, `sudo gpufan uninstall-service` reverts it")
    if alerts is not None:
        click.echo("to test the messages: `sudo gpufan alerts test`")
    if web and not no_start:
        click.echo("to open the page: `sudo gpufan web --url`")


def _alerts_text_from_option(url: str) -> str | None:
    """Return the text of a new alerts.toml with `url`; None if there is an alerts.toml that has this URL already.

    If `url` is `-`, ask for the URL, or read it from a pipe. Raises InputError if the URL is wrong, or if there is an
    alerts.toml without this URL. No message repeats the URL.
    """
    check_rights()
    if url == "-":
        is_terminal = sys.stdin is not None and sys.stdin.isatty()
        url = click.prompt("URL of the receiver", hide_input=True) if is_terminal else sys.stdin.readline().strip()
    problem = alert_settings.urls_key_problem(url) or next((text for _, text in receiver_url_problems([url])), None)
    if problem:
        raise InputError(f"--alerts: {problem}")
    file = config_file.ALERTS
    if not file.exists():
        return alert_settings.render_alert_settings([url])
    if url not in alert_settings.read_alert_settings(file).urls:
        raise InputError(f"{file} exists already, without this URL: add it to urls in that file, or move the file away")
    return None


def _shell_files_for_install_command() -> dict[Path, str]:
    """Return the texts of the manual pages and of the completion scripts for shells.

    The keys are the paths at which `man` and the shells look for these files.
    """
    share = paths.PREFIX / "share"
    return {
        share / "man/man1/gpufan.1": man_page("gpufan.1"),
        share / "man/man5/gpufan.toml.5": man_page("gpufan.toml.5"),
        share / "bash-completion/completions/gpufan": completion_script("bash"),
        share / "fish/vendor_completions.d/gpufan.fish": completion_script("fish"),
        share / "zsh/site-functions/_gpufan": completion_script("zsh"),
    }


def _echo_service_steps(title: str, lines: Sequence[str]) -> None:
    """Print `title`, and below it the steps of an install or uninstall in `lines`."""
    click.echo("\n  ".join([f"{title}:", *lines]))


def _confirm_install_service(people: list[str]) -> None:
    """Ask whether to install. Raises click.Abort if the user does not agree.

    `people` are the users whom the install would log out of the screen. Raises InputError without asking if there are
    such users, or if there is no terminal.
    """
    if people:
        raise InputError(f"{', '.join(people)} would be logged out of the screen: add --yes, or --keep-display-manager")
    if sys.stdin is None or not sys.stdin.isatty():
        raise InputError("there is no terminal to ask at: add --yes, or look first with --dry-run")
    click.confirm("Go on?", abort=True)


@click.command("uninstall-service", cls=Command)
@click.option("--purge", is_flag=True, help="Also remove the settings, the history and the data learnt about cards.")
@_dry_run_option
def uninstall_service(purge: bool, dry_run: bool) -> None:
    """Give the fans back to the driver and revert all changes of install-service."""
    check_rights()
    if dry_run:
        _echo_service_steps(
            "This would be done", plan_uninstall(purge=purge) or ["nothing: gpufan is not installed as a service"]
        )
    elif not uninstall(click.echo, purge=purge):
        click.echo("gpufan is not installed as a service: nothing to put back")
