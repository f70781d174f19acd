"""A program that sets the same fans again and again is named once in the log."""

import subprocess
import sys
from pathlib import Path

import pytest

from gpufan.daemon import rivals
from tests.doubles.nvml import NvmlDouble, Rival, wait_for
from tests.integration.harness import running, workers


def start_elsewhere(*words: str) -> int:
    """Start a process that is no child of this one; its number."""
    shell = ["sh", "-c", 'setsid "$@" >/dev/null 2>&1 & echo $!', "sh", *words]
    return int(subprocess.run(shell, capture_output=True, text=True, check=True).stdout)


def test_another_program_that_sets_fans_is_named_once(
    double: NvmlDouble, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rivals, "LOOK_S", 60.0)  # a busy machine reads its processes slowly
    script = tmp_path / "coolgpus"
    script.write_text("import time; time.sleep(60)\n")
    pid = start_elsewhere(sys.executable, str(script))
    try:
        double.rivals.append(Rival(card=0, percent=30, every_s=0.2))
        with double.live(), running(*workers(0, 1)) as run:
            wait_for(lambda: any("another program" in message for message in caplog.messages))
            wait_for(lambda: run.snapshots[-1].gpus[0].overrides >= 3)
    finally:
        subprocess.run(["kill", str(pid)], check=False)
    assert [message for message in caplog.messages if "another program" in message] == [
        f"another program sets the fans of 0 GTX 1080 Ti: probably coolgpus (process {pid})"
    ]
