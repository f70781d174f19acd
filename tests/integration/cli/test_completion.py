"""Completion in the real shells: what TAB makes of a line."""

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpufan.daemon.snapshot_file import SnapshotFile, snapshot_now
from tests.doubles import require
from tests.unit.builders import gpu_state

SHELLS = {
    # A shell, and what it has to be told once it runs.
    "bash": (["--norc", "--noprofile", "-i"], "source <(gpufan completion bash)"),
    "zsh": (["-f", "-i"], "autoload -U compinit; compinit -u -D; source <(gpufan completion zsh)"),
}
_LIMIT_S = 20


class Terminal:
    """A shell at a terminal, typed into."""

    def __init__(self, shell: str, folder: Path) -> None:
        arguments, setup = SHELLS[shell]
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            environment = {
                "PATH": os.environ["PATH"],
                "TERM": "dumb",
                "HOME": str(folder),
                "PS1": "",
                "LC_ALL": "C.UTF-8",
            }
            os.execvpe(shell, [shell, *arguments], {**environment, "GPUFAN_RUNTIME_DIR": str(folder)})
        self._seen = ""
        # Put together by the shell, so that it is not the echo of what was typed.
        self.type(f"{setup}; echo rea''dy\n", until="ready")

    def type(self, keys: str, until: str) -> None:
        """Type `keys`, and return when `until` has been shown since."""
        start = len(self._seen)
        os.write(self._terminal, keys.encode())
        end_s = time.monotonic() + _LIMIT_S
        while until not in self._seen[start:]:
            readable, _, _ = select.select([self._terminal], [], [], max(end_s - time.monotonic(), 0))
            assert readable, f"no {until!r} in {self._seen[start:]!r}"
            self._seen += os.read(self._terminal, 4096).decode(errors="replace")

    def close(self) -> None:
        os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder with the snapshot of one card, and `gpufan` on the PATH."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    SnapshotFile(tmp_path / "state.json").write(snapshot_now((gpu_state(),), interval_s=1))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes_commands_keys_profiles_and_cards(shell: str, folder: Path) -> None:
    require(shell, shell)
    terminal = Terminal(shell, folder)
    try:
        for typed, becomes in (
            ("gpufan uninst", "gpufan uninstall-service"),
            ("gpufan config show hyst", "hysteresis_c"),
            ("gpufan run --simulate quad", "quad-2080ti"),
            ("gpufan run --gpu GPU-", gpu_state().uuid),
        ):
            terminal.type(f"{typed}\t", until=becomes.removeprefix(typed))
            terminal.type("\x15echo clea''red\n", until="cleared")
    finally:
        terminal.close()


@pytest.mark.slow
def test_fish_completes_commands_keys_and_cards_and_says_what_they_are(folder: Path) -> None:
    fish = require("fish", "fish")

    def completed(line: str) -> str:
        program = f"gpufan completion fish | source; complete -C '{line}'"
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GPUFAN_RUNTIME_DIR": str(folder)}
        return subprocess.run(
            [fish, "--no-config", "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert completed("gpufan uninst").startswith("uninstall-service\tRemove the service")
    assert completed("gpufan config show hyst") == "hysteresis_c\n"
    assert f"\n{gpu_state().uuid}\t{gpu_state().label}\n" in completed("gpufan list --gpu ")
