"""Case fans that follow cards of every state."""

import pytest

from gpufan.config.order import Order
from gpufan.config.settings import Settings
from gpufan.core.card_settings import CardSettings
from gpufan.core.gpu import FanReading
from gpufan.daemon.case_fans import make_case_fan_workers
from gpufan.daemon.worker import Worker
from gpufan.errors import GpuError, GpuLost
from gpufan.gpu.simulated_headers import SimulatedChannel, SimulatedChip
from tests.unit.builders import FakeGpu


class Box:
    """Two cards under a target, and a case fan that follows both by their demands."""

    def __init__(self) -> None:
        self.gpus = [FakeGpu(uuid=f"GPU-{number}", index=number) for number in range(2)]
        self.cards = [Worker(gpu, lambda _: CardSettings()) for gpu in self.gpus]
        self.channel = SimulatedChannel(stop_raw=0, start_raw=0)
        chip = SimulatedChip({2: self.channel})
        settings = Settings().with_case_fans(["nct6798/pwm2"])
        (self.fan,) = make_case_fan_workers(settings, chip.open_fan, self.cards)
        self._now_s = 0

    def run(self, seconds: int = 60) -> int:
        """Let `seconds` pass. Returns the duty of the case fan, percent."""
        for _ in range(seconds):
            self._now_s += 1
            for worker in (*self.cards, self.fan):
                worker.tick(self._now_s)
            self.channel.advance(1)
        return round(self.channel.raw / 2.55)


def test_a_card_that_the_driver_controls_needs_as_much_as_the_driver_gives_it() -> None:
    box = Box()
    quiet = box.run()
    box.cards[0].obey(Order.parse("auto"))
    box.run(3)
    box.gpus[0].temperature_c, box.gpus[0].fans = 75.0, [FanReading(71, 71, False)] * 2
    assert quiet < box.run(3) == 71
    box.gpus[0].fans = [FanReading(None, None, False)] * 2
    assert box.run(6) == 100


def test_a_card_whose_fans_do_not_obey_needs_as_much_as_the_driver_gives_it() -> None:
    box = Box()
    box.run()
    box.gpus[0].set_error = GpuError("refused")
    box.gpus[0].temperature_c, box.gpus[0].fans = 85.0, [FanReading(77, 77, False)] * 2
    assert box.run(10) >= 77
    assert box.cards[0].state.control == "released"


@pytest.mark.parametrize("is_paused", [True, False])
def test_a_card_that_does_not_answer_does_not_count_while_another_does(is_paused: bool) -> None:
    box = Box()
    quiet = box.run()
    for number, gpu in enumerate(box.gpus):
        if is_paused:
            box.cards[number].tick = lambda now_s, card=box.cards[number]: card.pause(now_s, 600)
        else:
            gpu.read_error = GpuLost("gone")
        assert box.run(12) == (quiet if number == 0 else 100)
