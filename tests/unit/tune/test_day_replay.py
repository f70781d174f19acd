"""The replay of a day in long steps: it agrees with the replay that ticks every second."""

import time
from dataclasses import replace
from functools import cache

import pytest

from gpufan.control.law import Learnt
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.quiet_hours import QuietHours
from gpufan.daemon.recording import Row
from gpufan.daemon.summary import CardSummary
from gpufan.daemon.workers import make_workers
from gpufan.gpu.simulated import Profile, SimulatedBox
from gpufan.tune.boxes import FittedBox
from gpufan.tune.day_replay import DayCard, DayOutcome, replay_day
from gpufan.tune.plant import FittedPlant
from gpufan.tune.recorded_cards import RecordedCard, recorded_cards
from gpufan.tune.thinned_load import LONGEST_CALM_S, thin_load

PLANT = FittedPlant(resistance_floor=0.07, resistance_flow=0.09, case_resistance=0.02)
LEARNT = Learnt(80.0)
EVERY_DAY = frozenset(range(7))


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
    box = FittedBox([(card, plant) for card in cards])
    learnt = {card.uuid: LEARNT for card in cards}
    workers = make_workers(box.gpus, lambda _: settings, learnt=learnt, wall_clock=local_time)
    summaries = [CardSummary(gpu) for gpu in box.gpus]
    for second in range(round(cards[0].seconds) + 1):
        for worker in workers:
            worker.tick(second)
        for summary in summaries:
            summary.add(1.0)
        box.advance(1.0)
    return summaries


def day_cards(cards: list[RecordedCard], plant: FittedPlant, settings: CardSettings) -> list[DayCard]:
    box = FittedBox([(card, plant) for card in cards])
    return [
        DayCard(gpu.info, plant, thin_load(card), settings, LEARNT) for card, gpu in zip(cards, box.gpus, strict=True)
    ]


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
FAST = "target", "restless curve"
"""The other settings are tested with the slow tests."""


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(settings, id=name, marks=[pytest.mark.slow] * (name not in FAST))
        for name, settings in SETTINGS.items()
    ],
)
def test_a_replay_in_long_steps_agrees_with_one_in_seconds(settings: CardSettings) -> None:
    cards = recorded()
    (expected,) = every_second(cards, PLANT, settings)
    (found,) = replay_day(day_cards(cards, PLANT, settings), local_time)
    assert found.peak_c == pytest.approx(expected.peak_c, abs=0.5)
    assert found.sound_db == pytest.approx(expected.sound_db, abs=0.3)
    assert found.swings == pytest.approx(expected.swings.count, rel=0.1, abs=2)
    assert found.hot_s == pytest.approx(expected.hot_s, rel=0.1, abs=60)


def test_the_parts_have_the_energy_of_the_recording_and_far_fewer_steps() -> None:
    (card,) = recorded()
    parts = thin_load(card)
    assert sum(part.seconds for part in parts) == pytest.approx(card.seconds)
    energy_j = sum(elapsed_s * reading.power_w for elapsed_s, reading in card.steps())
    assert sum(part.power_w * part.seconds for part in parts) == pytest.approx(energy_j)
    assert len(parts) < card.seconds / 8
    assert max(part.seconds for part in parts) <= LONGEST_CALM_S


def test_the_first_part_after_a_jump_of_the_power_is_short() -> None:
    (card,) = recorded()
    jumped = [part for part in thin_load(card) if 600 <= part.end_s <= 601 or 899 <= part.end_s <= 901]
    assert all(part.seconds <= 2 for part in jumped if part.power_w > 200)
    assert {round(part.power_w) for part in jumped} >= {230}


def test_noise_of_the_power_makes_few_parts_and_some_ripple() -> None:
    (card,) = recorded()
    noisy = replace(
        card,
        stretches=tuple(
            [r._replace(power_w=r.power_w + (20 if n % 2 else -20)) for n, r in enumerate(stretch)]
            for stretch in card.stretches
        ),
    )
    assert len(thin_load(noisy)) < 1.2 * len(thin_load(card))
    assert max(part.ripple_w for part in thin_load(noisy)) > 2


def test_the_two_halves_of_a_day_make_the_day() -> None:
    cards = day_cards(recorded(), PLANT, CardSettings(target_c=75))
    (together,) = replay_day(cards, local_time)
    (first,) = replay_day(cards, local_time, end_s=3000)
    (second,) = replay_day([replace(cards[0], load=[p for p in cards[0].load if p.end_s > 1200])], local_time, 3000)
    assert first.seconds + second.seconds == pytest.approx(together.seconds)
    assert max(first.peak_c, second.peak_c) == pytest.approx(together.peak_c, abs=0.5)
    assert first.swings + second.swings == pytest.approx(together.swings, abs=2)


def test_without_load_in_the_time_a_replay_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 A has no load"):
        replay_day(day_cards(recorded(), PLANT, CardSettings()), local_time, end_s=-5)


def peaks(found: list[DayOutcome]) -> list[float]:
    return [outcome.peak_c for outcome in found]


def test_cards_are_warmed_by_the_recorded_power_of_the_others() -> None:
    cards = recorded(cards=2)
    alone, beside = (
        replay_day(day_cards(cards, replace(PLANT, coupling=coupling), CardSettings(Curve.parse("0:60"))), local_time)
        for coupling in (0.0, 0.02)
    )
    for cooler, warmer in zip(peaks(alone), peaks(beside), strict=True):
        assert warmer - cooler == pytest.approx(0.02 * 230, abs=1)


@pytest.mark.slow
def test_a_card_helps_its_neighbour_as_under_the_daemon() -> None:
    cards = recorded(cards=2)
    settings = CardSettings(target_c=65, neighbours=("0", "1"))
    expected = every_second(cards, PLANT, settings)
    found = replay_day(day_cards(cards, PLANT, settings), local_time)
    for outcome, summary in zip(found, expected, strict=True):
        assert outcome.sound_db == pytest.approx(summary.sound_db, abs=0.3)
    unhelped = replay_day(day_cards(cards, PLANT, CardSettings(target_c=65)), local_time)
    assert found[1].sound_db > unhelped[1].sound_db + 0.5
