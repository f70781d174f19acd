"""The command `gpufan man`. It makes the manual pages gpufan(1) and gpufan.toml(5) from the commands and the keys."""

import re
from collections.abc import Iterator

import click

from gpufan import __version__
from gpufan.cli.command import Command, option_help_rows
from gpufan.cli.main import cli
from gpufan.config.descriptions import CASE_FANS, describe_key
from gpufan.config.schema import CARD_KEYS, DEFAULTS, EXAMPLES, FAN_EXAMPLE, QUIET_EXAMPLE, SECTIONS
from gpufan.config.settings import DEFAULT_PATH
from gpufan.config.toml_text import fan_values_for_toml, quiet_values_for_toml, toml, toml_or_words
from gpufan.system.resources import template

PAGES = ("gpufan.1", "gpufan.toml.5")


@click.command(cls=Command)
@click.argument("name", metavar="[PAGE]", type=click.Choice(PAGES), default=PAGES[0])
def man(name: str) -> None:
    """Print the manual page gpufan.1 or gpufan.toml.5.

    install-service installs both for `man gpufan` and `man gpufan.toml`. Without the service, run
    `gpufan man | man -l -`.
    """
    click.echo(man_page(name), nl=False)


def man_page(name: str) -> str:
    """Return the source of the manual page `name`, one of `PAGES`, for groff or mandoc."""
    root = click.Context(cli, info_name="gpufan", **cli.context_settings)
    contexts = list(commands_for_man_page(root))
    common = option_help_rows(root)
    parameters = [parameter for context in contexts for parameter in context.command.params]
    return template(f"templates/{name}.j2").render(
        version=__version__,
        roff=roff_text,
        about=cli.help,
        common=common.values(),
        commands=[
            (
                _synopsis(context),
                context.command.help,
                [row for name, row in option_help_rows(context).items() if name not in common],
            )
            for context in contexts
        ],
        environment=sorted({(found.envvar, found.opts[0]) for found in parameters if isinstance(found.envvar, str)}),
        sections={title: [_man_page_key_entry(key) for key in keys] for title, keys in SECTIONS.items()},
        match=describe_key("match"),
        fans=describe_key("fans"),
        about_fans=CASE_FANS,
        case_fan=[(f"{key} = {toml(value)}", _fan_key_text(key)) for key, value in fan_values_for_toml(FAN_EXAMPLE)],
        quiet=[
            (f"{key} = {toml(value)}", describe_key(key))
            for key, value in quiet_values_for_toml(QUIET_EXAMPLE)
            if key not in CARD_KEYS
        ],
        path=str(DEFAULT_PATH),
    )


def commands_for_man_page(parent: click.Context) -> Iterator[click.Context]:
    """Return the click contexts of all commands below `parent`, in the order of `--help`.

    A group comes before the commands in it.
    """
    group = parent.command
    if not isinstance(group, click.Group):
        return
    for name in group.list_commands(parent):
        _, command, _ = group.resolve_command(parent, [name])
        assert command is not None
        context = click.Context(command, parent, name, **command.context_settings)
        yield context
        yield from commands_for_man_page(context)


def roff_text(text: str) -> str:
    """Convert `text` to roff source. Text in backquotes becomes bold. An empty line begins a new paragraph."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("'", "\\(aq")
    text = re.sub(r"`([^`]*)`", r"\\fB\1\\fP", text)
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    return "\n.PP\n".join(f"\\&{part}" if part.startswith(".") else part for part in paragraphs)


def _synopsis(context: click.Context) -> str:
    """Return how the command in `context` is called: `gpufan set [OPTIONS] VALUE`."""
    return " ".join([context.command_path, *context.command.collect_usage_pieces(context)])


def _fan_key_text(key: str) -> str:
    """Return the meaning of a key of a case fan. Some keys are explained with those of a card."""
    return {
        "curve": "Duty in percent over the temperature of the card, as for a card.",
        "min_duty_percent": "Lowest duty of the fan. Without it, the lowest duty of its curve, or 30 without a curve.",
    }.get(key) or describe_key(key)


def _man_page_key_entry(name: str) -> tuple[str, str, str]:
    """Return three texts about the key `name` of the settings file: an example, its meaning and its default."""
    return f"{name} = {toml(getattr(EXAMPLES, name))}", describe_key(name), toml_or_words(name, getattr(DEFAULTS, name))
