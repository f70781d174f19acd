"""The command `gpufan deploy`: parse, call, print."""

import os
from pathlib import Path

import click

from gpufan.cli.options import debug_option


@click.group(invoke_without_command=True)
@click.pass_context
def deploy(context: click.Context) -> None:
    """Install gpufan on many boxes."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@deploy.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    default="gpufan-ansible",
    show_default=True,
    help="Where to write them.",
)
@click.option("--force", is_flag=True, help="Replace files that are there with other content.")
@debug_option
def ansible(output: Path, force: bool) -> None:
    """Write a playbook and a role for Ansible.

    They give every box its environment, the settings and the service, and a second run changes nothing. The playbook
    says how to start it. A list of boxes and settings that are there already stay as they are.
    """
    from gpufan.service.ansible import beginnings, contents
    from gpufan.system.files import write_files as write

    missing = {name: data for name, data in beginnings().items() if not os.path.lexists(output / name)}
    for line in write(output, contents() | missing, force=force):
        click.echo(line)
