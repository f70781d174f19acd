"""What of a card's life is worth a line in the history, and how often."""

from pathlib import Path
from typing import Any

import pytest

from gpufan.core.reasons import Cause, Group, Reason, Remedy
from gpufan.core.sentences import reason_sentence
from tests.unit.builders import REASONS, gpu_state
from tests.unit.history.kept import NOON_S, Kept

FAULT = Reason(Cause.OTHER_TARGET, fan=0, found_percent=40, set_percent=62)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    found = Kept(tmp_path)
    found.seconds(10)
    return found


def test_a_quiet_time_has_no_events(kept: Kept) -> None:
    kept.seconds(60, temperature_c=80.0, duty_percent=80, reason=Reason(Cause.CURVE, curve_percent=80))
    assert kept.events() == []


@pytest.mark.parametrize("kind", ["fail-safe", "fault", "lost", "hang"])
def test_a_trouble_is_one_event_from_its_beginning_to_its_end(kept: Kept, kind: str) -> None:
    for _ in range(30):
        kept.seconds(1, group=kind, control="lost" if kind in ("lost", "hang") else "ours")
    kept.seconds(5)
    assert kept.events("kind", "text", "begin_s", "end_s", "count", "uuid") == [
        (kind, reason_sentence(REASONS[Group(kind)]), NOON_S + 11, NOON_S + 40, 1, gpu_state().uuid)
    ]


def test_a_trouble_that_comes_back_is_another_event(kept: Kept) -> None:
    for _ in range(2):
        kept.seconds(3, group="fail-safe")
        kept.seconds(3)
    assert [begin_s - NOON_S for (begin_s,) in kept.events("begin_s")] == [11, 17]


def test_a_trouble_under_way_is_in_the_file_with_what_there_is_of_it(kept: Kept) -> None:
    kept.seconds(300, group="fail-safe")
    kept.new_keeper()
    assert kept.events("kind", "end_s - begin_s") == [("fail-safe", 299.0)]


def test_throttling_by_heat_is_an_event_and_by_the_power_limit_is_none(kept: Kept) -> None:
    kept.seconds(20, throttle="power-cap")
    kept.seconds(20, throttle="heat")
    kept.seconds(20, throttle="none")
    assert kept.events("kind", "end_s - begin_s") == [("throttled", 19.0)]


@pytest.mark.parametrize(
    ("field", "kind", "text"),
    [
        ("overrides", "override", "fan 0 has a target of 40 % instead of 62 %"),
        ("errors", "error", "the curve gives 62 %; set again: fan 0 has a target of 40 % instead of 62 %"),
    ],
)
def test_what_comes_again_and_again_is_one_event_with_a_count(kept: Kept, field: str, kind: str, text: str) -> None:
    for count in range(1, 101):
        kept.seconds(1, **{field: count}, group="curve", fault=FAULT, remedy=Remedy.SET_AGAIN)
    kept.seconds(100, **{field: 100})
    kept.seconds(1, **{field: 102}, group="curve")
    assert kept.events("kind", "count", "text") == [
        (kind, 100, text),
        (kind, 2, "the curve gives 62 %"),
    ]


def test_what_was_counted_before_the_keeper_began_is_no_event(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.seconds(20, overrides=7, errors=3)
    assert kept.events() == []


def test_a_restart_is_an_event_and_its_counters_begin_anew(kept: Kept) -> None:
    kept.seconds(10, overrides=5)
    kept.snapshot["pid"] = 4712
    kept.seconds(10, overrides=2)
    assert kept.events("kind", "count") == [("override", 5 + 2), ("restart", 1)]
    assert kept.events()[-1] == ("restart", "gpufan 0.1.0 started, process 4712")


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (
            {},
            {"control": "driver", "group": "auto"},
            "ours -> driver: below 50 °C the curve leaves the fans to the driver",
        ),
        (
            {"control": "driver", "group": "auto"},
            {"group": "curve"},
            "driver -> ours: the curve gives 62 %",
        ),
    ],
)
def test_a_change_of_control_is_told_with_its_reason(
    kept: Kept, before: dict[str, Any], after: dict[str, Any], text: str
) -> None:
    kept.seconds(5, **before)
    kept.seconds(5, **after)
    assert kept.events()[-1] == ("control", text)


def test_a_change_of_control_by_a_trouble_is_told_once(kept: Kept) -> None:
    kept.seconds(5, control="released", group="fault", message="fan 0 does not obey")
    kept.seconds(5)
    assert kept.events() == [("fault", "given back to the driver: fan 0 does not obey")]


def test_new_settings_are_told_and_what_was_before(kept: Kept) -> None:
    kept.seconds(5, settings="curve 50:30,83:100")
    kept.seconds(5, settings="target 78 °C")
    assert kept.events()[-1] == ("settings", "curve 50:30,83:100 -> target 78 °C")


def test_settings_that_were_refused_are_told_once(kept: Kept) -> None:
    kept.snapshot["reload_refused"] = "config.toml: line 3: no such key"
    kept.seconds(20)
    assert kept.events() == [("reload", "settings not reloaded, the old ones stay: config.toml: line 3: no such key")]


@pytest.mark.parametrize(("step_s", "words"), [(-3600.0, "back by 3600 s"), (90.0, "forward by 90 s")])
def test_a_clock_that_was_set_is_told(kept: Kept, step_s: float, words: str) -> None:
    kept.snapshot |= {"clock_steps": 1, "clock_step_s": step_s}
    kept.seconds(20)
    assert kept.events() == [("clock", f"the clock was set {words}")]


def test_a_gpufan_that_is_gone_leaves_a_gap_until_it_is_back(kept: Kept) -> None:
    kept.runs = False
    kept.seconds(100)
    assert kept.events("kind", "begin_s", "text") == [("gap", NOON_S + 10, "no gpufan ran")]
    kept.runs = True
    kept.snapshot["pid"] = 4712
    kept.seconds(100)
    assert kept.events("kind", "end_s") == [("gap", NOON_S + 111), ("restart", NOON_S + 111)]


def test_a_gpufan_that_hangs_leaves_a_gap(kept: Kept) -> None:
    kept.hangs = True
    kept.seconds(30)
    assert kept.events("kind", "begin_s", "end_s", "text") == [
        ("gap", NOON_S + 10, NOON_S + 40, "gpufan hung, or was killed")
    ]


def test_a_restart_that_takes_seconds_is_no_gap(kept: Kept) -> None:
    kept.runs = False
    kept.seconds(4)
    kept.runs = True
    kept.seconds(10)
    assert kept.events() == []


def test_the_time_without_a_keeper_is_a_gap(kept: Kept) -> None:
    kept.keeper.close()
    kept.wall_s += 7200
    kept.new_keeper()
    kept.seconds(10)
    assert kept.events("kind", "begin_s", "end_s", "text") == [
        ("gap", NOON_S + 10, NOON_S + 7211, "no history was kept")
    ]


def test_a_machine_that_slept_leaves_a_gap(kept: Kept) -> None:
    kept.second(seconds=3600)
    kept.seconds(10)
    assert kept.events("kind", "end_s - begin_s", "text") == [("gap", 3600.0, "no history was kept")]


def test_a_snapshot_left_by_one_that_was_killed_is_not_taken_for_a_living_ones(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.hangs = True
    kept.wall_s += 600
    kept.seconds(20)
    assert kept.rows("SELECT * FROM second") == []


def test_a_reason_without_end_is_cut(kept: Kept) -> None:
    kept.seconds(5, group="fault", message="x" * 10_000)
    assert kept.events("length(text)") == [(300,)]
