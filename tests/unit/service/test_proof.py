"""The proof that fans can be set: they are moved, read back and given back, whatever happens meanwhile."""

import os
import signal
import time

import pytest

from gpufan.core.gpu import FanReading, Reading
from gpufan.daemon.read_back import STILL_DUTY_PERCENT
from gpufan.errors import GpufanError
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox, SimulatedGpu
from gpufan.service import proof


class Obedient:
    """A simulated card for which half a second passes with every reading."""

    def __init__(self, gpu: SimulatedGpu) -> None:
        self.gpu = gpu
        self.info = gpu.info

    def read(self):
        self.gpu.advance(0.5)
        return self.gpu.read()

    def set_duty(self, duty_percent: int) -> None:
        self.gpu.set_duty(duty_percent)

    def release(self) -> None:
        self.gpu.release()


class Deaf(Obedient):
    """Takes every set and moves nothing."""

    def set_duty(self, duty_percent: int) -> None:
        pass


def card() -> SimulatedGpu:
    return SimulatedBox(PROFILES["1080ti"], WORKLOADS["idle"]).gpus[0]


@pytest.mark.parametrize(("speed", "duty"), [(23, 38), (85, 100), (100, 85)])
def test_the_proof_moves_a_fan_by_a_step_and_gives_it_back(speed: int, duty: int):
    gpu, said = card(), []
    gpu.speed_percent = gpu.driver_percent = speed
    proof.prove_control([Obedient(gpu)], said.append)
    assert said == [f"0 GTX 1080 Ti: its fan went from {speed} % to {duty} % and back to the driver"]
    assert gpu.manual_percent is None


def test_the_proof_fails_on_a_card_that_does_not_obey(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(proof, "PATIENCE_S", 0.3)
    with pytest.raises(
        GpufanError, match=r"0 GTX 1080 Ti: fan 0 stays with the driver, .*: look at `gpufan doctor`, or"
    ):
        proof.prove_control([Deaf(card())], print)


def fans(*rpm: int | None, percent: int = 23) -> Reading:
    return Reading(40.0, 100.0, tuple(FanReading(percent, percent, True, each) for each in rpm))


@pytest.mark.parametrize(
    ("rpm", "problem"),
    [
        ((1800, 1750), None),
        ((1800, 400), None),
        ((1800, 0), "fan 1 stands still at 0 rpm"),
        ((170, 1800), "fan 0 stands still at 170 rpm"),
        ((0, 0), "fan 0 stands still at 0 rpm"),
        ((None, 0), "fan 1 stands still at 0 rpm"),
        ((None, None), None),
        ((1800, None), None),
    ],
)
def test_a_fan_with_less_than_a_tenth_of_its_siblings_rpm_stands_still(
    rpm: tuple[int | None, ...], problem: str | None
):
    assert proof._unmoved_fan(fans(*rpm), fans(*rpm, percent=38), 38) == problem


def test_a_fan_that_stands_still_at_low_duty_is_moved_to_a_duty_at_which_it_must_turn():
    assert proof._duty_for_proof(fans(0, percent=0), (0, 100)) == STILL_DUTY_PERCENT


class Slow(Obedient):
    """Takes its time for a set, during which somebody ends the program."""

    def set_duty(self, duty_percent: int) -> None:
        os.kill(os.getpid(), self.number)
        time.sleep(0.3)
        self.gpu.set_duty(duty_percent)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_proof_takes_effect_after_the_fans_are_given_back(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
):
    gpu = card()
    slow = Slow(gpu)
    slow.number = number

    def end(received: int, _: object):
        raise SystemExit(received)

    before = signal.signal(number, end)
    try:
        with pytest.raises(SystemExit) as ended:
            proof.prove_control([slow, slow], print)
        assert signal.getsignal(number) is end
    finally:
        signal.signal(number, before)
    assert ended.value.code == number
    time.sleep(0.4)
    assert gpu.manual_percent is None


@pytest.mark.slow
def test_fans_are_given_back_only_after_a_late_call_has_set_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(proof, "_CALL_S", 0.1)
    gpu = card()
    slow = Slow(gpu)
    slow.number = 0  # which kills nothing
    with pytest.raises(GpufanError, match="no answer within"):
        proof.prove_control([slow], print)
    time.sleep(0.4)
    assert gpu.manual_percent is None
