"""A chip that hangs under the real daemon: other chips and cards stay under control, and every end gives them back."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gpufan.core.sentences import reason_sentence
from gpufan.core.snapshot import GpuState
from gpufan.daemon.snapshot_file import read_snapshot
from gpufan.errors import GpufanError
from tests.doubles.hwmon import HwmonDouble
from tests.doubles.nvml import NvmlDouble, wait_for
from tests.integration.harness import Program
from tests.integration.hwmon.conftest import is_as_before

pytestmark = pytest.mark.slow

Gpufan = Callable[..., tuple[int, str, str]]

DEVICE = "it87.2608"

SETTINGS = """
curve = "40:40,80:80,85:100"
hysteresis_c = 0
hold_s = 0
[[gpu]]
match = "0"
fans = ["it8613/pwm1"]
[[fan]]
name = "nct6798/pwm2"
follows = ["1"]
curve = "40:20,80:60"
"""

ACCESSES = ["read pwm", "read mode", "read rpm", "write pwm", "write mode"]


class Box:
    """A fan of the chip it8613 cools card 0. Card 1 has fans of its own, and a case fan on another chip."""

    def __init__(self, double: NvmlDouble, chip: HwmonDouble, folder: Path) -> None:
        self.double, self.chip, self.folder = double, chip, folder
        chip.add_chip(DEVICE, "it8613", 4, {"1": {}})
        self.program: Program

    def start(self) -> Program:
        config = self.folder.parent / "config.toml"
        config.write_text(SETTINGS)
        self.program = Program(self.double, self.folder, ["run", "--interval", "0.1", "--config", str(config)])
        return self.program

    def hang(self, *accesses: str) -> None:
        self.chip.change(1, device=DEVICE, hangs=accesses)

    def heat(self, first_c: int, second_c: int) -> None:
        self.double.cards[0].temperature, self.double.cards[1].temperature = first_c, second_c

    @property
    def states(self) -> tuple[GpuState, ...]:
        with suppress(GpufanError):
            snapshot = read_snapshot(self.folder / "state.json")
            if snapshot.pid == self.program.process.pid:
                return snapshot.states
        return ()

    def record(self) -> list[dict[str, Any]]:
        """The cards in the record."""
        with suppress(FileNotFoundError):
            return json.loads((self.folder / "taken.json").read_text())["cards"]
        return []

    def says(self, text: str) -> bool:
        """Whether `text` is in the reason that the state of card 0 has."""
        return bool(self.states) and text in reason_sentence(self.states[0].reason)

    def are_others_at(self, temperature_c: int) -> bool:
        """Whether the fans of card 1 and the case fan have the duties for this temperature."""
        own = {fan.target for fan in self.double.cards[1].fans[:2]}
        return own == {temperature_c} and round(self.chip.state(2).pwm / 2.55) == temperature_c - 20

    def is_controlled(self) -> bool:
        return self.are_others_at(60) and self.chip.state(1, DEVICE)[:2] == (1, 153)

    def are_others_given_back(self) -> bool:
        return is_as_before(self.chip, 2) and all(fan.policy == 0 for fan in self.double.cards[1].fans[:2])


@pytest.fixture
def box(double: NvmlDouble, chip: HwmonDouble, folder: Path) -> Iterator[Box]:
    found = Box(double, chip, folder)
    yield found
    found.hang()
    found.program.process.kill()
    found.program.process.communicate()


@pytest.mark.parametrize("access", ACCESSES)
def test_while_a_chip_hangs_all_other_fans_follow_their_cards_and_the_state_names_it(box: Box, access: str) -> None:
    box.start()
    wait_for(box.is_controlled)
    box.hang(access)
    began_s = time.monotonic()
    for temperature_c in (64, 67, 70):
        box.heat(temperature_c, temperature_c)
        wait_for(lambda temperature_c=temperature_c: box.are_others_at(temperature_c))
    assert time.monotonic() - began_s < 10
    if access != "read rpm" and access != "write mode":
        wait_for(lambda: box.says("it8613/pwm1: its chip does not answer: pwm1"))
    box.hang()
    wait_for(lambda: box.states[0].control == "ours" and box.chip.state(1, DEVICE)[:2] == (1, 179))


@pytest.mark.parametrize("access", ["read pwm", "write mode"])
def test_a_chip_that_hangs_at_the_start_delays_no_other_fan(box: Box, access: str) -> None:
    box.hang(access)
    box.start()
    wait_for(lambda: box.are_others_at(60))
    wait_for(lambda: box.says("it8613/pwm1: its chip does not answer"))
    box.hang()
    wait_for(box.is_controlled)


@pytest.mark.parametrize("access", ["read mode", "write pwm"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_every_end_gives_all_other_fans_back_in_time_and_the_hanging_fan_when_its_chip_answers(
    box: Box, gpufan: Gpufan, access: str, number: int
) -> None:
    program = box.start()
    wait_for(box.is_controlled)
    guardian = program.guardian()
    box.hang(access)
    began_s = time.monotonic()
    os.kill(program.process.pid, number)
    wait_for(box.are_others_given_back)
    assert time.monotonic() - began_s < 4
    if number == signal.SIGKILL:
        wait_for(lambda: [card["label"] for card in box.record()] == ["0 GTX 1080 Ti"])
        for arguments in (["restore"], ["restore", "--taken"]):
            status, _, err = gpufan(*arguments)
            assert (status, err.count("\n"), "it8613/pwm1: no answer within 2 s" in err) == (1, 1, True)
    box.hang()  # until then no process that has called the chip can end
    program.end()
    wait_for(lambda: not guardian.exists())
    if box.record():
        assert number == signal.SIGKILL
        assert gpufan("restore", "--taken")[0] == 0
    assert box.chip.state(1, DEVICE)[:2] == (5, 102)
    assert box.record() == []
