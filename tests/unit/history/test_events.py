"""Which changes between snapshots are events of the history, and how long they last."""

from pathlib import Path
from typing import Any

import pytest

from gpufan.core.reasons import Cause, Group, Reason, Remedy
from gpufan.core.sentences import reason_sentence
from tests.unit.builders import REASONS, gpu_state
from tests.unit.history.recorded import NOON_S, RecordedRun

FAULT = Reason(Cause.OTHER_TARGET, fan=0, found_percent=40, set_percent=62)


@pytest.fixture
def run(tmp_path: Path) -> RecordedRun:
    found = RecordedRun(tmp_path)
    found.seconds(10)
    return found


def test_normal_operation_has_no_events(run: RecordedRun) -> None:
    run.seconds(60, temperature_c=80.0, duty_percent=80, reason=Reason(Cause.CURVE, curve_percent=80))
    assert run.events() == []


@pytest.mark.parametrize("kind", ["fail-safe", "fault", "lost", "hang"])
def test_a_trouble_is_one_event_from_its_first_tick_to_its_last(run: RecordedRun, kind: str) -> None:
    for _ in range(30):
        run.seconds(1, group=kind, control="lost" if kind in ("lost", "hang") else "ours")
    run.seconds(5)
    assert run.events("kind", "text", "begin_s", "end_s", "count", "uuid") == [
        (kind, reason_sentence(REASONS[Group(kind)]), NOON_S + 11, NOON_S + 40, 1, gpu_state().uuid)
    ]


def test_cards_that_have_never_answered_have_their_own_events(run: RecordedRun) -> None:
    """Their UUIDs are unknown, so their PCI addresses distinguish them."""
    pcis = ["00000000:41:00.0", "00000000:42:00.0"]
    lost = [gpu_state(uuid="", pci=pci, group="lost", control="lost", temperature_c=None) for pci in pcis]
    for _ in range(5):
        run.second(gpu_state(), *lost)
    run.second(gpu_state(), lost[1])
    assert run.events("kind", "uuid", "end_s - begin_s") == [("lost", pcis[0], 4.0), ("lost", pcis[1], 5.0)]
    assert run.rows("SELECT uuid, count(*) FROM card JOIN second ON card = id WHERE uuid LIKE '0%' GROUP BY id") == [
        (pcis[0], 5),
        (pcis[1], 6),
    ]


def test_clocks_that_give_way_are_one_event_with_the_last_limit_and_the_energy(run: RecordedRun) -> None:
    limits = {"gives_way": True, "power_limit_before_w": 250.0, "held_back_w": 40.0}
    run.seconds(10, **limits, power_limit_w=225.0, held_back_j=36_000.0)
    run.seconds(10, **limits, power_limit_w=180.0, held_back_j=3 * 36_000.0)
    run.seconds(5, held_back_j=3 * 36_000.0)
    text = "the clocks give way: power limit 180 W instead of 250 W, about 40 W held back, 20 Wh in total"
    assert run.events("kind", "text", "end_s - begin_s") == [("giving-way", text, 19.0)]


def test_a_fan_that_stands_still_is_an_event_until_it_turns(run: RecordedRun) -> None:
    slow = Reason(Cause.FAN_SLOW, fan=1, found_percent=0, set_percent=62)
    still = Reason(Cause.FAN_STILL, fan=1, found_percent=62, seconds=10.0)
    run.seconds(10, fault=slow)
    run.seconds(20, fault=still)
    run.seconds(5)
    assert run.events("kind", "text", "end_s - begin_s") == [
        ("fan-slow", reason_sentence(slow), 9.0),
        ("fan-still", reason_sentence(still), 19.0),
    ]


def test_a_trouble_that_returns_is_another_event(run: RecordedRun) -> None:
    for _ in range(2):
        run.seconds(3, group="fail-safe")
        run.seconds(3)
    assert [begin_s - NOON_S for (begin_s,) in run.events("begin_s")] == [11, 17]


def test_a_trouble_that_lasts_is_written_with_its_duration_so_far(run: RecordedRun) -> None:
    run.seconds(300, group="fail-safe")
    run.new_recorder()
    assert run.events("kind", "end_s - begin_s") == [("fail-safe", 299.0)]


def test_throttling_by_heat_is_an_event_and_by_the_power_limit_is_not(run: RecordedRun) -> None:
    run.seconds(20, throttle="power-cap")
    run.seconds(20, throttle="heat")
    run.seconds(20, throttle="none")
    assert run.events("kind", "end_s - begin_s") == [("throttled", 19.0)]


