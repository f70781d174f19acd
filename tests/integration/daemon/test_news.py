"""The log of `gpufan run`: a line for what a person wants to know, and none for a duty that changes."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pynvml
import pytest

from tests.doubles.nvml import Card, Kind, NvmlDouble, Rival, wait_for
from tests.integration.harness import Program, fans


def settings(gpu_1: str) -> str:
    """A file with a curve for all cards, and `gpu_1` for the second."""
    curve = "curve = '40:40,80:80,85:100'\nhold_s = 0\nhysteresis_c = 0\n"
    return f"{curve}[[gpu]]\nmatch = '1'\n{gpu_1}\n"


class Log:
    """A run whose log goes to a file."""

    def __init__(self, start: Callable[..., Program], folder: Path, **options: object) -> None:
        self._settings, self._log = folder / "gpufan.toml", folder / "log"
        self._settings.write_text(settings(""))
        with self._log.open("w") as file:
            self.program = start("--config", str(self._settings), stdout=file, start_new_session=True, **options)
        self.program.wait_until_it_controls(0, 1)

    def reload(self, gpu_1: str) -> None:
        self._settings.write_text(settings(gpu_1))
        self.program.signal(signal.SIGHUP)

    def lines(self) -> list[str]:
        """Every line so far, without its time."""
        return [line.partition(" ")[2] for line in self._log.read_text().splitlines()]

    def wait_for(self, begin: str) -> str:
        """The first line with this beginning."""
        wait_for(lambda: any(line.startswith(begin) for line in self.lines()))
        return next(line for line in self.lines() if line.startswith(begin))


@pytest.fixture
def log(start: Callable[..., Program], tmp_path: Path) -> Iterator[Log]:
    log = Log(start, tmp_path)
    yield log
    log.program.signal(signal.SIGTERM)
    assert log.program.end()[0] == 0


def throttled(card: Card) -> None:
    card.throttle_reasons = pynvml.nvmlClocksEventReasonSwThermalSlowdown


def lost(card: Card) -> None:
    card.lost = 1


def unreadable(card: Card) -> None:
    card.error[Kind.TEMPERATURE] = pynvml.NVML_ERROR_UNKNOWN


def mend(card: Card) -> None:
    card.throttle_reasons = card.lost = card.error[Kind.TEMPERATURE] = 0


@pytest.mark.parametrize(
    ("harm", "began", "over"),
    [
        pytest.param(
            *(throttled, "throttled by heat: 60 % at 60 °C: ", "no longer throttled by heat after 0:00:0"),
            marks=pytest.mark.slow,  # it is over only after seconds without it
        ),
        (lost, "lost: the card is gone: GPU is lost", "back after 0:00:0"),
        (unreadable, "no credible temperature: 60 %: no temperature", "the temperature is credible again after 0:00:0"),
    ],
)
def test_a_trouble_is_a_line_when_it_begins_and_when_it_is_over(
    double: NvmlDouble, log: Log, harm: Callable[[Card], None], began: str, over: str
) -> None:
    harm(double.cards[0])
    log.wait_for(f"0 GTX 1080 Ti: {began}")
    mend(double.cards[0])
    log.wait_for(f"0 GTX 1080 Ti: {over}")
    assert not [line for line in log.lines() if line.startswith("1 GTX 1080 Ti: ") and ": controlled, " not in line]


def test_a_duty_that_changes_is_no_line(double: NvmlDouble, log: Log) -> None:
    for temperature in (65, 70, 75, 79):
        double.cards[0].temperature = temperature
        wait_for(lambda: fans(double, 0) == [double.cards[0].temperature] * 2)
    curve = "curve 40:40,80:80,85:100"
    assert log.lines() == [f"{index} GTX 1080 Ti: controlled, {curve}" for index in (0, 1)]


def test_another_program_that_sets_the_fans_is_a_line(double: NvmlDouble, log: Log) -> None:
    double.rivals.append(Rival(card=0, percent=30, every_s=0.2))
    with double.live():
        line = log.wait_for("0 GTX 1080 Ti: another program sets the fans: 60 % at 60 °C: ")
        assert "fan 0 has a target of 30 % instead of 60 %" in line
    assert sum(line.startswith("0 GTX 1080 Ti: another") for line in log.lines()) == 1


def test_new_settings_are_a_line_for_each_card_that_they_change_and_refused_ones_too(log: Log) -> None:
    log.reload("target_c = 75")
    log.wait_for("1 GTX 1080 Ti: target 75 °C instead of curve 40:40,80:80,85:100")
    assert not [line for line in log.lines() if line.startswith("0 GTX 1080 Ti: target")]
    log.reload("target_c = 7")
    log.wait_for("settings not reloaded, the old ones stay: ")


def test_the_journal_gets_the_priority_of_each_line(
    double: NvmlDouble, start: Callable[..., Program], tmp_path: Path
) -> None:
    file = (tmp_path / "log").open("w")
    status = os.fstat(file.fileno())
    log = Log(start, tmp_path, env={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
    throttled(double.cards[0])
    lost(double.cards[1])
    wait_for(lambda: (tmp_path / "log").read_text().count("\n") >= 4)
    mend(double.cards[0])
    mend(double.cards[1])
    wait_for(lambda: (tmp_path / "log").read_text().count("\n") >= 6)
    text = (tmp_path / "log").read_text()
    for start_of_line in ("<4>0 GTX 1080 Ti: throttled", "<3>1 GTX 1080 Ti: lost", "<6>1 GTX 1080 Ti: back"):
        assert f"\n{start_of_line}" in text
    assert all(re.match(r"<[346]>[01] GTX 1080 Ti: ", line) for line in text.splitlines())
    assert log.program.process.poll() is None
