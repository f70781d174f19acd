"""New settings for a card whose fans are in hand."""

import dataclasses
from collections.abc import Callable
from itertools import pairwise

import pytest

from gpufan.control.controller import Controller
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.gpu import GpuInfo
from gpufan.core.sentences import state_sentence
from gpufan.daemon.worker import Worker
from gpufan.gpu.simulated import PROFILES, SimulatedBox, SimulatedGpu


class Card(SimulatedGpu):
    """A card that holds its temperature and remembers what was asked of its fans; None is giving them back."""

    def __init__(self) -> None:
        plain = SimulatedBox(PROFILES["1080ti"], lambda _: 200.0).gpus[0]
        super().__init__(0, plain.info.name, plain.plant, plain.workload, 1)
        self.die_c = 60.0
        self.asked: list[int | None] = []

    def set_duty(self, duty_percent: int) -> None:
        self.asked.append(duty_percent)
        super().set_duty(duty_percent)
        self.speed_percent = duty_percent

    def release(self) -> None:
        self.asked.append(None)
        super().release()


def flat(duty: int, **others: float) -> Callable[[GpuInfo], CardSettings]:
    return lambda _: CardSettings(curve=Curve(((50, duty),)), **others)


def kept_at(duty: int) -> tuple[Card, Worker]:
    card = Card()
    worker = Worker(card, flat(duty))
    worker.tick(0)
    assert card.asked == [duty]
    return card, worker


def test_a_higher_curve_is_followed_at_the_next_tick() -> None:
    card, worker = kept_at(40)
    worker.follow(flat(70))
    assert card.asked == [40]
    worker.tick(1)
    assert card.asked == [40, 70]


def test_a_lower_curve_lets_the_fans_fall_gently_from_where_they_are() -> None:
    card, worker = kept_at(70)
    worker.follow(flat(40))
    for second in range(1, 30):
        worker.tick(second)
    assert card.asked[0] == 70
    assert card.asked[-1] < 40 + CardSettings().step_percent
    assert all(0 < before - after <= 4 for before, after in pairwise(card.asked))


def test_the_highest_temperature_of_the_hold_is_not_forgotten() -> None:
    card = Card()
    steep = CardSettings(curve=Curve(((40, 40), (80, 80))))
    worker = Worker(card, lambda _: steep)
    worker.tick(0)
    card.die_c = 50.0
    worker.follow(lambda _: dataclasses.replace(steep, min_duty_percent=30))
    for second in range(1, 60):
        worker.tick(second)
    assert card.asked == [60]


def test_a_higher_floor_holds_at_the_next_tick_and_a_lower_one_gently() -> None:
    card, worker = kept_at(40)
    worker.follow(flat(40, min_duty_percent=55))
    worker.tick(1)
    worker.follow(flat(40))
    worker.tick(2)
    worker.tick(3)
    assert card.asked == [40, 55, 51]


def test_fans_left_to_the_driver_are_taken_when_the_new_curve_wants_them() -> None:
    card = Card()
    worker = Worker(card, lambda _: CardSettings(curve=Curve.parse("0:auto,70:50")))
    worker.tick(0)
    worker.follow(flat(40))
    worker.tick(1)
    assert card.asked == [None, 40]


def test_a_sensor_in_doubt_stays_in_doubt() -> None:
    controller = Controller(flat(40)(Card().info), (23, 100), 93)
    for second in range(90):
        decision = controller.decide(second, 60, 50 + 2 * second)
    assert decision.reason.cause.group == "fail-safe"
    controller.follow(flat(50)(Card().info))
    assert controller.decide(90, 60, 230).duty_percent == 100


def test_a_card_that_is_found_late_gets_the_settings_meant_for_it() -> None:
    card = Card()
    known, card.info = card.info, dataclasses.replace(card.info, uuid="")
    worker = Worker(card, lambda info: CardSettings(curve=Curve(((50, 66 if info.uuid else 44),))))
    worker.tick(0)
    card.info = known
    worker.tick(1)
    assert card.asked[0] == 44
    assert card.asked[-1] == 66


@pytest.mark.parametrize("duty", [30, 90])
def test_a_dry_run_takes_on_new_settings_and_touches_nothing(duty: int) -> None:
    card = Card()
    worker = Worker(card, flat(60), dry_run=True)
    worker.tick(0)
    worker.follow(flat(duty))
    worker.tick(1)
    assert card.asked == []
    assert state_sentence(worker.state).startswith(f"the curve gives {duty} %")
