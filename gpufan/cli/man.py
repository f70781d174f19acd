"""The manual pages gpufan(1) and gpufan.toml(5), made from the same commands and keys as --help and the config file."""

import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import click

from gpufan import __version__
from gpufan.config import schema as config
from gpufan.config.descriptions import UNSET
from gpufan.config.settings import DEFAULT_PATH
from gpufan.system.resources import template

PAGES = ("gpufan.1", "gpufan.toml.5")


class Entry(NamedTuple):
    """One command of the page."""

    usage: str
    paragraphs: list[str]
    options: list[tuple[str, str]]
    """Spelling and explanation of each; those of every command are left out."""


def page(name: str, cli: click.Group) -> str:
    """The page `name` of `PAGES`, to be set by groff or mandoc."""
    root = click.Context(cli, info_name="gpufan", **cli.context_settings)
    common = {parameter.name for parameter in cli.get_params(root)}
    return template(f"templates/{name}.j2").render(
        version=__version__,
        roff=roff,
        about=_entry(cli, root, set()),
        commands=[_entry(command, context, common) for command, context in _commands(root) if not command.hidden],
        environment=_environment(root),
        sections=[_keys(config.CARD_KEYS), _keys(config.RUN_KEYS[len(config.CARD_KEYS) :])],
        match=config.about("match"),
        path=str(DEFAULT_PATH),
    )


def roff(text: str) -> str:
    """`text` as roff takes it literally, what stands between ` in bold."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("'", "\\(aq")
    text = re.sub(r"`([^`]*)`", r"\\fB\1\\fP", text)
    return f"\\&{text}" if text.startswith(".") else text


def _commands(parent: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    """Every command below, in the order of --help, those of a group after it."""
    group = parent.command
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(parent):
        command = group.commands[name]
        context = click.Context(command, parent, name, **command.context_settings)
        yield command, context
        yield from _commands(context)


def _entry(command: click.Command, context: click.Context, left_out: Collection[str | None]) -> Entry:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    options = [
        record
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option)
        and parameter.name not in left_out
        and (record := parameter.get_help_record(context))
    ]
    paragraphs = [" ".join(part.split()) for part in (command.help or "").split("\n\n")]
    return Entry(usage, paragraphs, options)


def _environment(root: click.Context) -> list[tuple[str, str]]:
    """Every variable that stands for an option, with the option."""
    found: dict[str, str] = {}
    for command, _ in _commands(root):
        for parameter in command.params:
            if isinstance(parameter.envvar, str):
                found[parameter.envvar] = parameter.opts[0]
    return sorted(found.items())


def _keys(names: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """Key and example, meaning, and what holds where it is not set."""
    return [(f"{name} = {config.toml(config.example(name))}", config.about(name), _unset(name)) for name in names]


def _unset(name: str) -> str:
    value: Any = getattr(config.DEFAULTS, name)
    return UNSET[name] if value in (None, ()) else config.toml(value)
