"""The command `gpufan`: the table of its commands, and how an error ends the process."""

import errno
import io
import os
import sys
from contextlib import suppress
from typing import TextIO

import click
from click.core import ParameterSource

from gpufan.cli.command import LazyCommand, LazyGroup
from gpufan.errors import GpufanError
from gpufan.system.printable import printable

COMMANDS = {
    "Every day": [
        LazyCommand("run", "gpufan.cli.run:run", "Control the fans until stopped."),
        LazyCommand("set", "gpufan.cli.set_fans:set_fans", "Order what the fans do for now, such as full speed."),
        LazyCommand("status", "gpufan.cli.status:status", "Show what the running gpufan does, and why."),
        LazyCommand("list", "gpufan.cli.status:list_cards", "Show the cards, their fans and what controls them."),
        LazyCommand("web", "gpufan.cli.web:web", "Show cards, history and settings on a page in the browser."),
        LazyCommand("doctor", "gpufan.cli.doctor:doctor", "Find what is wrong on this machine, and what to do."),
    ],
    "Understand": [
        LazyCommand("history", "gpufan.cli.history:history", "Show what the cards did in the last week."),
        LazyCommand("report", "gpufan.cli.history:report", "Write a page or a picture of the last week."),
        LazyCommand("simulate", "gpufan.cli.tune:simulate", "Compare curves and targets on simulated cards."),
        LazyCommand("tune", "gpufan.cli.tune:tune", "Learn how the cards cool, and propose settings."),
    ],
    "Set up": [
        LazyCommand("install-service", "gpufan.cli.service:install_service", "Start gpufan at every boot."),
        LazyCommand("uninstall-service", "gpufan.cli.service:uninstall_service", "Remove the service and its traces."),
        LazyCommand("config", "gpufan.cli.config:config", "Change, check and show the settings, such as quiet hours."),
        LazyCommand("fans", "gpufan.cli.fans:fans", "Find out which fan is which on the motherboard."),
        LazyCommand("alerts", "gpufan.cli.alerts:alerts", "Send messages when a card needs help."),
        LazyCommand("exporter", "gpufan.cli.metrics:exporter", "Serve metrics to Prometheus."),
        LazyCommand("dashboard", "gpufan.cli.deploy:dashboard", "Write a Grafana dashboard and Prometheus alerts."),
        LazyCommand("deploy", "gpufan.cli.deploy:deploy", "Install gpufan on many machines, with Ansible."),
    ],
    "Rarely": [
        LazyCommand("restore", "gpufan.cli.run:restore", "Give every fan back to the driver."),
        LazyCommand("pause", "gpufan.cli.pause:pause", "Close a card for a while, so that it can be reset."),
        LazyCommand("resume", "gpufan.cli.pause:resume", "End a pause before its time."),
        LazyCommand("setup-xorg", "gpufan.cli.setup_xorg:setup_xorg", "Prepare xorg.conf, for drivers that need X."),
        LazyCommand("xserver", "gpufan.cli.run:xserver", "Run a headless X server that can set fans."),
        LazyCommand("keep-history", "gpufan.cli.history:keep_history", "Record a history, as the service does."),
        LazyCommand("completion", "gpufan.cli.completion:completion", "Print the completion script for a shell."),
        LazyCommand("man", "gpufan.cli.man:man", "Print a manual page."),
    ],
}
"""The commands, by section of the help. Each has its name, its place in the code, and its line in the help."""


_LONGEST_MESSAGE = 2000
"""An error message with more characters is shortened."""


def _print_versions(context: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:
    """If the option --version is given (`is_asked`), print the versions and end the command."""
    if is_asked and not context.resilient_parsing:
        from gpufan.system.versions import versions

        click.echo(versions())
        context.exit()


@click.group(
    cls=LazyGroup,
    commands=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120, "show_default": True},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Show all versions.",
)
def cli() -> None:
    """Fan control for NVIDIA cards: cool, quiet, and safe even after a crash.

    Try it without a card: gpufan run --simulate --time-scale 60
    """


