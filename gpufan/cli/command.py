"""Classes of click commands, which load a command when it is used and lay out its help. No command is here."""

import pkgutil
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import click

_DEBUG = click.Option(["--debug"], is_flag=True, expose_value=False, help="Show the traceback of an error.")
"""An option of every command; `main` looks for it on the command line itself."""


class Command(click.Command):
    """A command with `--debug`, whose help shows its options in sections."""

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]] | None = None, **kwargs: Any) -> None:
        """`sections` maps the title of a section to its parameters; all other options follow under "Other"."""
        super().__init__(*args, **kwargs)
        self.sections = sections or {}
        self.params.append(_DEBUG)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section."""
        rows = option_help_rows(ctx)
        sections = {title: [rows.pop(name) for name in names] for title, names in self.sections.items()}
        sections["Other" if sections else "Options"] = list(rows.values())
        _write_help_sections(formatter, sections)


def option_help_rows(context: click.Context) -> dict[str, tuple[str, str]]:
    """Return spelling and explanation of each option of the command in `context`, by the name of its parameter."""
    options = [parameter for parameter in context.command.get_params(context) if isinstance(parameter, click.Option)]
    return {str(option.name): row for option in options if (row := option.get_help_record(context))}


class Group(click.Group, Command):
    """A command that has commands below it. Without one of them it shows its help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options of the group itself. Without arguments, act as with --help."""
        return super().parse_args(ctx, args or ["--help"])


class LazyCommand(click.Command):
    """A command that is imported only when it is used. Lists and completion need only its short help."""

    def __init__(self, name: str, place: str, short_help: str) -> None:
        """`place` says where the command is: `module:attribute`."""
        super().__init__(name, short_help=short_help)
        self.place = place


class LazyGroup(Group):
    """A group of lazily loaded commands, listed in the sections and the order of `commands`."""

    def __init__(self, name: str, *, commands: Mapping[str, Sequence[LazyCommand]], **kwargs: Any) -> None:
        super().__init__(name, commands=[*chain(*commands.values())], **kwargs)
        self._by_section = commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of the sections."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the command that is the first of `args`. Returns its name, the command, and the other arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, pkgutil.resolve_name(command.place) if isinstance(command, LazyCommand) else command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, section by section."""
        rows = {
            title: [(str(command.name), command.get_short_help_str(formatter.width)) for command in commands]
            for title, commands in self._by_section.items()
        }
        _write_help_sections(formatter, rows)


def _write_help_sections(formatter: click.HelpFormatter, sections: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Write the rows of each section below its title. The explanations of all sections begin in the same column."""
    widest = formatter.width // 3
    column = max(len(term) for rows in sections.values() for term, _ in rows if len(term) <= widest)
    for title, rows in sections.items():
        with formatter.section(title):
            formatter.write_dl([(f"{term:{column}}", text) for term, text in rows], col_max=column)