@pytest.mark.parametrize(
    ("field", "kind", "text"),
    [
        ("overrides", "override", "fan 0 has a target of 40 % instead of 62 %"),
        ("errors", "error", "the curve gives 62 %; set again: fan 0 has a target of 40 % instead of 62 %"),
    ],
)
def test_repeated_overrides_and_errors_are_one_event_with_a_count(
    run: RecordedRun, field: str, kind: str, text: str
) -> None:
    for count in range(1, 101):
        run.seconds(1, **{field: count}, group="curve", fault=FAULT, remedy=Remedy.SET_AGAIN)
    run.seconds(100, **{field: 100})
    run.seconds(1, **{field: 102}, group="curve")
    assert run.events("kind", "count", "text") == [
        (kind, 100, text),
        (kind, 2, "the curve gives 62 %"),
    ]


def test_counts_from_before_the_recorder_started_are_no_event(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    run.seconds(20, overrides=7, errors=3)
    assert run.events() == []


def test_a_restart_is_an_event_and_its_counters_begin_at_zero(run: RecordedRun) -> None:
    run.seconds(10, overrides=5)
    run.snapshot["pid"] = 4712
    run.seconds(10, overrides=2)
    assert run.events("kind", "count") == [("override", 5 + 2), ("restart", 1)]
    assert run.events()[-1] == ("restart", "gpufan 0.1.0 started, process 4712")


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
def test_a_change_of_control_is_an_event_with_its_reason(
    run: RecordedRun, before: dict[str, Any], after: dict[str, Any], text: str
) -> None:
    run.seconds(5, **before)
    run.seconds(5, **after)
    assert run.events()[-1] == ("control", text)


def test_a_change_of_control_by_a_trouble_is_one_event(run: RecordedRun) -> None:
    run.seconds(5, control="released", group="fault", message="fan 0 does not obey")
    run.seconds(5)
    assert run.events() == [("fault", "given back to the driver: fan 0 does not obey")]


def test_new_settings_are_an_event_with_the_old_ones(run: RecordedRun) -> None:
    run.seconds(5, settings="curve 50:30,83:100")
    run.seconds(5, settings="target 78 °C")
    assert run.events()[-1] == ("settings", "curve 50:30,83:100 -> target 78 °C")


def test_refused_settings_are_one_event(run: RecordedRun) -> None:
    run.snapshot["reload_refused"] = "config.toml: line 3: no such key"
    run.seconds(20)
    assert run.events() == [("reload", "settings not reloaded, the old ones stay: config.toml: line 3: no such key")]


@pytest.mark.parametrize(("step_s", "words"), [(-3600.0, "back by 3600 s"), (90.0, "forward by 90 s")])
def test_a_change_of_the_clock_is_an_event(run: RecordedRun, step_s: float, words: str) -> None:
    run.snapshot |= {"clock_steps": 1, "clock_step_s": step_s}
    run.seconds(20)
    assert run.events() == [("clock", f"the clock was set {words}")]


def test_there_is_a_gap_while_gpufan_does_not_run(run: RecordedRun) -> None:
    run.runs = False
    run.seconds(100)
    assert run.events("kind", "begin_s", "text") == [("gap", NOON_S + 10, "gpufan did not run")]
    run.runs = True
    run.snapshot["pid"] = 4712
    run.seconds(100)
    assert run.events("kind", "end_s") == [("gap", NOON_S + 111), ("restart", NOON_S + 111)]


def test_there_is_a_gap_while_gpufan_hangs(run: RecordedRun) -> None:
    run.hangs = True
    run.seconds(30)
    assert run.events("kind", "begin_s", "end_s", "text") == [
        ("gap", NOON_S + 10, NOON_S + 40, "gpufan hung, or was killed")
    ]


def test_a_restart_within_seconds_is_no_gap(run: RecordedRun) -> None:
    run.runs = False
    run.seconds(4)
    run.runs = True
    run.seconds(10)
    assert run.events() == []


def test_there_is_a_gap_while_no_recorder_runs(run: RecordedRun) -> None:
    run.recorder.close()
    run.wall_s += 7200
    run.new_recorder()
    run.seconds(10)
    assert run.events("kind", "begin_s", "end_s", "text") == [
        ("gap", NOON_S + 10, NOON_S + 7211, "no history was recorded")
    ]


def test_there_is_a_gap_while_the_machine_sleeps(run: RecordedRun) -> None:
    run.second(seconds=3600)
    run.seconds(10)
    assert run.events("kind", "end_s - begin_s", "text") == [("gap", 3600.0, "no history was recorded")]


def test_the_snapshot_of_a_killed_gpufan_is_not_recorded(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    run.hangs = True
    run.wall_s += 600
    run.seconds(20)
    assert run.rows("SELECT * FROM second") == []


def test_a_very_long_reason_is_cut(run: RecordedRun) -> None:
    run.seconds(5, group="fault", message="x" * 10_000)
    assert run.events("length(text)") == [(300,)]
