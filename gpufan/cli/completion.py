"""The command `gpufan completion`, and the scripts that it prints."""

import click
from click.shell_completion import get_completion_class

from gpufan.cli.command import Command
from gpufan.cli.main import cli

SHELLS = ("bash", "fish", "zsh")


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script with which a shell completes gpufan.

    install-service installs it for every shell. Elsewhere: `source <(gpufan completion bash)`.
    """
    click.echo(script(shell), nl=False)


def script(shell: str) -> str:
    """The script for `shell`, to be sourced or installed."""
    kind = get_completion_class(shell)
    assert kind is not None
    generator = kind(cli, {}, "gpufan", "_GPUFAN_COMPLETE")
    # Not `source()`: for bash that runs the bash of this machine, to ask for its version.
    return generator.source_template % generator.source_vars()
