"""The command `gpufan man`: the manual pages gpufan(1) and gpufan.toml(5), made from the commands and the keys."""

import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import click

from gpufan import __version__
from gpufan.cli.command import Command, root_group
from gpufan.config.descriptions import UNSET
from gpufan.config.schema import CARD_KEYS, DEFAULTS, RUN_KEYS, about, example, toml
from gpufan.config.settings import DEFAULT_PATH
from gpufan.system.resources import template

PAGES = ("gpufan.1", "gpufan.toml.5")


@click.command(cls=Command)
@click.argument("name", metavar="[PAGE]", type=click.Choice(PAGES), default=PAGES[0])
def man(name: str) -> None:
    """Print the manual page gpufan.1 or gpufan.toml.5.

    install-service installs both for `man gpufan` and `man gpufan.toml`. Elsewhere: `gpufan man | man -l -`.
    """
    click.echo(page(name, root_group()), nl=False)


class Entry(NamedTuple):
    """One command on the page."""

    usage: str
    paragraphs: list[str]
    options: list[tuple[str, str]]
    """Spelling and explanation of each option, without those that every command has."""


def page(name: str, cli: click.Group) -> str:
    """The page `name` of `PAGES`, for groff or mandoc."""
    root = click.Context(cli, info_name="gpufan", **cli.context_settings)
    common = {parameter.name for parameter in cli.get_params(root)}
    return template(f"templates/{name}.j2").render(
        version=__version__,
        roff=roff,
        about=_entry(cli, root, set()),
        commands=[_entry(command, context, common) for command, context in commands(root)],
        environment=_environment(root),
        sections=[_keys(CARD_KEYS), _keys(RUN_KEYS[len(CARD_KEYS) :])],
        match=about("match"),
        path=str(DEFAULT_PATH),
    )


def commands(parent: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """Every command below `parent`, in the order of `--help`; those of a group follow the group."""
    group = parent.command
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(parent):
        _, command, _ = group.resolve_command(parent, [name])
        assert command is not None
        context = click.Context(command, parent, name, **command.context_settings)
        yield command, context
        yield from commands(context)


def roff(text: str) -> str:
    """`text` with every character literal to roff, and what stands between ` in bold."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("'", "\\(aq")
    text = re.sub(r"`([^`]*)`", r"\\fB\1\\fP", text)
    return f"\\&{text}" if text.startswith(".") else text


def _entry(command: click.Command, context: click.Context, left_out: Collection[str | None]) -> Entry:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    options = [
        row
        for option in command.get_params(context)
        if isinstance(option, click.Option) and option.name not in left_out and (row := option.get_help_record(context))
    ]
    paragraphs = [" ".join(part.split()) for part in (command.help or "").split("\n\n")]
    return Entry(usage, paragraphs, options)


def _environment(root: click.Context) -> list[tuple[str, str]]:
    """Every environment variable that sets an option, and the option."""
    parameters = [parameter for command, _ in commands(root) for parameter in command.params]
    return sorted({(found.envvar, found.opts[0]) for found in parameters if isinstance(found.envvar, str)})


def _keys(names: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """Each key with an example, its meaning, and its value where it is not set."""
    return [(f"{name} = {toml(example(name))}", about(name), _unset(name)) for name in names]


def _unset(name: str) -> str:
    value: Any = getattr(DEFAULTS, name)
    return UNSET[name] if value in (None, ()) else toml(value)
