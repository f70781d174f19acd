"""The commands `gpufan config check` and `gpufan config show`."""

from pathlib import Path

import click

from gpufan.cli import options
from gpufan.cli.command import Command, Group
from gpufan.config.schema import RUN_KEYS


@click.group(cls=Group)
def config() -> None:
    """Check and show the settings."""


@config.command(cls=Command)
@options.config
def check(config_path: Path | None) -> None:
    """Look for mistakes in the settings file, and change nothing."""
    source = options.settings_source(config_path)
    settings = source.read()
    verdict = "no mistake found" if settings.path else "no such file, so the built-in settings are in effect"
    click.echo(f"{source.path}: {verdict}")
    for line in settings.index_warnings():
        click.echo(f"warning: {line}; `gpufan list` shows it", err=True)


@config.command(cls=Command)
@click.argument("keys", metavar="[KEY]...", nargs=-1, type=click.Choice(RUN_KEYS))
@options.config
def show(keys: tuple[str, ...], config_path: Path | None) -> None:
    """Show the settings in effect, and where each comes from.

    With KEYs, only these settings, and what they mean. Options of `gpufan run` are not considered.
    """
    from gpufan.terminal.tables import print_settings

    print_settings(options.settings_source(config_path).read(), keys)
