"""The replay of a day in lanes: it agrees with the replay that ticks workers every second."""

import pickle
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from gpufan.control.law import Learnt
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.quiet_hours import QuietHours
from gpufan.daemon.recording import Row
from gpufan.daemon.summary import CardSummary
from gpufan.daemon.workers import make_workers
from gpufan.gpu.simulated import Profile, SimulatedBox, Workload
from gpufan.tune.boxes import FittedBox
from gpufan.tune.day_load import DayLoad, day_loads, reading_jitter_k
from gpufan.tune.day_replay import replay_day
from gpufan.tune.lane_box import BoxRows, DayCard
from gpufan.tune.lanes import WARM_STEPS, LaneLoad, low_passed
from gpufan.tune.plant import FittedPlant
from gpufan.tune.recorded_cards import RecordedCard, recorded_cards

PLANT = FittedPlant(resistance_floor=0.07, resistance_flow=0.09, case_resistance=0.02)
LEARNT = Learnt(80.0)
EVERY_DAY = frozenset(range(7))
WARM_UP_S = 1800


def local_time(time_s: float) -> time.struct_time:
    """Monday, midnight, at the beginning."""
    return time.gmtime(4 * 86400 + time_s)


def power_w(time_s: float) -> float:
    """Ten minutes of idling, 50 of training with epochs, 20 of short jobs, 20 of idling."""
    if time_s < 600 or time_s >= 4800:
        return 12.0
    if time_s < 3600:
        return 230.0 if time_s % 330 < 300 else 60.0
    return 200.0 if time_s % 100 < 60 else 15.0


@cache
def recorded(seconds: int = 6000, cards: int = 1) -> list[RecordedCard]:
    """The cards at a duty of 50 %. Each begins its work 15 minutes before the one in front of it."""
    box = SimulatedBox(Profile("A", (PLANT,) * cards), power_w)
    for number, gpu in enumerate(box.gpus):
        gpu.workload = lambda time_s, ahead_s=900 * number: power_w(time_s + ahead_s)  # type: ignore[misc]
        gpu.set_duty(50)
    rows = []
    for second in range(seconds):
        for gpu in box.gpus:
            reading = gpu.read()
            values = reading.temperature_c, reading.power_w, 50, 50, None
            rows.append(Row(float(second), f"GPU-{gpu.info.index}", gpu.info.label, *values, "ours", "", ""))
        box.advance(1.0)
    return recorded_cards(rows)


def every_second(cards: list[RecordedCard], plant: FittedPlant, settings: CardSettings) -> list[CardSummary]:
    """The outcomes of real workers. Before that, each card has drawn its first power for half an hour."""
    box = FittedBox([(card, plant) for card in cards])

    def delayed(workload: Workload) -> Workload:
        return lambda time_s: workload(max(time_s - WARM_UP_S, 0.0))

    for gpu in box.gpus:
        gpu.workload = delayed(gpu.workload)
    box._others = [delayed(others) for others in box._others]
    learnt = {card.uuid: LEARNT for card in cards}
    workers = make_workers(
        box.gpus, lambda _: settings, learnt=learnt, wall_clock=lambda s: local_time(max(s - WARM_UP_S, 0))
    )
    summaries = [CardSummary(gpu) for gpu in box.gpus]
    for second in range(round(cards[0].seconds) + WARM_UP_S):
        for worker in workers:
            worker.tick(second)
        if second >= WARM_UP_S:
            for summary in summaries:
                summary.add(1.0)
        box.advance(1.0)
    return summaries


def day_cards(cards: list[RecordedCard], plant: FittedPlant, settings: CardSettings) -> list[DayCard]:
    box = FittedBox([(card, plant) for card in cards])
    return [
        DayCard(gpu.info, plant, LaneLoad(load, gpu.info.power_limit_w or 0, 0.0), settings, LEARNT)
        for load, gpu in zip(day_loads(cards), box.gpus, strict=True)
    ]


FAST = "target", "restless curve"
"""The other settings are tested with the slow tests."""

SETTINGS = {
    "target": CardSettings(target_c=75),
    "low target": CardSettings(target_c=65),
    "curve": CardSettings(),
    "restless curve": CardSettings(Curve.parse("45:30,78:80"), hysteresis_c=1, hold_s=5),
    "driver": CardSettings(Curve.parse("0:auto,60:40,80:90")),
    "hot": CardSettings(Curve.parse("50:30,83:45")),
    "quiet hours": CardSettings(target_c=75, quiet_hours=(QuietHours(30, 75, EVERY_DAY, max_duty_percent=40),)),
    "quiet target": CardSettings(target_c=65, quiet_hours=(QuietHours(0, 60, EVERY_DAY, target_c=60.0),)),
}


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(settings, id=name, marks=[pytest.mark.slow] * (name not in FAST))
        for name, settings in SETTINGS.items()
    ],
)
def test_a_replay_in_lanes_agrees_with_one_in_seconds(settings: CardSettings) -> None:
    cards = recorded()
    (expected,) = every_second(cards, PLANT, settings)
    (found,) = replay_day(day_cards(cards, PLANT, settings), local_time)
    assert found.peak_c == pytest.approx(expected.peak_c, abs=0.5)
    assert found.sound_db == pytest.approx(expected.sound_db, abs=0.2)
    assert found.swings == pytest.approx(expected.swings.count, rel=0.1, abs=1)
    assert found.hot_s == pytest.approx(expected.hot_s, rel=0.1, abs=60)


def test_the_load_has_the_energy_of_the_recording_without_its_gaps() -> None:
    (card,) = recorded()
    (stretch,) = card.stretches
    gap = replace(card, stretches=(stretch[:1000], stretch[1500:]))
    for each in (card, gap):
        (load,) = day_loads([each])
        energy_j = sum(elapsed_s * reading.power_w for elapsed_s, reading in each.steps())
        assert len(load.time_s) == round(each.seconds)
        assert load.power_w.sum() == pytest.approx(energy_j)


