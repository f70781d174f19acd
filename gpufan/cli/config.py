"""The commands `gpufan config check`, `show`, `set`, `unset`, `quiet` and `edit`."""

import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import click

from gpufan.cli import options
from gpufan.cli.command import Command, Group
from gpufan.cli.completion import complete_card
from gpufan.config.schema import DAYS, QUIET_KEYS, RUN_KEYS, QuietTable
from gpufan.config.settings import DEFAULT_PATH
from gpufan.errors import GpufanError, InputError
from gpufan.system.files import read_file
from gpufan.system.own_command import with_own_command
from gpufan.system.printable import printable

_SHOWN_KEYS = (*RUN_KEYS, "quiet", "fan")


def _complete_config_key(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the keys that begin with `incomplete`. The shell offers them as completions."""
    return [key for key in _SHOWN_KEYS if key.startswith(incomplete)]


def _config_key_argument(_context: click.Context, _parameter: click.Parameter, word: str) -> str:
    """Return `word`. Raises click.BadParameter, which says what to write, if `word` is not a key of the file."""
    return _config_key_or_refuse(word, RUN_KEYS)


def _config_key_arguments(
    _context: click.Context, _parameter: click.Parameter, words: tuple[str, ...]
) -> tuple[str, ...]:
    """Return `words`. Each must be a key of the file, or `quiet` or `fan`.

    Raises click.BadParameter, which says what to write, if a word is wrong.
    """
    return tuple(_config_key_or_refuse(word, _SHOWN_KEYS) for word in words)


def _config_key_or_refuse(word: str, keys: Sequence[str]) -> str:
    """Return `word`. Raises click.BadParameter, which says what to write, if `word` is not one of `keys`."""
    if word in keys:
        return word
    first = word.split(".")[0].strip("[]")
    if first in ("quiet", *QUIET_KEYS):
        remedy = "`sudo gpufan config edit` changes it, `config quiet` adds one, `gpufan config show quiet` explains it"
        raise click.BadParameter(f"{word} belongs to the table of quiet hours: {remedy}")
    if first in ("fan", "fans", "name", "follows"):
        remedy = "`sudo gpufan config edit` changes it, and `gpufan config show fan` explains it"
        raise click.BadParameter(f"{word} belongs to a fan on a header of the motherboard: {remedy}")
    if first in ("gpu", "match"):
        raise click.BadParameter(f"{word}: write the key alone, and --gpu CARD to set it for some cards only")
    import difflib  # only a mistake needs it

    near = difflib.get_close_matches(word.lower(), keys, 1, 0.5)
    remedy = f"did you mean {near[0]}?" if near else f"choose from {', '.join(keys)}"
    raise click.BadParameter(f"there is no key {word.strip() or repr(word)}: {remedy}")


_card_option = click.option(
    "--gpu",
    "card",
    metavar="CARD",
    type=options.card_name,
    shell_complete=complete_card,
    show_default="all cards",
    help="Only for this card: UUID, PCI address, index or name.",
)


@click.group(cls=Group)
def config() -> None:
    """Change, check and show the settings.

    `sudo gpufan config set target_c 75` changes a key of the settings file. `sudo gpufan config edit` opens the file in
    an editor. `sudo gpufan config quiet 22:00-07:00 --max-duty 50` makes quiet nights.
    """


@config.command("check", cls=Command)
@options.config
def check_config(config_path: Path | None) -> None:
    """Find all mistakes in the settings file, and change nothing.

    It also warns of settings that are allowed but surely not meant, such as a name that matches no card of this box.
    """
    from gpufan.config.lint import lint_settings
    from gpufan.config.mistakes import SettingsError
    from gpufan.daemon.known_cards import known_cards
    from gpufan.hwmon.channels import find_channels

    source = options.source_of_config_option(config_path)
    try:
        settings = source.read()
    except SettingsError as error:
        if len(error.mistakes) == 1:
            raise
        for mistake in error.mistakes:
            click.echo(f"{source.path}: {mistake}")
        raise InputError(f"{source.path}: {len(error.mistakes)} mistakes") from error
    verdict = "no mistake found" if settings.path else "no such file, so the built-in settings are in effect"
    click.echo(f"{source.path}: {verdict}")
    if settings.path is not None:
        cards = known_cards(settings.run_settings().gpus)
        for mistake in lint_settings(settings, read_file(settings.path), cards, find_channels()):
            _echo_config_warning(settings.path, mistake)


@config.command("show", cls=Command)
@click.argument(
    "keys", metavar="[KEY]...", nargs=-1, callback=_config_key_arguments, shell_complete=_complete_config_key
)
@options.config
def show_config(keys: tuple[str, ...], config_path: Path | None) -> None:
    """Show the settings in effect, and where each comes from.

    With KEYs, show only these settings and their meaning; the key `quiet` stands for quiet hours, and `fan` for case
    fans. Options of `gpufan run` are not considered.
    """
    from gpufan.terminal.tables import print_settings

    print_settings(options.source_of_config_option(config_path).read(), keys)


@config.command("set", cls=Command)
@click.argument("key", metavar="KEY", callback=_config_key_argument, shell_complete=_complete_config_key)
@click.argument("words", metavar="VALUE...", nargs=-1, required=True)
@_card_option
@options.config
@options.runtime_dir
def set_config_key(
    key: str, words: tuple[str, ...], card: str | None, config_path: Path | None, runtime_dir: Path
) -> None:
    """Change a key of the settings file, and reload the service.

    `sudo gpufan config set target_c 75` sets a target for all cards, and with `--gpu 0` for card 0 only. Comments and
    all other keys stay. `config show KEY` explains a key. The file is checked before it is replaced.
    """
    from gpufan.config.edit import edited_value, text_with_key
    from gpufan.config.lint import lint_overriding_tables
    from gpufan.daemon.known_cards import known_cards, lasting_name_of_known_card

    value = edited_value(key, words)
    if isinstance(value, list):
        value = [lasting_name_of_known_card(name, runtime_dir) for name in value]
    match = None if card is None else lasting_name_of_known_card(card, runtime_dir)
    _change_config_and_echo(config_path, lambda text: text_with_key(text, key, value, match))
    settings = options.source_of_config_option(config_path).read()
    cards = known_cards(settings.run_settings().gpus) if match is not None else []
    for line in lint_overriding_tables(settings, key, match, cards):
        _echo_config_warning(settings.path, line)


@config.command("unset", cls=Command)
@click.argument("key", metavar="KEY", callback=_config_key_argument, shell_complete=_complete_config_key)
@_card_option
@options.config
@options.runtime_dir
def unset_config_key(key: str, card: str | None, config_path: Path | None, runtime_dir: Path) -> None:
    """Remove a key from the settings file, and reload the service.

    Its line stays as a comment.
    """
    from gpufan.config.edit import text_without_key
    from gpufan.daemon.known_cards import lasting_name_of_known_card

    match = None if card is None else lasting_name_of_known_card(card, runtime_dir)
    _change_config_and_echo(config_path, lambda text: text_without_key(text, key, match))


def _read_quiet_period(text: str) -> tuple[str, str]:
    """Convert `22:00-7:00` to the two times of a `[[quiet]]` table. Raises InputError if `text` is no period."""
    time = r"([01]?[0-9]|2[0-3]):[0-5][0-9]"
    match = re.fullmatch(rf"(?P<begin>{time})\s*-\s*(?P<end>{time}|24:00)", text.strip())
    if match is None:
        raise InputError(f"'{text}' is not a period: write it as 22:00-07:00")
    begin, end = match["begin"].zfill(5), match["end"].zfill(5)
    if begin == end:
        raise InputError(f"'{text}' begins and ends at the same time: for all day, write 00:00-24:00")
    return begin, end


def _read_days(text: str) -> tuple[str, ...]:
    """Convert `sat, sun` to the days of a `[[quiet]]` table. Raises InputError if one of them is not a day."""
    days = tuple(day.strip().lower() for day in text.split(","))
    if any(day not in DAYS for day in days):
        raise InputError(f"'{text}' are not days: write them as sat,sun; the days are {', '.join(DAYS)}")
    return days


@config.command("quiet", cls=Command)
@click.argument("period", metavar="HH:MM-HH:MM", type=options.parsed_option_type(_read_quiet_period))
@click.option(
    "--max-duty",
    "max_duty_percent",
    type=options.IntRange(1, 100),
    metavar="PERCENT",
    help="The fans run at most at this duty.",
)
@options.target("target_c", help="Hold this temperature in these hours.")
@click.option("--give-way", is_flag=True, help="The clocks of a card give way when its fans may not go higher.")
@click.option(
    "--days",
    type=options.parsed_option_type(_read_days),
    metavar="sat,sun",
    show_default="every day",
    help="The days on which the hours begin.",
)
@click.option("--remove", is_flag=True, help="Remove these hours; without --days, on whatever days they begin.")
@options.config
def set_quiet_hours(
    period: tuple[str, str],
    max_duty_percent: int | None,
    target_c: float | None,
    give_way: bool,
    days: tuple[str, ...] | None,
    remove: bool,
    config_path: Path | None,
) -> None:
    """Add quiet hours to the settings file, and reload the service.

    `sudo gpufan config quiet 22:00-07:00 --max-duty 50` limits the fans of all cards at night. Hours that are in the
    file already, for the same days, are replaced. `gpufan config show quiet` explains quiet hours.
    """
    from gpufan.config.edit import text_with_quiet_hours, text_without_quiet_hours

    if remove:
        options.refuse_options(
            ["max_duty_percent", "target_c", "give_way"], "is for new hours: leave it or --remove out"
        )
    elif max_duty_percent is None and target_c is None and not give_way:
        raise InputError("nothing is limited in these hours: add --max-duty, --target or --give-way")
    table = QuietTable(
        begin=period[0],
        end=period[1],
        days=cast(Any, days),
        max_duty_percent=max_duty_percent,
        target_c=target_c,
        give_way="power" if give_way else None,
    )
    change = text_without_quiet_hours if remove else text_with_quiet_hours
    _change_config_and_echo(config_path, lambda text: change(text, table))


@config.command("edit", cls=Command)
@options.config
def edit_config(config_path: Path | None) -> None:
    """Edit a copy of the settings file, check it, and apply it.

    Opens $VISUAL or $EDITOR. The difference is shown before the file is replaced and the service is reloaded.
    """
    from gpufan.config.change import text_to_change
    from gpufan.config.edit import edited_lines
    from gpufan.config.toml_text import parse_settings_text
    from gpufan.hwmon.channels import find_channels

    path, verb = _config_path_to_change(config_path)
    before = text_to_change(path)
    text = _ask_config_in_editor(before)
    while True:
        try:
            parse_settings_text(text.encode(), find_channels)
            lines, choices = edited_lines(before, text), ["apply", "edit", "quit"]
        except InputError as error:
            lines, choices = [f"this is not applied: {error}"], ["edit", "quit"]
        if not lines:
            click.echo(f"{path}: nothing changed")
            return
        click.echo("\n".join(lines))
        choice = click.prompt("What now", type=click.Choice(choices), default=choices[0], err=True)
        if choice == "quit":
            raise GpufanError(f"{path}: nothing changed")
        if choice == "edit":
            text = _ask_config_in_editor(text)
        elif (now := _apply_edited_config(path, verb, before, text)) is None:
            return
        else:
            before = now


def _apply_edited_config(path: Path, verb: str, before: str, text: str) -> str | None:
    """Replace the settings file with `text` if its text is still `before`. Return None if it was replaced.

    Otherwise say why not, and return the present text of the file. `text` is not lost then: the user can try again.
    `verb` is the word for the change. Raises GpufanError if the file was replaced, but the service was not reloaded.
    """
    from gpufan.config.change import replace_settings, settings_lock, text_to_change

    try:
        with settings_lock(path):
            now = text_to_change(path)
            if now == before:
                click.echo(f"{path}: {verb}; {replace_settings(path, text)}")
                return None
    except GpufanError as error:
        if text_to_change(path) == text:
            raise
        click.echo(f"this is not applied: {error}")
        return before
    click.echo(f"{path} was changed meanwhile, so this is not applied yet; the difference to its new text:")
    return now


def _ask_config_in_editor(text: str) -> str:
    """Open `text` in the editor of the user, and return the changed text.

    Raises GpufanError if no editor runs, InputError if the changed text is not UTF-8.
    """
    try:
        return click.edit(text, extension=".toml", require_save=False) or ""
    except click.ClickException as error:
        remedy = "name one, as in `sudo EDITOR=nano gpufan config edit`"
        raise GpufanError(f"no editor: {error.format_message()}: {remedy}") from error
    except UnicodeDecodeError as error:
        raise InputError("nothing changed: the editor saved a text that is not UTF-8: save it as UTF-8") from error


def _config_path_to_change(path: Path | None) -> tuple[Path, str]:
    """Return the settings file to change, and the word for the change: `changed`, or `created` if there is no file.

    The file is `path`, or the default file if `path` is None. Before another file than the default file is created, ask
    on the terminal. Without a terminal, raise InputError: the path may be mistyped. Raises GpufanError if the file
    cannot be read.
    """
    from gpufan.config.change import text_before_change

    path = path or DEFAULT_PATH
    if text_before_change(path) is not None:
        return path, "changed"
    if path != DEFAULT_PATH and not _is_on_terminal():
        command = f"touch {shlex.quote(str(path))}"
        remedy = f": {command}" if command.isprintable() else ""
        raise InputError(f"{path}: no such file: correct --config, or create the file{remedy}")
    if path != DEFAULT_PATH and not click.confirm(f"{path} does not exist. Create it?", err=True):
        raise GpufanError(f"{path}: nothing changed")
    return path, "created"


def _is_on_terminal() -> bool:
    """Whether a person can answer a question."""
    return sys.stdin is not None and sys.stdin.isatty()


def _change_config_and_echo(config_path: Path | None, change: Callable[[str], str]) -> None:
    """Change the settings file, and print the changed lines and warnings about them.

    `change` gets the text of the file and returns the new text. `config_path` is the file; None stands for the default
    file. Raises InputError if a text has a mistake, GpufanError if the file cannot be replaced or the service cannot be
    reloaded.
    """
    from gpufan.config.change import replace_settings, settings_lock, text_to_change
    from gpufan.config.edit import edited_lines
    from gpufan.config.lint import lint_change

    path, verb = _config_path_to_change(config_path)
    with settings_lock(path):
        before = text_to_change(path)
        try:
            after = change(before)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        if after == before:
            click.echo(f"{path}: nothing to change")
            return
        counts = replace_settings(path, after)
    click.echo("\n".join([*edited_lines(before, after), f"{path}: {verb}; {counts}"]))
    for mistake in lint_change(path, before, after):
        _echo_config_warning(path, mistake)


def _echo_config_warning(path: Path | None, text: object) -> None:
    """Print a warning about the settings file `path` to standard error."""
    click.echo(f"warning: {printable(f'{path}: {with_own_command(str(text))}')}", err=True)
