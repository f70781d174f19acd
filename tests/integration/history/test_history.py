"""The history over real time and real files: killed at any moment, for a month, beside a gpufan that runs."""

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

from gpufan.history import store
from gpufan.history.reader import Past
from tests.doubles.nvml import wait_for
from tests.unit.builders import gpu_state
from tests.unit.history.kept import NOON_S, Kept


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


def one(path: Path, query: str) -> tuple[Any, ...]:
    with closing(sqlite3.connect(path)) as connection:
        row: tuple[Any, ...] = connection.execute(query).fetchone()
        return row


@pytest.mark.slow
def test_what_a_gpufan_does_is_kept_by_one_keeper_and_written_when_it_stops(tmp_path: Path) -> None:
    run_folder, folder = tmp_path / "run", tmp_path / "state"
    run_folder.mkdir()
    keep = ("keep-history", "--runtime-dir", str(run_folder), "--state-dir", str(folder))
    with program("run", "--simulate", "--runtime-dir", str(run_folder)), program(*keep) as keeper:
        wait_for(lambda: (folder / "lock").exists() and (folder / "lock").read_text())
        with program(*keep) as second:
            assert second.wait(10) == 1
            assert second.stderr is not None
            assert second.stderr.read().startswith(f"gpufan: process {keeper.pid} keeps the history in ")
        time.sleep(2.5)  # real seconds are what it counts
        keeper.send_signal(signal.SIGTERM)
        assert keeper.wait(5) == 0
    with Past(folder) as past:
        cards = past.cards()
        assert [card.label for card in cards] == ["0 GTX 1080 Ti", "1 GTX 1080 Ti"]
        assert len(list(past.readings(cards, past.span()))) >= 4


WRITER = """
import sys
from pathlib import Path
from tests.unit.history.kept import Kept
kept = Kept(Path(sys.argv[1]))
kept.wall_s += float(sys.argv[2])
print("ready", flush=True)
while True:
    kept.second()
"""


@pytest.mark.slow
def test_a_keeper_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    chance = random.Random(1)
    path = tmp_path / "history.sqlite"
    kept_s = 0.0
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
        assert one(path, "PRAGMA integrity_check") == ("ok",)
        # Seconds and minutes of a commit are written together, or not at all.
        of_this_one = f"WHERE time_s >= {NOON_S + attempt * 12000}"
        assert one(path, f"SELECT sum(seconds) FROM second {of_this_one}") == one(
            path, f"SELECT sum(seconds) FROM minute {of_this_one}"
        )
        (total_s,) = one(path, "SELECT sum(seconds) FROM minute")
        assert (total_s or 0) >= kept_s
        kept_s = total_s or 0
    assert kept_s > 0
    assert not list(tmp_path.glob("*.damaged-*"))


@pytest.mark.slow
def test_a_month_of_a_restless_card_stays_within_its_bounds(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    chance = random.Random(1)
    sizes = []
    begin_s = kept.now_s
    # Only the last day and a bit by the second, since seconds are kept for no longer.
    for step_s, days in ((30.0, 9), (30.0, 29), (1.0, 30.1)):
        end_s = begin_s + days * 86400
        while kept.now_s < end_s:
            kind, text = chance.choice((("curve", "curve says"), ("hold", "holding at"), ("limit", "limit of")))
            state = gpu_state(
                temperature_c=float(chance.randrange(30, 90)),
                power_w=chance.uniform(10, 250),
                duty_percent=chance.randrange(30, 100),
                kind=kind,
                reason=f"{text} {chance.randrange(30, 100)}",
            )
            kept.second(state, seconds=step_s)
        sizes.append(kept.path.stat().st_size)
    kept.keeper.close()
    seconds, minutes = one(kept.path, "SELECT (SELECT count(*) FROM second), (SELECT count(*) FROM minute)")
    assert 86_400 <= seconds <= 86_400 + 3600
    assert minutes <= store.MINUTE_ROWS
    assert sizes[1] < 1.1 * sizes[0]
    assert kept.path.stat().st_size < 8e6
