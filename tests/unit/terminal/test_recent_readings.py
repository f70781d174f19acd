"""The readings of the last ten minutes, and which of them a bar shows."""

import time
from pathlib import Path

import pytest

from gpufan.terminal.recent_readings import RecentReadings, recent_readings
from tests.unit.builders import gpu_state, snapshot_at
from tests.unit.history.recorded import RecordedRun


def test_a_bar_is_the_highest_reading_of_its_part() -> None:
    readings = RecentReadings()
    for second, temperature_c in enumerate([40.0, 80.0, 40.0, None, 50.0]):
        readings.add(snapshot_at(1200 + second, temperature_c=temperature_c))
    assert readings.maxima("GPU-0", lambda gpu: gpu.temperature_c, 30)[-2:] == [None, 80]


def test_readings_older_than_ten_minutes_are_forgotten() -> None:
    readings = RecentReadings()
    for second in (0, 30, 601):
        readings.add(snapshot_at(1200 + second))
    assert [value for value in readings.maxima("GPU-0", lambda gpu: gpu.power_w, 600) if value] == [229.7, 229.7]


def test_the_bars_begin_with_the_history_of_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = RecordedRun(tmp_path)
    for temperature_c in (81.0, 50.0, 60.0):
        recorded.seconds(300, temperature_c=temperature_c)
    recorded.recorder.close()
    monkeypatch.setattr(time, "time", lambda: recorded.wall_s)
    readings = RecentReadings(recent_readings(tmp_path))
    readings.add(snapshot_at(recorded.wall_s + 1, uuid=gpu_state().uuid, temperature_c=70.0))
    drawn = readings.maxima(gpu_state().uuid, lambda gpu: gpu.temperature_c, 6)
    assert drawn == [50.0, 50.0, 60.0, 60.0, 60.0, 70.0]


def test_without_a_history_the_bars_begin_empty(tmp_path: Path) -> None:
    assert recent_readings(tmp_path / "none") == []


def test_a_clock_that_was_set_back_empties_the_bars() -> None:
    readings = RecentReadings()
    readings.add(snapshot_at(5000))
    readings.add(snapshot_at(1200))
    assert len([value for value in readings.maxima("GPU-0", lambda gpu: gpu.power_w, 60) if value]) == 1


def test_an_unchanged_snapshot_is_stored_once() -> None:
    readings = RecentReadings()
    for _ in range(10):
        readings.add(snapshot_at(1200))
    assert len(readings._readings["GPU-0"]) == 1
