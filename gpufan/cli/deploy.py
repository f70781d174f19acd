"""The commands that write files to manage many machines: `gpufan deploy ansible` and `gpufan dashboard`."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import click

from gpufan.cli import options
from gpufan.cli.command import Command, Group
from gpufan.metrics import dashboard as charts
from gpufan.service.ansible import ansible_user_files, playbook_files
from gpufan.system.files import write_files

_output_option = partial(options.folder, "--output", help="Where to write the files.")
_force_option = click.option("--force", is_flag=True, help="Replace existing files that have other content.")


@click.group(cls=Group)
def deploy() -> None:
    """Install gpufan on many machines."""


@deploy.command(cls=Command)
@_output_option(default="gpufan-ansible")
@_force_option
def ansible(output: Path, force: bool) -> None:
    """Write a playbook and a role for Ansible.

    They install gpufan with its settings and its service on every machine; a second run changes nothing. The playbook
    says how to start it. An inventory and settings that exist already are not replaced.
    """
    missing = {name: data for name, data in ansible_user_files().items() if not os.path.lexists(output / name)}
    _write_deployed_files(output, playbook_files() | missing, force)


@click.command(cls=Command)
@_output_option(default=".")
@_force_option
def dashboard(output: Path, force: bool) -> None:
    """Write a dashboard for Grafana and alert rules for Prometheus.

    Both use the metrics of `gpufan exporter`.
    """
    _write_deployed_files(output, charts.dashboard_files(), force)


def _write_deployed_files(folder: Path, contents: Mapping[str, bytes], force: bool) -> None:
    """Write files into `folder`, and print a line for each file.

    `contents` maps the name of each file to its content. With `force`, existing files are replaced.
    """
    for line in write_files(folder, contents, force=force):
        click.echo(line)
