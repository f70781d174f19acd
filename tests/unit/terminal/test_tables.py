"""What `gpufan status` prints of a card: a problem in red on a terminal, and plain text in a pipe."""

from pathlib import Path

import pytest

from gpufan.core.reasons import Cause, Reason
from gpufan.core.sentences import card_line
from gpufan.daemon.snapshot_file import SnapshotFile, snapshot_now
from gpufan.terminal.tables import print_status
from tests.unit.builders import gpu_state

STILL = gpu_state(fault=Reason(Cause.FAN_STILL, fan=1, found_percent=100, seconds=10.0), uncontrolled_s=65.0)


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    SnapshotFile(tmp_path / "state.json").write(snapshot_now((STILL,), interval_s=1))
    return tmp_path / "state.json"


def test_status_in_a_pipe_is_plain_text(snapshot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_status(snapshot, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == card_line(STILL)
    assert lines[2].endswith("without control for 0:01:05")


def test_status_on_a_terminal_shows_a_standing_fan_in_red(
    snapshot: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_status(snapshot, as_json=False)
    assert f"\x1b[1;31m{card_line(STILL)}\x1b[0m\n" in capsys.readouterr().out