def test_all_cards_share_the_seconds_in_which_any_was_recorded() -> None:
    one, two = recorded(cards=2)
    (stretch,) = two.stretches
    late = replace(two, stretches=(stretch[3000:4000],))
    never = replace(two, stretches=())
    loads = day_loads([one, late, never])
    assert {len(load.time_s) for load in loads} == {5999}
    assert [int(load.known.sum()) for load in loads] == [5999, 999, 0]
    assert loads[1].known[3000:3999].all()


def test_a_load_is_the_same_in_another_process() -> None:
    (load,) = day_loads(recorded())
    copied: DayLoad = pickle.loads(pickle.dumps(load))
    assert copied.power_w == pytest.approx(load.power_w, abs=0.01)
    assert (copied.time_s == load.time_s).all() and (copied.known == load.known).all()


def test_noise_of_the_sensor_is_found() -> None:
    (card,) = recorded()
    assert reading_jitter_k(card) < 0.05
    noisy = tuple([r._replace(temperature_c=r.temperature_c + (n % 3 == 0)) for n, r in enumerate(card.stretches[0])])
    assert reading_jitter_k(replace(card, stretches=(noisy,))) > 0.3


def test_the_filter_is_of_first_order() -> None:
    values = np.array([1.0] * 5 + [3.0] * 1000)
    found = low_passed(values, 50.0)
    assert found[:5] == pytest.approx([1.0] * 5)
    assert found[4 + 50] == pytest.approx(3 - 2 / np.e)
    assert found[4 + 500] == pytest.approx(3 - 2 / np.e**10)


def test_without_load_a_replay_is_an_error() -> None:
    (card,) = day_cards(recorded(), PLANT, CardSettings())
    card.load.time_s = card.load.time_s[:0]
    with pytest.raises(ValueError, match="there is no load"):
        replay_day([card], local_time)


def test_a_card_that_was_not_recorded_has_an_empty_outcome() -> None:
    one, two = recorded(cards=2)
    settings = CardSettings(target_c=75)
    found = replay_day(day_cards([one, replace(two, stretches=(two.stretches[0][:100],))], PLANT, settings), local_time)
    assert [outcome.seconds for outcome in found] == [5999, 99]


@pytest.mark.slow
def test_what_is_learnt_in_the_morning_is_known_in_the_evening() -> None:
    (card,) = recorded()
    (stretch,) = card.stretches
    idle = [stretch[100]._replace(time_s=6000.0 + second) for second in range(20_000)]
    again = [reading._replace(time_s=26_000.0 + reading.time_s) for reading in stretch]
    card = replace(card, stretches=([*stretch, *idle, *again],))
    settings = CardSettings(target_c=65)
    (expected,) = every_second([card], PLANT, settings)
    (found,) = replay_day(day_cards([card], PLANT, settings), local_time)
    assert found.peak_c == pytest.approx(expected.peak_c, abs=0.3)
    assert found.sound_db == pytest.approx(expected.sound_db, abs=0.2)


def test_cards_are_warmed_by_the_recorded_power_of_the_others() -> None:
    cards, plant, settings = recorded(cards=2), replace(PLANT, coupling=0.02), CardSettings(Curve.parse("0:60"))
    found = replay_day(day_cards(cards, plant, settings), local_time)
    for outcome, expected in zip(found, every_second(cards, plant, settings), strict=True):
        assert outcome.peak_c == pytest.approx(expected.peak_c, abs=0.3)
    (alone, _) = replay_day(day_cards(cards, PLANT, settings), local_time)
    assert found[0].peak_c > alone.peak_c + 3


def test_quiet_hours_come_twice_in_the_night_in_which_summer_time_ends(
    in_utc: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    (card,) = day_cards(
        recorded(), PLANT, CardSettings(quiet_hours=(QuietHours(120, 150, EVERY_DAY, max_duty_percent=40),))
    )
    card.load.time_s = card.load.time_s + 1_792_886_400.0  # 25 October 2026, 2 o'clock; an hour later it is 2 again
    limits = BoxRows.of([card], time.localtime).max_duty_percent
    assert limits is not None
    of_seconds = limits[WARM_STEPS:].T.reshape(-1)[:5000]
    has_limit = np.arange(5000) % 3600 < 1800
    assert np.count_nonzero(~np.isnan(of_seconds) != has_limit) <= 3  # a second at each change


def test_quiet_hours_with_a_target_may_be_for_one_card_only() -> None:
    hours = (QuietHours(10, 60, EVERY_DAY, target_c=65.0),)
    quiet, other = day_cards(recorded(cards=2), PLANT, CardSettings(quiet_hours=hours))
    other = replace(other, settings=CardSettings(), learnt=None)
    found = replay_day([quiet, other], local_time)
    (alone,) = replay_day([other], local_time)
    assert found[1].peak_c == pytest.approx(alone.peak_c)
    assert found[0].sound_db != pytest.approx(alone.sound_db, abs=0.5)


def test_a_card_helps_its_neighbour_as_under_the_daemon() -> None:
    cards = recorded(cards=2)
    settings = CardSettings(target_c=65, neighbours=("0", "1"))
    expected = every_second(cards, PLANT, settings)
    found = replay_day(day_cards(cards, PLANT, settings), local_time)
    for outcome, summary in zip(found, expected, strict=True):
        assert outcome.sound_db == pytest.approx(summary.sound_db, abs=0.3)
    unhelped = replay_day(day_cards(cards, PLANT, CardSettings(target_c=65)), local_time)
    assert found[1].sound_db > unhelped[1].sound_db + 0.5
