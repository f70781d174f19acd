"""The commands `gpufan man` and `gpufan completion`: parse, call, print."""

import click

from gpufan.cli.options import debug_option


@click.command()
@click.argument("page", type=click.Choice(["gpufan.1", "gpufan.toml.5"]), default="gpufan.1")
@debug_option
@click.pass_context
def man(context: click.Context, page: str) -> None:
    """Print a manual page.

    Where the service is installed, `man gpufan` and `man gpufan.toml` show them; elsewhere `gpufan man | man -l -`.
    """
    from gpufan.cli import man as pages

    click.echo(pages.page(page, _cli(context)), nl=False)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "fish", "zsh"]))
@debug_option
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete gpufan.

    Where the service is installed, every shell does; elsewhere `source <(gpufan completion bash)`.
    """
    from gpufan.cli.completion import script

    click.echo(script(shell, _cli(context)), nl=False)


def _cli(context: click.Context) -> click.Group:
    group = context.find_root().command
    assert isinstance(group, click.Group)
    return group
