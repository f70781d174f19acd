"""The history with real processes and files: beside a running gpufan, killed at any moment, and for a month."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gpufan.core.reasons import Cause, Reason
from gpufan.history import writer
from gpufan.history.reader import HistoryReader
from tests.doubles.nvml import wait_for
from tests.unit.builders import gpu_state
from tests.unit.history.recorded import NOON_S, RecordedRun


@contextmanager
def program(*arguments: str, **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """`gpufan` as a process until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gpufan", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def first_row(path: Path, query: str) -> tuple[Any, ...]:
    with closing(sqlite3.connect(path)) as connection:
        row: tuple[Any, ...] = connection.execute(query).fetchone()
        return row


@pytest.mark.slow
def test_one_process_records_a_gpufan_and_writes_all_when_it_stops(tmp_path: Path) -> None:
    run_folder, folder = tmp_path / "run", tmp_path / "state"
    run_folder.mkdir()
    record = ("keep-history", "--runtime-dir", str(run_folder), "--state-dir", str(folder))
    with program("run", "--simulate", "--runtime-dir", str(run_folder)), program(*record) as recorder:
        wait_for(lambda: (folder / "lock").exists() and (folder / "lock").read_text())
        with program(*record) as second:
            assert second.wait(10) == 1
            assert second.stderr is not None
            assert second.stderr.read().startswith(f"gpufan: process {recorder.pid} already records the history in ")
        time.sleep(2.5)  # it records in real time
        recorder.send_signal(signal.SIGTERM)
        assert recorder.wait(5) == 0
    with HistoryReader(folder) as reader:
        cards = reader.cards()
        assert [card.label for card in cards] == ["0 GTX 1080 Ti", "1 GTX 1080 Ti"]
        assert len(list(reader.readings(cards, reader.time_range()))) >= 4


WRITER = """
import sys
from pathlib import Path
from tests.unit.history.recorded import RecordedRun
run = RecordedRun(Path(sys.argv[1]))
run.wall_s += float(sys.argv[2])
print("ready", flush=True)
while True:
    run.second()
"""


@pytest.mark.slow
def test_a_recorder_killed_at_any_moment_leaves_a_sound_file(tmp_path: Path) -> None:
    chance = random.Random(1)
    path = tmp_path / "history.sqlite"
    written_s = 0.0
    for attempt in range(12):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(attempt * 12000)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(chance.uniform(0, 0.3))
        writer.kill()
        writer.communicate()
        assert first_row(path, "PRAGMA integrity_check") == ("ok",)
        # Readings and minutes are written together, or not at all.
        of_this_attempt = f"WHERE time_s >= {NOON_S + attempt * 12000}"
        assert first_row(path, f"SELECT sum(seconds) FROM second {of_this_attempt}") == first_row(
            path, f"SELECT sum(seconds) FROM minute {of_this_attempt}"
        )
        (total_s,) = first_row(path, "SELECT sum(seconds) FROM minute")
        assert (total_s or 0) >= written_s
        written_s = total_s or 0
    assert written_s > 0
    assert not list(tmp_path.glob("*.damaged-*"))


@pytest.mark.slow
def test_the_size_of_the_file_is_limited_over_a_month(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    chance = random.Random(1)
    sizes = []
    begin_s = run.monotonic_s
    # Only the last day by the second, since readings are stored for no longer.
    for step_s, days in ((30.0, 9), (30.0, 29), (1.0, 30.1)):
        end_s = begin_s + days * 86400
        while run.monotonic_s < end_s:
            curve_percent = chance.randrange(30, 100)
            reason = chance.choice(
                (
                    Reason(Cause.CURVE, curve_percent=curve_percent),
                    Reason(Cause.HYSTERESIS, curve_percent=curve_percent, difference_c=2),
                    Reason(Cause.CURVE_MINIMUM, curve_percent=curve_percent, limit_percent=30),
                )
            )
            state = gpu_state(
                temperature_c=float(chance.randrange(30, 90)),
                power_w=chance.uniform(10, 250),
                duty_percent=chance.randrange(30, 100),
                reason=reason,
            )
            run.second(state, seconds=step_s)
        sizes.append(run.path.stat().st_size)
    run.recorder.close()
    seconds, minutes = first_row(run.path, "SELECT (SELECT count(*) FROM second), (SELECT count(*) FROM minute)")
    assert 86_400 <= seconds <= 86_400 + 3600
    assert minutes <= writer.MAX_MINUTE_ROWS
    assert sizes[1] < 1.1 * sizes[0]
    assert run.path.stat().st_size < 8e6
