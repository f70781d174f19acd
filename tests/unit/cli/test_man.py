"""The manual pages: made from the commands and keys there are, and as groff and mandoc want them."""

import os
import subprocess

import click
import pytest

from gpufan.cli.main import cli
from gpufan.cli.man import PAGES, commands_for_man_page, man_page, roff_text
from gpufan.config.descriptions import describe_key
from gpufan.config.schema import EXAMPLES, QUIET_KEYS, RUN_KEYS
from gpufan.config.toml_text import toml
from tests.doubles import require


def shown(text: str) -> str:
    """The page as `man` shows it on a wide terminal, with one space between words."""
    program = require("man", "man-db")
    environment = {**os.environ, "MANWIDTH": "200", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""}
    done = subprocess.run(
        [program, "--warnings", "-E", "UTF-8", "-l", "-"], input=text, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return " ".join(done.stdout.split())


def test_every_command_and_option_is_on_the_page() -> None:
    text = shown(man_page("gpufan.1"))
    for context in commands_for_man_page(click.Context(cli, info_name="gpufan")):
        assert f" {context.command_path} [OPTIONS]" in text
        for parameter in context.command.params:
            if isinstance(parameter, click.Option):
                assert f" {parameter.opts[0]} " in text
    assert "Only this card: UUID, PCI address, index or name. Repeatable. [default: (all cards)]" in text
    assert "GPUFAN_RUNTIME_DIR Used where --runtime-dir is not given." in text


def test_every_key_is_on_the_page_of_the_settings_file() -> None:
    text = shown(man_page("gpufan.toml.5"))
    for key in RUN_KEYS:
        assert f" {key} = {toml(getattr(EXAMPLES, key))} {describe_key(key).replace('`', '')}" in text
    for key in QUIET_KEYS:
        assert f" {key} = " in text
    assert "Where not set: the card's own, or 30 if that is under 20." in text


@pytest.mark.parametrize("name", PAGES)
def test_mandoc_reports_no_warning(name: str) -> None:
    program = require("mandoc", "mandoc")
    done = subprocess.run(
        [program, "-T", "lint", "-W", "warning"], input=man_page(name), capture_output=True, text=True
    )
    # With a date, the same gpufan would write another page every day.
    assert [line for line in done.stdout.splitlines() if "missing date" not in line] == []


def test_every_character_is_literal_to_roff() -> None:
    assert roff_text(".so \\ `a-b` 'c' \"d\"") == "\\&.so \\e \\fBa\\-b\\fP \\(aqc\\(aq \\(dqd\\(dq"
