"""The control benchmark: its plants, its loads, and how the laws are compared."""

import math
from pathlib import Path

import pytest

from tests.benchmarks import laws
from tests.benchmarks.control import loads, plants
from tests.benchmarks.control.measure import TARGETS_C, Outcome, Recorder, combined
from tests.benchmarks.control.reference import Reference
from tests.benchmarks.control.runs import LAWS, run
from tests.benchmarks.control.table import Released, Result, aims, avoidable_s, over_reference, sound_at


def outcome(heat_c: float = 78, sound_db: float = 40, **changes: object) -> Outcome:
    figures = {"hot_s": (0.0, 0.0, 0.0), "swings": 4, "variation": 50, "small_steps": 9, "throttled_s": 0}
    return Outcome(heat_c, sound_db, **{**figures, "late_swings": 0, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("number", range(21))
def test_at_the_power_limit_every_plant_settles_between_its_air_and_its_throttle_point(number: int) -> None:
    plant = plants.quiet(plants.draw(number))
    card = plants.Card(plant, lambda second: 1.0, number)
    card.set_duty(100)
    for _ in range(4000):
        card.advance()
    assert plant.inlet_c + 15 < card.die_c < plant.throttle_c
    assert not card.throttled


@pytest.mark.parametrize("number", range(21))
def test_a_faster_fan_cools_a_plant_and_a_stalled_fan_does_not(number: int) -> None:
    plant = plants.quiet(plants.draw(number))
    settled_c = []
    for duty in (plant.duty_range[0], 40, 100):
        card = plants.Card(plant, lambda second: 0.6, number)
        for _ in range(2500):
            card.set_duty(duty)
            card.advance()
        settled_c.append(card.die_c)
    assert settled_c[0] > settled_c[1] > settled_c[2]


def test_a_card_that_is_too_hot_lowers_its_clock_and_says_so() -> None:
    card = plants.Card(plants.quiet(plants.draw(0)), lambda second: 1.0, 0)
    card.set_duty(0)
    for _ in range(2000):
        card.advance()
    assert card.throttled
    assert card.read().throttle == "heat"


def test_a_run_is_the_same_every_time() -> None:
    assert run(LAWS[laws.REFERENCE], 78, 3) == run(LAWS[laws.REFERENCE], 78, 3)


@pytest.mark.parametrize("kind", loads.KINDS)
def test_every_load_is_a_share_of_the_power_limit(kind: str) -> None:
    number = next(n for n in range(1000) if loads.kind(n) == kind)
    load = loads.draw(number)
    assert all(0 < load(second) < 1.2 for second in range(plants.SECONDS))


def test_every_class_of_cards_meets_every_kind_of_load() -> None:
    assert len({(plants.draw(n).name, loads.kind(n)) for n in range(140)}) == 7 * 8


def test_a_recording_is_repeated_second_by_second(tmp_path: Path) -> None:
    path = tmp_path / "card.csv"
    path.write_text("seconds,temperature_c,power_w\n0,40,50\n2,41,200\n3,42,100\n4,42,100\n")
    load = loads.recorded(path, 1)
    assert [load(second) for second in range(5)] == [0.25, 0.25, 1.0, 0.5, 0.25]


def test_no_recordings_is_no_error(tmp_path: Path) -> None:
    assert loads.recordings(tmp_path / "absent") == []


def test_the_recorder_measures_heat_sound_and_unrest() -> None:
    recorder = Recorder(100)
    for second in range(100):
        recorder.add(90 if second < 10 else 70, 2400, 50 if second % 2 else 40, throttled=second < 5)
    found = recorder.outcome()
    assert found.heat_c == 90
    assert found.sound_db == pytest.approx(44.5)
    assert found.hot_s == (10, 10, 10)
    assert found.throttled_s == 5
    assert found.swings == pytest.approx(99 * 36)


def test_of_two_cards_the_hotter_and_the_more_restless_count() -> None:
    both = combined([outcome(70, 40, swings=2), outcome(80, 40, swings=1)])
    assert (both.heat_c, both.swings, both.sound_db) == (80, 2, pytest.approx(40))


@pytest.mark.parametrize(("heat_c", "sound_db"), [(70, 50), (74, 46), (78, 42), (80.5, 41), (86, 38.8), (99, 38)])
def test_sound_is_compared_at_equal_heat(heat_c: float, sound_db: float) -> None:
    assert sound_at(heat_c, [outcome(70, 50), outcome(78, 42), outcome(83, 40)]) == pytest.approx(sound_db)


def test_a_run_in_which_the_card_throttled_is_not_compared() -> None:
    assert math.isnan(sound_at(78, [outcome(throttled_s=600)]))


def family(**ours: object) -> dict[tuple[str, float], list[Result]]:
    sounds_db = zip(TARGETS_C, (50, 42, 37), strict=True)
    rows = {(laws.REFERENCE, c): [Result(outcome(c, sound_db, hot_s=(20, 20, 20)))] for c, sound_db in sounds_db}
    return {
        **rows,
        (laws.OURS, 78.0): [Result(outcome(**ours))],  # type: ignore[arg-type]
        (laws.FULL, math.nan): [Result(outcome(60, 60, hot_s=(15, 5, 0)))],
    }


def test_heat_that_full_fans_have_too_is_not_avoidable() -> None:
    assert avoidable_s(family(), (laws.REFERENCE, 70.0)) == [5]


def test_a_law_that_is_quieter_because_it_is_hotter_is_not_ahead() -> None:
    assert over_reference(family(heat_c=80, sound_db=40), (laws.OURS, 78.0)) == pytest.approx(0)


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"sound_db": 42.05}, ""),
        ({"sound_db": 42.2}, "no louder"),
        ({"sound_db": 42, "swings": 5}, "swings"),
        ({"sound_db": 42, "variation": 56}, "variation"),
        ({"sound_db": 42, "hot_s": (0, 21, 0)}, "no hotter"),
    ],
)
def test_each_aim_is_met_or_missed(changes: dict[str, object], missed: str) -> None:
    found = aims("other", family(**changes), {})
    assert len(found) == 4
    assert [missed in aim for aim, met in found if not met] == ([True] if missed else [])


def test_on_its_own_family_the_law_is_measured_by_0_1_0() -> None:
    own = family()
    own[laws.OURS, 78.0] = [Result(outcome(sound_db=41.5), above_db=0.5, longest_hot_s=9, coupled=True)]
    met = [met for _, met in aims("own", own, {78.0: Released(9, -0.4, 0.5, 9)})]
    missed = [met for _, met in aims("own", own, {78.0: Released(8, -0.8, 0.4, 8)})]
    assert met == [True] * 5
    assert missed == [True, False, False, False, False]


def test_the_reference_holds_a_steady_card_at_the_target() -> None:
    card = plants.Card(plants.quiet(plants.draw(0)), lambda second: 0.9, 0)
    law = Reference(78, (23, 100), card.plant.limit_w)
    for second in range(3000):
        reading = card.read()
        assert reading.temperature_c is not None
        card.set_duty(law.decide(second, reading.temperature_c, reading.power_w))
        card.advance()
    assert card.die_c == pytest.approx(78, abs=1.5)
