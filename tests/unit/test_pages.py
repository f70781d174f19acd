"""The README files and community pages: short, with links that lead somewhere, and with commands that exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from gpufan import __version__
from gpufan.cli.main import cli
from gpufan.cli.man import commands_for_man_page

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted(
        page for folder in ("gpufan", "systemd", "templates", "tests") for page in (ROOT / folder).rglob("README.md")
    ),
    *sorted((ROOT / ".github").glob("*.md")),
]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def anchors(page: Path) -> set[str]:
    """What a link after # may name: the headings, as GitHub spells them in addresses."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands_in(text: str) -> Iterator[list[str]]:
    """The words after `gpufan` of every command in a code block or between backquotes."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.split("  #")[0] for block in blocks for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for command in [*lines, *re.findall(r"`([^`]+)`", prose)]:
        for part in re.split(r"&&|;|\|", command):
            words = part.split()
            for place, word in enumerate(words):
                if word in ("gpufan", ".venv/bin/gpufan") and not set(words[:place]) & {
                    "-u",
                    "edit",
                    "security",
                    "reload",
                }:
                    yield words[place + 1 :]
                    break


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """The options of every command, by its words after `gpufan`; those of `gpufan` itself under ""."""
    root = click.Context(cli, info_name="gpufan", **cli.context_settings)
    return {
        context.command_path.removeprefix("gpufan").strip(): {
            spelling
            for option in context.command.get_params(context)
            for spelling in [*option.opts, *option.secondary_opts]
        }
        for context in [root, *commands_for_man_page(root)]
    }


def test_the_list_of_changes_begins_with_this_version_and_its_date() -> None:
    text = (ROOT / ".github/CHANGELOG.md").read_text()
    assert re.search(r"^## (.*)$", text, re.MULTILINE)[1].startswith(f"{__version__}, 20")


def test_the_address_of_the_project_is_to_be_filled_in_at_one_place_only() -> None:
    names = [name for name in ("pyproject.toml", *NAMES) if "OWNER" in (ROOT / name).read_text()]
    assert names == ["pyproject.toml"]


def test_the_readme_is_short_enough_to_be_read_to_the_end() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_and_option_on_a_page_exists(page: Path, options: dict[str, set[str]]) -> None:
    for words in commands_in(page.read_text()):
        name = max((name for name in options if words[: len(name.split())] == name.split()), key=len)
        said = {word.split("=")[0] for word in words if word.startswith("--")}
        assert name or said or not words or words[0] == "COMMAND", f"gpufan {' '.join(words)}: no such command"
        assert said <= options[name], f"gpufan {name} has no {said - options[name]}"


def test_the_page_on_the_code_names_every_file_in_its_room() -> None:
    text = (ROOT / "gpufan" / "README.md").read_text()
    rooms = re.findall(r"^\*\*(\w+)/\*\*(.*?)(?=^\*\*|^## )", text, re.MULTILINE | re.DOTALL)
    named = {f"{room}/{name}" for room, about in rooms for name in re.findall(r"`(\w+\.py)`", about)}
    package = ROOT / "gpufan"
    assert named == {str(path.relative_to(package)) for path in package.glob("*/*.py") if path.name != "__init__.py"}
