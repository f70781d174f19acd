"""The generated day: plausible, repeatable, and written so that every reader of the history can use it."""

import itertools
import time
from itertools import pairwise
from pathlib import Path

import pytest

from gpufan.core.card_settings import CardSettings
from gpufan.history.events import EventKind
from gpufan.history.reader import HistoryReader
from gpufan.web import simulated_day
from gpufan.web.simulated_day import DAY_S, INTERVAL_S, day_workload, make_day_and_record, write_day
from tests.unit.builders import snapshot_at
from tests.unit.history.recorded import NOON_S

HOURS = 6


def settings_for(_: object) -> CardSettings:
    return CardSettings(target_c=78)


def rows(folder: Path, seed: int) -> list[tuple[object, ...]]:
    write_day(folder, "dual-1080ti", settings_for, NOON_S, seed, 3600)
    with HistoryReader(folder) as reader:
        return list(reader.readings(reader.cards(), reader.time_range()))


def test_the_same_seed_gives_the_same_day(tmp_path: Path) -> None:
    first, second, other = (rows(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert first == second
    assert [row[4] for row in first] != [row[4] for row in other]


@pytest.mark.slow
def test_a_day_has_readings_all_the_time_except_at_its_restart_and_some_events(tmp_path: Path) -> None:
    write_day(tmp_path, "dual-1080ti", settings_for, NOON_S, 1, HOURS * 3600)
    with HistoryReader(tmp_path) as reader:
        times_s = sorted({row.time_s for row in reader.readings(reader.cards(), reader.time_range())})
        kinds = {event.kind for event in reader.events(reader.cards(), reader.time_range())}
    steps_s = [after - before for before, after in pairwise(times_s)]
    assert sum(step_s > 1.5 * INTERVAL_S for step_s in steps_s) == 1
    assert kinds >= {EventKind.RESTART, EventKind.GAP, EventKind.OVERRIDE, EventKind.FAN_SLOW}


def test_while_a_day_is_made_the_present_snapshots_are_recorded_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count(100.0, 0.5)
    monkeypatch.setattr(simulated_day, "since_boot_s", lambda: next(seconds))
    present = [NOON_S + 15]  # as on a machine where the recorder starts late

    def wall_clock() -> float:
        present[0] += 1
        return present[0]

    before = [snapshot_at(NOON_S - 600 + second) for second in range(600)]
    make_day_and_record(
        tmp_path / "history", "1080ti", settings_for, before, lambda: snapshot_at(present[0]), wall_clock, 1800
    )
    with HistoryReader(tmp_path / "history") as reader:
        time_range = reader.time_range()
        times_s = {row.time_s for row in reader.readings(reader.cards(), time_range)}
        kinds = {event.kind for event in reader.events(reader.cards(), time_range._replace(begin_s=NOON_S - 60))}
    assert times_s >= {NOON_S + second for second in (-600, -1, 16, 17, 60, 100)}
    assert EventKind.GAP not in kinds


@pytest.mark.slow
def test_a_fan_on_a_header_cools_its_card_over_the_day(tmp_path: Path) -> None:
    write_day(tmp_path, "p40-header", settings_for, NOON_S, 1, HOURS * 3600)
    with HistoryReader(tmp_path) as reader:
        (card,) = reader.cards()
        readings = list(reader.readings([card], reader.time_range()))
    assert max(row.temperature_c or 0 for row in readings) < 84
    assert {row.duty_percent for row in readings[:100]} != {None}


def test_a_box_with_a_case_fan_has_a_day(tmp_path: Path) -> None:
    write_day(tmp_path, "dual-1080ti-case", settings_for, NOON_S, 1, 3600)
    with HistoryReader(tmp_path) as reader:
        assert "nct6798/pwm2" in {card.label for card in reader.cards()}


@pytest.mark.parametrize("card", [0, 1])
def test_cards_work_by_day_and_rest_by_night(card: int) -> None:
    workload = day_workload(NOON_S, card, 1)
    by_hour: dict[int, list[float]] = {}
    for second in range(0, int(DAY_S), 30):
        by_hour.setdefault(time.localtime(NOON_S + second).tm_hour, []).append(workload(second))
    assert all(max(by_hour[hour]) < 20 for hour in (3, 4, 5, 6))
    assert max(map(max, by_hour.values())) > 200
    assert {power_w for powers in by_hour.values() for power_w in powers if 50 < power_w < 120}


def test_the_cards_work_differently() -> None:
    first, second = (day_workload(NOON_S, card, 1) for card in range(2))
    assert sum(first(s) != second(s) for s in range(0, int(DAY_S), 60)) > 600