def main() -> None:
    """Run the command line, then end the process. The exit status is 0 for success, 1 for a failure, 2 for bad input.

    After Ctrl-C, it is 130. The reason for a failure is printed in one line.
    """
    _open_closed_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that has no degree sign shows a question mark.
        sys.stdout.reconfigure(errors="replace")
    message = None
    try:
        status = cli.main(standalone_mode=False) or 0
        sys.stdout.flush()
    except click.ClickException as error:
        status, message = error.exit_code, _usage_message(error)
    except click.Abort:
        status, message = 130, "interrupted"
    except Exception as error:
        if "--debug" in sys.argv:
            import traceback  # slow, and needed nowhere else

            traceback.print_exc()
        status, message = _exit_status_and_message(error)
    if message:
        from gpufan.system.own_command import with_own_command

        with suppress(OSError):  # the terminal may be gone
            line = f"gpufan: {_shortened(printable(with_own_command(message)))}"
            print(_error_for_terminal(line), file=sys.stderr)
    _flush_at_exit(sys.stdout, sys.stderr)
    sys.exit(status)


def _shortened(line: str) -> str:
    """Return `line`, an error message, without its middle if it is very long, as it is with a very long argument.

    The end stays, since it says what to do.
    """
    half = _LONGEST_MESSAGE // 2
    return line if len(line) <= _LONGEST_MESSAGE else f"{line[:half]} ... {line[-half:]}"


def _error_for_terminal(line: str) -> str:
    """Return `line`, broken between words if standard error is a terminal that is too narrow for it.

    A command in backticks is not broken, so that it can be copied.
    """
    if not sys.stderr.isatty():
        return line
    import re  # these are for terminals only
    import shutil
    import textwrap

    width = shutil.get_terminal_size().columns
    glued = re.sub(r"`[^`]*`", lambda command: command[0].replace(" ", "\0"), line)
    return textwrap.fill(glued, width, break_long_words=False, break_on_hyphens=False).replace("\0", " ")


def _usage_message(error: click.ClickException) -> str:
    """Return the message of `error`, a mistake in the command line, as one line. The line also says what to do."""
    text = " ".join(error.format_message().split()).removesuffix(".")
    # A wrong value has its remedy, and so has a name that is much like another: "Did you mean ...?"
    is_wrong_value = isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter)
    if isinstance(error, click.UsageError) and not is_wrong_value and not text.endswith("?") and "Choose" not in text:
        text += ": --help shows what is possible"
    text = text[:1].lower() + text[1:]
    variable = _variable_of(error) if isinstance(error, click.BadParameter) else None
    return text if variable is None else f"environment variable {variable}: {text}"


def _variable_of(error: click.BadParameter) -> str | None:
    """Return the environment variable with the wrong value. Return None if the value was in the command line."""
    if error.ctx is None or error.param is None or error.param.name is None:
        return None
    is_from_environment = error.ctx.get_parameter_source(error.param.name) is ParameterSource.ENVIRONMENT
    return str(error.param.envvar) if is_from_environment else None


_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a write to standard output: a full disk or quota, a file that is too long, a terminal that is gone."""


def _exit_status_and_message(error: Exception) -> tuple[int, str | None]:
    """Return the exit status and the message for `error`, which a command has raised.

    The message is None if nobody reads the output any more.
    """
    if isinstance(error, GpufanError):
        return error.exit_status, str(error)
    if isinstance(error, BrokenPipeError):
        return 1, None
    if isinstance(error, OSError) and error.filename is None and error.errno in _OUTPUT_ERRORS:
        return 1, f"the output cannot be written: {error.strerror}"
    if isinstance(error, PermissionError) and error.filename is not None:
        remedy = "run this with sudo" if os.geteuid() else "not even root may use it here: name another path"
        return 1, f"{error.filename}: permission denied: {remedy}"
    return 1, f"{type(error).__name__}: {error} (this is a bug: --debug shows where)"


def _flush_at_exit(*streams: TextIO) -> None:
    """Write the rest of each stream. If that fails, discard the rest.

    If the rest stayed, the interpreter would try again to write it at its end, and print an error.
    """
    for stream in streams:
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _open_closed_standard_streams() -> None:
    """Open /dev/null in place of each standard stream that was closed when this process started."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r" if name == "stdin" else "w"))
