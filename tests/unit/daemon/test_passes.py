"""The steps of a pass: which cards have their fans set again."""

from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.daemon.orders import Orders
from gpufan.daemon.passes import CardStep, Pass
from gpufan.daemon.worker import Worker
from tests.unit.builders import FakeGpu


def test_a_card_that_missed_the_pass_in_which_all_fans_are_set_has_them_set_in_its_next_one() -> None:
    gpu = FakeGpu()
    step = CardStep(Worker(gpu, lambda _: CardSettings(curve=Curve.parse("50:30,80:90"))), Orders(None))
    step.run(Pass(1, 0))
    for number in (3, 4, 5):  # while pass 2 was made, the card hung
        step.run(Pass(number, number, forced_number=2))
    assert gpu.written == [30, 30]
