"""Processes as the real /proc shows them."""

import os
import subprocess
import sys
from pathlib import Path

from gpufan.system.processes import PROC, Process, process_is_alive, processes


def test_this_process_is_listed_with_its_command_parent_and_owner() -> None:
    (this,) = (process for process in processes() if process.pid == os.getpid())
    assert Path(this.words[0]).name.startswith("python") or this.words[0] == sys.argv[0]
    assert this.parent == os.getppid()
    assert this.runs_as_root is (os.geteuid() == 0)


def test_an_open_file_of_a_process_is_found_by_the_begin_of_its_path(tmp_path: Path) -> None:
    folder = PROC / str(os.getpid())
    assert not Process(folder, ()).has_open(f"{tmp_path}/nvidia")
    with (tmp_path / "nvidia0").open("w"):
        assert Process(folder, ()).has_open(f"{tmp_path}/nvidia")


def test_a_process_that_has_ended_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    assert list(processes(tmp_path)) == []
    assert not Process(tmp_path / "8", ()).has_open("/")


def test_a_process_that_has_ended_but_was_not_waited_for_is_not_alive() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert process_is_alive(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # wait for its end, but leave it in /proc
        assert (PROC / str(process.pid)).exists()
        assert not process_is_alive(process.pid)
    assert not process_is_alive(process.pid)
