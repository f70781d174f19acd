"""Classes of click commands. They load a command only when it is used, and lay out its help. No command is here."""

import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import click

from gpufan.errors import InputError

_DEBUG = click.Option(["--debug"], is_flag=True, expose_value=False, help="Show the traceback of an error.")
"""The option --debug, which every command has. Only `main` uses it, and finds it in `sys.argv`."""


_UNBROKEN_HYPHEN = "\N{NON-BREAKING HYPHEN}"


class _HelpFormatter(click.HelpFormatter):
    """Breaks the lines of a help text only at spaces, so that no name and no option is cut at a hyphen."""

    def write(self, string: str) -> None:
        """Write a text whose lines are broken already."""
        super().write(string.replace(_UNBROKEN_HYPHEN, "-"))

    def write_text(self, text: str) -> None:
        """Write a paragraph."""
        super().write_text(text.replace("-", _UNBROKEN_HYPHEN))

    def write_dl(self, rows: Iterable[tuple[str, str]], *args: Any, **kwargs: Any) -> None:
        """Write rows, each a term and its explanation."""
        super().write_dl([(term, text.replace("-", _UNBROKEN_HYPHEN)) for term, text in rows], *args, **kwargs)


class _Context(click.Context):
    formatter_class = _HelpFormatter


class Command(click.Command):
    """A command with the option `--debug`. Its help shows the options in sections."""

    context_class = _Context

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]] | None = None, **kwargs: Any) -> None:
        """`sections` maps the title of a section to the names of its parameters.

        All other options follow in the section "Other". Without sections, all options are in the section "Options".
        """
        super().__init__(*args, **kwargs)
        self.sections = sections or {}
        self.params.append(_DEBUG)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options from `args`, and return the arguments that are left.

        Raises InputError if an option with a value is repeated, since only the last value would count.
        """
        _, _, found = self.make_parser(ctx).parse_args(list(args))
        for option in found:
            is_single = isinstance(option, click.Option) and not (option.is_flag or option.multiple)
            if is_single and found.count(option) > 1 and not ctx.resilient_parsing:
                raise InputError(f"{option.opts[0]} is given twice: leave one out")
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options into the help, section by section."""
        rows = option_help_rows(ctx)
        sections = {title: [rows.pop(name) for name in names] for title, names in self.sections.items()}
        sections["Other" if sections else "Options"] = list(rows.values())
        _write_help_sections(formatter, sections)


def option_help_rows(context: click.Context) -> dict[str, tuple[str, str]]:
    """Return the spelling and the help text of each option of a command, by the name of the parameter.

    `context` is the context of the command.
    """
    options = [parameter for parameter in context.command.get_params(context) if isinstance(parameter, click.Option)]
    return {str(option.name): row for option in options if (row := option.get_help_record(context))}


class Group(click.Group, Command):
    """A command that has subcommands. Without any argument, it shows its help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options of the group itself from `args`. If there are no arguments, show the help of the group.

        Return the arguments that are left.
        """
        return super().parse_args(ctx, args or ["--help"])


class LazyCommand(click.Command):
    """Stands for a command that is imported only when it is used. Lists and completion need only its short help."""

    def __init__(self, name: str, place: str, short_help: str) -> None:
        """`place` is the place of the command, in the form `module:attribute`."""
        super().__init__(name, short_help=short_help)
        self.place = place


class LazyGroup(Group):
    """A group of commands that are imported only when used. The help lists them in sections, in the order given."""

    def __init__(self, name: str, *, commands: Mapping[str, Sequence[LazyCommand]], **kwargs: Any) -> None:
        super().__init__(name, commands=[*chain(*commands.values())], **kwargs)
        self._by_section = commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of the sections."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the command whose name is the first of `args`. Return its name, the command, and the other items."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, pkgutil.resolve_name(command.place) if isinstance(command, LazyCommand) else command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands into the help, section by section."""
        rows = {
            title: [(str(command.name), command.get_short_help_str(formatter.width)) for command in commands]
            for title, commands in self._by_section.items()
        }
        _write_help_sections(formatter, rows)


def _write_help_sections(formatter: click.HelpFormatter, sections: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Write each section into the help: its title, and below it a row for each term with its explanation.

    The explanations of all sections begin in the same column.
    """
    widest = formatter.width // 3
    column = max(len(term) for rows in sections.values() for term, _ in rows if len(term) <= widest)
    for title, rows in sections.items():
        with formatter.section(title):
            formatter.write_dl([(f"{term:{column}}", text) for term, text in rows], col_max=column)
