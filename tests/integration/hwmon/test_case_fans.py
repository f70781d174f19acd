"""Case fans that follow cards, under the real daemon and the files of a chip."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpufan.core.snapshot import Snapshot
from gpufan.daemon.snapshot_file import read_snapshot
from gpufan.doctor.prove_fans import prove_fans
from gpufan.errors import GpufanError
from tests.doubles.hwmon import HwmonDouble
from tests.doubles.nvml import NvmlDouble, wait_for
from tests.integration.conftest import Install
from tests.integration.harness import Program
from tests.integration.hwmon.conftest import is_as_before

CARDS = 'curve = "40:40,80:80,85:100"\nhysteresis_c = 0\nhold_s = 0\n'
FAN = '[[fan]]\nname = "nct6798/pwm2"\n'
CURVE = 'curve = "40:20,60:40,80:90"\n'


class Box:
    """A box of two cards, a chip, and `gpufan run`, ten ticks a second."""

    def __init__(self, double: NvmlDouble, chip: HwmonDouble, folder: Path) -> None:
        self.double, self.chip, self.folder = double, chip, folder
        self.program: Program

    def start(self, text: str) -> Program:
        config = self.folder.parent / "config.toml"
        config.write_text(text)
        self.program = Program(self.double, self.folder, ["run", "--interval", "0.1", "--config", str(config)])
        wait_for(self._is_running)
        return self.program

    def _is_running(self) -> bool:
        assert self.program.process.poll() is None, self.program.process.stderr and self.program.process.stderr.read()
        try:
            return self.snapshot.pid == self.program.process.pid
        except GpufanError:
            return False

    @property
    def snapshot(self) -> Snapshot:
        return read_snapshot(self.folder / "state.json")

    @property
    def percent(self) -> int:
        return round(self.chip.state(2).pwm / 2.55)

    def heat(self, *temperatures_c: int) -> None:
        for card, temperature_c in zip(self.double.cards, temperatures_c, strict=False):
            card.temperature = temperature_c


@pytest.fixture
def box(double: NvmlDouble, chip: HwmonDouble, folder: Path) -> Iterator[Box]:
    found = Box(double, chip, folder)
    yield found
    if hasattr(found, "program"):
        found.program.process.kill()
        found.program.process.communicate()


def test_with_a_curve_the_hottest_card_counts(box: Box) -> None:
    box.heat(50, 60)
    box.start(CARDS + FAN + CURVE)
    wait_for(lambda: box.percent == 40)
    box.heat(70, 60)
    wait_for(lambda: box.percent == 65)
    wait_for(lambda: box.snapshot.case_fans[0].duty_percent == 65)
    (fan,) = box.snapshot.case_fans
    assert (fan.uuid, fan.label, fan.temperature_c, fan.duty_percent) == ("fan:nct6798/pwm2", "nct6798/pwm2", 70, 65)
    assert len(box.snapshot.gpus) == 2


def test_the_hottest_is_measured_by_the_cards_own_target(box: Box) -> None:
    box.heat(72, 80)
    tables = '[[gpu]]\nmatch = "0"\ntarget_c = 65\n[[gpu]]\nmatch = "1"\ntarget_c = 85\n'
    box.start(tables + FAN + CURVE)
    wait_for(lambda: box.snapshot.case_fans[0].temperature_c == 72)


@pytest.mark.slow
def test_only_the_named_cards_are_followed(box: Box) -> None:
    box.heat(50, 70)
    box.start(CARDS + FAN + CURVE + 'follows = ["0"]\n')
    wait_for(lambda: box.percent == 30)


@pytest.mark.slow
def test_without_a_curve_the_highest_demand_counts(box: Box) -> None:
    box.heat(50, 70)
    box.start(CARDS + FAN)
    wait_for(lambda: box.percent == 70)
    box.heat(50, 45)
    wait_for(lambda: box.percent < 60)


@pytest.mark.slow
def test_without_a_live_card_it_runs_at_full_speed(box: Box) -> None:
    box.heat(50, 50)
    box.start(CARDS + FAN + CURVE)
    wait_for(lambda: box.percent == 30)
    box.double.cards[0].lost = 1
    box.heat(50, 60)
    wait_for(lambda: box.percent == 40)
    box.double.cards[1].lost = 1
    wait_for(lambda: box.percent == 100)
    box.double.cards[1].lost = 0
    wait_for(lambda: box.percent < 100)  # it slows down gradually


def test_a_temperature_in_doubt_means_full_speed(box: Box) -> None:
    box.heat(50, 50)
    box.start(CARDS + FAN + CURVE)
    wait_for(lambda: box.percent == 30)
    box.heat(50, 0)
    wait_for(lambda: box.percent == 100)


def test_two_passive_cards_share_one_fan_by_their_demands(install: Install, chip: HwmonDouble, folder: Path) -> None:
    double = install()
    for card in double.cards:
        card.fan_count = 0
    box = Box(double, chip, folder)
    box.heat(50, 66)
    program = box.start(CARDS + FAN)
    try:
        wait_for(lambda: box.percent == 66)
    finally:
        program.process.kill()
        program.process.communicate()


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGKILL, pytest.param(signal.SIGSEGV, marks=pytest.mark.slow)]
)
def test_every_end_gives_the_case_fan_back(box: Box, number: int) -> None:
    program = box.start(CARDS + FAN + CURVE)
    wait_for(lambda: box.chip.state(2).mode == 1)
    guardian = program.guardian()
    os.kill(program.process.pid, number)
    program.end()
    wait_for(lambda: not guardian.exists())
    assert is_as_before(box.chip, 2)
    assert all(fan.policy == 0 for card in box.double.cards for fan in card.fans)


def test_a_reload_changes_the_curve_but_not_the_fan(box: Box) -> None:
    box.heat(60, 60)
    program = box.start(CARDS + FAN + CURVE)
    wait_for(lambda: box.percent == 40)
    config = box.folder.parent / "config.toml"
    config.write_text(CARDS + FAN + CURVE.replace("60:40", "60:55"))
    program.signal(signal.SIGHUP)
    wait_for(lambda: box.percent == 55)
    config.write_text(CARDS + FAN.replace("pwm2", "pwm3") + CURVE)
    program.signal(signal.SIGHUP)
    wait_for(lambda: "restart" in (box.snapshot.reload_refused or ""))


def test_an_order_without_a_name_is_for_cards_only(box: Box, gpufan) -> None:
    box.heat(60, 60)
    box.start(CARDS + FAN + CURVE)
    wait_for(lambda: box.percent == 40)
    assert gpufan("set", "90")[0] == 0
    wait_for(lambda: box.snapshot.gpus[0].duty_percent == 90)
    assert box.percent == 40


@pytest.mark.slow
def test_a_case_fan_obeys_an_order_with_any_of_its_names_until_it_is_cleared(box: Box, gpufan) -> None:
    box.heat(50, 50)
    box.start(CARDS + FAN)
    wait_for(lambda: box.percent == 50)
    for duty, name in ((65, "nct6798/pwm2"), (70, "nct6798/case fan"), (75, "nct6798@nct6775.656/pwm2")):
        sentence = f"nct6798/pwm2: {duty} % at 50 °C: ordered: {duty} %, until cleared\n"
        assert gpufan("set", str(duty), "--gpu", name) == (0, sentence, "")
        assert box.percent == duty
    assert [gpu.order for gpu in box.snapshot.gpus] == ["", ""]
    status, out, _ = gpufan("set", "--clear")
    assert (status, out.count("\n"), "nct6798/pwm2: " in out) == (0, 3, True)
    wait_for(lambda: box.snapshot.case_fans[0].order == "" and box.percent < 75)


@pytest.mark.slow
def test_the_order_auto_gives_a_case_fan_back_to_the_bios(box: Box, gpufan) -> None:
    box.start(CARDS + FAN + CURVE)
    wait_for(lambda: box.chip.state(2).mode == 1)
    assert gpufan("set", "auto", "--gpu", "nct6798/pwm2")[0] == 0
    wait_for(lambda: is_as_before(box.chip, 2))
    box.double.cards[0].lost = box.double.cards[1].lost = 1  # in doubt it has full speed all the same
    wait_for(lambda: box.percent == 100)


@pytest.mark.slow
def test_an_order_to_keep_for_a_case_fan_outlasts_a_new_start(box: Box, gpufan) -> None:
    box.start(CARDS + FAN + CURVE)
    wait_for(lambda: box.chip.state(2).mode == 1)
    assert gpufan("set", "66", "--gpu", "nct6798/pwm2", "--keep")[0] == 0
    box.program.signal(signal.SIGTERM)
    box.program.end()
    box.start(CARDS + FAN + CURVE)
    wait_for(lambda: box.percent == 66)
    box.program.signal(signal.SIGTERM)
    box.program.end()
    assert gpufan("set", "--clear", "--gpu", "nct6798/pwm2")[:2] == (
        0,
        "fan:nct6798/pwm2: no longer ordered: 66\n",
    )


def test_what_a_case_fan_cannot_do_is_one_line(box: Box, gpufan) -> None:
    status, _, err = gpufan("set", "70", "--keep", "--gpu", "nct6798/pwm2")
    assert (status, "no gpufan is running: start it first, to keep an order for a case fan" in err) == (1, True)
    box.start(CARDS + FAN + CURVE + '[[gpu]]\nmatch = "0"\nfans = ["nct6798/pwm3"]\n')
    for command, message in (
        ("set target 70 --gpu nct6798/pwm2", "a case fan cannot hold a target: order a duty or a curve"),
        ("set 70 --gpu nct6798/pwm9", "--gpu nct6798/pwm9: gpufan controls no such case fan; it controls 0 GTX 1080"),
        ("set 70 --gpu nct6798/pwm3", "this fan cools 0 GTX 1080 Ti: name the card, such as --gpu 0"),
        ("pause --gpu nct6798/pwm2", "only a card can be paused; `gpufan set auto --gpu 'nct6798/pwm2' --for 10m`"),
        ("resume --gpu nct6798/pwm2", "only a card can be paused"),
    ):
        status, out, err = gpufan(*command.split())
        assert (status, out, err.count("\n"), message in err) == (2, "", 1, True), err


@pytest.mark.slow
def test_a_blocked_case_fan_is_a_fault_of_that_fan_alone(box: Box) -> None:
    box.start(CARDS + FAN + CURVE)
    wait_for(lambda: box.snapshot.case_fans[0].fans and box.snapshot.case_fans[0].fans[0].speed_rpm)
    box.chip.change(2, is_blocked=True)
    wait_for(lambda: (fault := box.snapshot.case_fans[0].fault) is not None and fault.cause == "fan-still", 30)
    assert all(gpu.fault is None or gpu.fault.cause != "fan-still" for gpu in box.snapshot.gpus)


@pytest.mark.slow
def test_a_case_fan_whose_chip_is_missing_does_not_harm_the_cards(box: Box) -> None:
    box.chip.change_chip(is_present=False)
    box.start(CARDS + FAN + CURVE)
    wait_for(lambda: box.snapshot.case_fans[0].control == "lost")
    assert [gpu.control for gpu in box.snapshot.gpus] == ["ours", "ours"]
    box.chip.change_chip(is_present=True)
    wait_for(lambda: box.snapshot.case_fans[0].control == "ours")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ('[[fan]]\ncurve = "40:20"\n', "no name in it"),
        ('[[fan]]\nname = "pwm2"\n', '"pwm2" is no fan'),
        (FAN + FAN, 'line 4: [[fan]] 2: name: "nct6798/pwm2": [[fan]] 1 has this fan already: remove one of them'),
        (FAN + '[[gpu]]\nmatch = "0"\nfans = ["nct6798/Case Fan"]\n', "[[gpu]] 1 has this fan already as"),
        (FAN + "target_c = 70\n", "target_c"),
        (FAN + "follows = []\n", "follows = []"),
        ('follows = ["0"]\n', "follows belongs below a line with [[fan]]"),
        ('fans = ["a/pwm1"]\n', "fans belongs below a line with [[gpu]]"),
        ('[[gpu]]\nmatch = "0"\nfans = ["nonsense"]\n', '"nonsense" is no fan'),
        ('[[gpu]]\nmatch = "0"\nfans = []\n', "fans = []"),
        ('[fan]\nname = "a/pwm1"\n', "write a table for each case fan, headed [[fan]]"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    gpufan, double: NvmlDouble, untouched_chip: HwmonDouble, tmp_path: Path, text: str, mistake: str
) -> None:
    (tmp_path / "wrong.toml").write_text(text)
    for command in (["run"], ["config", "check"]):
        status, out, err = gpufan(*command, "--config", str(tmp_path / "wrong.toml"))
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert mistake in err
    assert untouched_chip.writes() == []


def test_check_warns_of_a_fan_that_the_kernel_does_not_show(
    gpufan, double: NvmlDouble, chip: HwmonDouble, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(FAN + '[[gpu]]\nmatch = "1080"\nfans = ["nct6798/pwm9"]\n')
    status, _, err = gpufan("config", "check", "--config", str(tmp_path / "config.toml"))
    assert (status, err.count("\n")) == (0, 1)
    assert "line 5: [[gpu]] 1: nct6798/pwm9: no such fan; the fans that the kernel shows are nct6798/pwm1" in err


def test_the_doctor_proves_case_fans_too(double: NvmlDouble, chip: HwmonDouble, tmp_path: Path) -> None:
    for card in double.cards:
        card.fan_count = 0
    (tmp_path / "config.toml").write_text(FAN)
    proofs = prove_fans(tmp_path / "run", tmp_path / "config.toml")
    assert [(proof.uuid, proof.obeyed) for proof in proofs] == [("fan:nct6798/pwm2", True)]
    assert is_as_before(chip, 2)
    assert not (tmp_path / "run/taken.json").exists()
