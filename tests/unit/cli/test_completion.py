"""Completion: its scripts, and the values that are completed. The real shells run it in integration/."""

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from gpufan.cli.completion import SHELLS
from gpufan.cli.main import cli
from gpufan.daemon.snapshot_file import SnapshotFile, snapshot_now
from tests.unit.builders import gpu_state


def completed(*words: str, incomplete: str = "") -> list[str]:
    return [item.value for item in ShellComplete(cli, {}, "gpufan", "_X").get_completions(list(words), incomplete)]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_a_script_that_asks_gpufan(shell: str) -> None:
    script = CliRunner().invoke(cli, ["completion", shell]).output
    assert f"_GPUFAN_COMPLETE={shell}_complete" in script


def test_the_cards_of_the_snapshot_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SnapshotFile(tmp_path / "state.json").write(snapshot_now((gpu_state(),), interval_s=1))
    there = ("list", "--runtime-dir", str(tmp_path), "--gpu")
    assert completed(*there) == ["0", gpu_state().uuid]
    assert completed(*there, incomplete="GPU-") == [gpu_state().uuid]
    monkeypatch.setenv("GPUFAN_RUNTIME_DIR", str(tmp_path))
    assert completed("list", "--gpu") == ["0", gpu_state().uuid]


@pytest.mark.parametrize("text", [None, "", "{", '{"format": 99}'])
def test_without_a_snapshot_no_card_is_offered(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "state.json").write_text(text)
    assert completed("list", "--runtime-dir", str(tmp_path), "--gpu") == []


def test_commands_are_offered_with_their_short_help() -> None:
    (item,) = ShellComplete(cli, {}, "gpufan", "_X").get_completions([], "uninst")
    assert (item.value, item.help) == ("uninstall-service", "Remove the service and its traces.")


def test_keys_and_profiles_are_offered() -> None:
    assert completed("config", "show", incomplete="hyst") == ["hysteresis_c"]
    assert completed("run", "--simulate", incomplete="quad") == ["quad-2080ti"]
