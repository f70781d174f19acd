"""`gpufan exporter` and `gpufan status --watch` as processes: how they start and how they end."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from gpufan.daemon.snapshot_file import SnapshotFile, snapshot_now
from tests.doubles.nvml import wait_for
from tests.unit.builders import gpu_state

SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a snapshot in it that this process, which lives, has written."""
    SnapshotFile(tmp_path / "state.json").write(snapshot_now((gpu_state(),), interval_s=5))
    return tmp_path


@contextmanager
def gpufan(folder: Path, *arguments: str, output: int = subprocess.PIPE) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "gpufan", *arguments, "--runtime-dir", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def end(process: subprocess.Popen[bytes], number: int) -> tuple[int, bytes]:
    """Exit status and standard error after signal `number`."""
    process.send_signal(number)
    _, err = process.communicate(timeout=5)
    return process.returncode, err


@SIGNALS
def test_the_exporter_serves_until_a_signal(folder: Path, number: int) -> None:
    with gpufan(folder, "exporter", "--listen", "127.0.0.1:0") as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1].decode()
        with urlopen(address, timeout=5) as answer:
            assert b"gpufan_up 1.0" in answer.read()
        assert end(process, number) == (0, b"")


def test_the_file_is_removed_at_a_signal(folder: Path) -> None:
    file = folder / "gpufan.prom"
    with gpufan(folder, "exporter", "--textfile", str(file)) as process:
        wait_for(file.exists)
        assert end(process, signal.SIGTERM) == (0, b"")
    assert sorted(os.listdir(folder)) == ["state.json"]


@SIGNALS
def test_watching_in_a_pipe_ends_without_an_error_at_a_signal(folder: Path, number: int) -> None:
    with gpufan(folder, "status", "--watch") as process:
        assert process.stdout is not None
        assert b"0 GTX 1080 Ti: 62 % at 74" in process.stdout.readline()
        assert end(process, number) == (0, b"")


def test_watching_on_a_terminal_leaves_the_table_and_the_cursor(folder: Path) -> None:
    with ExitStack() as stack:
        terminal, its_end = pty.openpty()
        stack.callback(os.close, terminal)
        with gpufan(folder, "status", "--watch", output=its_end) as process:
            os.close(its_end)
            drawn = b""
            while b"the curve gives 58 %" not in drawn:
                drawn += os.read(terminal, 65536)
            process.send_signal(signal.SIGINT)
            while b"\x1b[?25h" not in drawn:  # the cursor is shown again
                drawn += os.read(terminal, 65536)
            assert process.wait(5) == 0
    assert b"\x1b[?25l" in drawn


@pytest.mark.slow
def test_watching_goes_on_while_the_reader_does(folder: Path) -> None:
    with gpufan(folder, "status", "--watch") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        end_s = time.monotonic() + 10
        while process.poll() is None and time.monotonic() < end_s:
            changed = gpu_state(duty_percent=30 + int(time.monotonic() * 10) % 60)
            SnapshotFile(folder / "state.json").write(snapshot_now((changed,), interval_s=5))
            time.sleep(0.1)
        assert process.poll() == 1
