"""The command that runs this gpufan, as messages and remedies name it."""

import sys
from pathlib import Path

import pytest

from gpufan.system import own_command as module
from gpufan.system.own_command import own_command, with_own_command

ASKS = "only root can install or remove a service: run this with sudo"


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sudo finds `sudo/gpufan`, and the user's shell finds the link `user/gpufan` first."""
    for folder in ("sudo", "venv", "pipx", "user"):
        (tmp_path / folder).mkdir()
    for folder in ("sudo", "venv", "pipx"):
        (tmp_path / folder / "gpufan").write_text("#!/bin/sh\n")
        (tmp_path / folder / "gpufan").chmod(0o755)
    (tmp_path / "user/gpufan").symlink_to("../pipx/gpufan")
    monkeypatch.setattr(module, "_SUDO_PATH", str(tmp_path / "sudo"))
    monkeypatch.setenv("PATH", f"{tmp_path}/user:{tmp_path}/sudo")


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("sudo/gpufan", "gpufan"),
        ("user/gpufan", "$(command -v gpufan)"),
        ("pipx/gpufan", "$(command -v gpufan)"),
        ("venv/gpufan", "{folder}/venv/gpufan"),
        ("__main__.py", f"{sys.executable} -m gpufan"),
    ],
)
def test_the_command_in_remedies_works_after_sudo(
    program: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / program)])
    assert own_command() == command.format(folder=tmp_path)


def test_a_message_names_the_command_that_sudo_finds_without_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "user/gpufan"), "install-service"])
    text = "only root can install or remove a service: run `sudo $(command -v gpufan) install-service`"
    assert with_own_command(ASKS) == text
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--alerts", "ntfys://secret"])
    assert with_own_command(ASKS) == f"{text[:-1]} ...`"
    assert with_own_command("start it with `sudo gpufan run`") == "start it with `sudo $(command -v gpufan) run`"
    assert with_own_command("look at `gpufan status`") == "look at `gpufan status`"  # the user's shell finds it


def test_a_message_names_the_path_of_a_gpufan_that_no_shell_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = str(tmp_path / "venv/gpufan")
    monkeypatch.setattr(sys, "argv", [program, "status"])
    text = "`gpufan status` shows it, `sudo EDITOR=nano gpufan config edit` changes it"
    assert with_own_command(text) == text.replace("gpufan", program)


@pytest.mark.parametrize("program", ["sudo/gpufan", "__main__.py"])
def test_a_message_stays_as_it_is_where_sudo_finds_gpufan(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(tmp_path / program), "install-service"])
    assert with_own_command(ASKS) == ASKS
