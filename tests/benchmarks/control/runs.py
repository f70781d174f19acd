"""Runs of laws on the plants of the families *other* and *recorded*."""

from collections.abc import Callable
from pathlib import Path

from gpufan.control.controller import Controller
from gpufan.control.law import duty_range
from gpufan.core.card_settings import CardSettings
from gpufan.core.gpu import Throttle
from tests.benchmarks import laws
from tests.benchmarks.control import loads, plants
from tests.benchmarks.control.measure import Outcome, Recorder
from tests.benchmarks.control.plants import SECONDS, Card
from tests.benchmarks.control.reference import Reference

SLOWDOWN_C = 93
"""The slowdown threshold that every plant reports, °C."""

Act = Callable[[int], None]
"""Reads a card at a second, and sets its fans."""


def target(card: Card, target_c: float) -> Act:
    """gpufan with a target."""
    return _gpufan(card, CardSettings(target_c=target_c))


def curve(card: Card, target_c: float) -> Act:
    """gpufan with the default curve."""
    return _gpufan(card, CardSettings())


def _gpufan(card: Card, settings: CardSettings) -> Act:
    plant = card.plant
    controller = Controller(settings, plant.duty_range, SLOWDOWN_C, power_limit_w=plant.limit_w)

    def act(second: int) -> None:
        reading = card.read()
        decision = controller.decide(
            second,
            reading.temperature_c,
            reading.power_w,
            reading.fans[0].speed_percent,
            throttled=reading.throttle is Throttle.HEAT,
        )
        assert decision.duty_percent is not None
        card.set_duty(decision.duty_percent)

    return act


def reference(card: Card, target_c: float) -> Act:
    """PI with feed-forward of power."""
    plant = card.plant
    law = Reference(target_c, duty_range(plant.duty_range, None), plant.limit_w)

    def act(second: int) -> None:
        reading = card.read()
        assert reading.temperature_c is not None
        card.set_duty(law.decide(second, reading.temperature_c, reading.power_w))

    return act


def coolgpus(card: Card, target_c: float) -> Act:
    """The law of coolgpus, every 5 s."""
    rule = laws.coolgpus()

    def act(second: int) -> None:
        if second % 5 == 0:
            temperature_c = card.read().temperature_c
            assert temperature_c is not None
            card.set_duty(max(rule(temperature_c), duty_range(card.plant.duty_range, None)[0]))

    return act


def stock(card: Card, target_c: float) -> Act:
    """Like the stock driver: a line to 50 % at 84 °C, a point a second at most."""
    idle = float(duty_range(card.plant.duty_range, None)[0])
    duty = idle

    def act(second: int) -> None:
        nonlocal duty
        temperature_c = card.read().temperature_c
        assert temperature_c is not None
        wanted = min(max(idle + (50 - idle) * (temperature_c - 50) / 34, idle), 100)
        duty += min(max(wanted - duty, -1), 1)
        card.set_duty(round(duty))

    return act


def full(card: Card, target_c: float) -> Act:
    """Full speed: what no fan can avoid."""
    return lambda second: card.set_duty(100)


LAWS: dict[str, Callable[[Card, float], Act]] = {
    laws.OURS: target,
    laws.REFERENCE: reference,
    laws.CURVE: curve,
    "coolgpus": coolgpus,
    "stock driver": stock,
    laws.FULL: full,
}


def run(law: Callable[[Card, float], Act], target_c: float, number: int, trace: Path | None = None) -> Outcome:
    """Run a law on plant `number` with its drawn load, or with the load of the recording `trace`."""
    load = loads.draw(number) if trace is None else loads.recorded(trace, number)
    card = Card(plants.draw(number), load, number)
    act = law(card, target_c)
    recorder = Recorder(SECONDS)
    for second in range(SECONDS):
        act(second)
        card.advance()
        recorder.add(card.die_c, card.speed_rpm, card.duty_percent, throttled=card.throttled)
    return recorder.outcome()
