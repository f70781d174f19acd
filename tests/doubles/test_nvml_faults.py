"""Faults of the NVML double that last: restarts of the driver, cards that go, weak fans, other programs."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pynvml
import pytest

from gpufan.gpu.simulated import PROFILES, SimulatedBox
from tests.doubles.nvml import AUTO, MANUAL, Kind, NvmlDouble, Rival


@pytest.fixture
def double(tmp_path: Path) -> Iterator[NvmlDouble]:
    box = SimulatedBox(PROFILES["quad-2080ti"], lambda t: 200.0)
    with NvmlDouble(tmp_path, box).install() as double:
        pynvml.nvmlInit()
        yield double


def error_of(call: Callable[..., object], *arguments: object) -> int:
    with pytest.raises(pynvml.NVMLError) as caught:
        call(*arguments)
    return caught.value.value


def first_card() -> object:
    return pynvml.nvmlDeviceGetHandleByIndex(0)


@pytest.mark.parametrize("ramp", [3, 10, 30])
def test_a_fan_approaches_its_target_at_its_own_ramp(double: NvmlDouble, ramp: int) -> None:
    double.cards[0].fans[0].ramp = ramp
    before = double.cards[0].fans[0].speed
    pynvml.nvmlDeviceSetFanSpeed_v2(first_card(), 0, 100)
    double.advance(2)
    assert pynvml.nvmlDeviceGetFanSpeed_v2(first_card(), 0) == min(before + 2 * ramp, 100)


def test_the_speed_of_a_capped_fan_ends_at_the_cap_and_its_target_does_not(double: NvmlDouble) -> None:
    double.cards[0].fans[0].cap = 55
    pynvml.nvmlDeviceSetFanSpeed_v2(first_card(), 0, 90)
    double.advance(30)
    assert pynvml.nvmlDeviceGetFanSpeed_v2(first_card(), 0) == 55
    assert pynvml.nvmlDeviceGetTargetFanSpeed(first_card(), 0) == 90


def test_a_floored_fan_reads_back_its_floor_for_a_lower_target(double: NvmlDouble) -> None:
    double.cards[0].fans[0].floor = 50
    read = []
    for percent in (30, 70):
        pynvml.nvmlDeviceSetFanSpeed_v2(first_card(), 0, percent)
        double.advance(10)
        read.append(pynvml.nvmlDeviceGetTargetFanSpeed(first_card(), 0))
        assert pynvml.nvmlDeviceGetFanSpeed_v2(first_card(), 0) == read[-1]
    assert read == [50, 70]


def test_a_fan_that_stands_still_reports_its_duty_and_cools_nothing(double: NvmlDouble) -> None:
    card, good_card = double.cards[0], double.cards[3]
    card.fans[0].rpm_percent = 0
    for index in (0, 3):
        pynvml.nvmlDeviceSetFanSpeed_v2(pynvml.nvmlDeviceGetHandleByIndex(index), 0, 80)
    double.advance(300)
    assert (card.fans[0].speed, pynvml.nvmlDeviceGetFanSpeedRPM(first_card())) == (80, 0)
    assert card.temperature > good_card.temperature + 20
    card.fans[0].rpm_percent = 5
    double.advance(1)
    assert pynvml.nvmlDeviceGetFanSpeedRPM(first_card()) == good_card.fans[0].rpm * 5 // 100


@pytest.mark.parametrize("manual", [False, True])
@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_UNINITIALIZED, pynvml.NVML_ERROR_UNKNOWN])
def test_after_a_restart_of_the_driver_nothing_works_until_nvml_is_initialised_anew(
    double: NvmlDouble, error: int, manual: bool
) -> None:
    card = first_card()
    pynvml.nvmlDeviceSetFanSpeed_v2(card, 0, 70)
    double.restart(error=error, init_error=pynvml.NVML_ERROR_DRIVER_NOT_LOADED, manual=manual)
    assert double.cards[0].fans[0].policy == (MANUAL if manual else AUTO)
    assert error_of(pynvml.nvmlDeviceSetFanSpeed_v2, card, 0, 80) == error
    assert error_of(pynvml.nvmlDeviceGetTemperature, card, 0) == error
    assert error_of(pynvml.nvmlDeviceGetCount) == error
    assert error_of(first_card) == error
    pynvml.nvmlInit()  # counts users only, as the real one
    assert error_of(first_card) == error
    for _ in range(2):
        pynvml.nvmlShutdown()
    assert error_of(pynvml.nvmlInit) == pynvml.NVML_ERROR_DRIVER_NOT_LOADED
    double.map.init_error = 0
    pynvml.nvmlInit()
    assert error_of(pynvml.nvmlDeviceGetTemperature, card, 0) == pynvml.NVML_ERROR_INVALID_ARGUMENT  # an old handle
    assert pynvml.nvmlDeviceGetTemperature(first_card(), 0) == double.cards[0].temperature


def test_a_process_that_starts_after_the_restart_is_not_concerned(double: NvmlDouble) -> None:
    double.restart()
    program = "import pynvml as n; n.nvmlInit(); n.nvmlDeviceSetFanSpeed_v2(n.nvmlDeviceGetHandleByIndex(0), 0, 40)"
    subprocess.run([sys.executable, "-c", program], env=os.environ | double.environment(), check=True)
    assert double.cards[0].fans[0].target == 40


@pytest.mark.parametrize("list_at_init", [0, 1])
def test_an_absent_card_is_not_listed_and_is_lost_for_those_who_have_it_open(
    double: NvmlDouble, list_at_init: int
) -> None:
    double.map.list_at_init = list_at_init
    card = pynvml.nvmlDeviceGetHandleByIndex(1)
    uuids = [card.uuid.decode() for card in double.cards[:4]]
    double.cards[1].absent = 1
    assert error_of(pynvml.nvmlDeviceGetTemperature, card, 0) == pynvml.NVML_ERROR_GPU_IS_LOST
    if list_at_init:
        assert pynvml.nvmlDeviceGetCount() == 4
        pynvml.nvmlShutdown()
        pynvml.nvmlInit()
    assert pynvml.nvmlDeviceGetCount() == 3
    assert error_of(pynvml.nvmlDeviceGetHandleByUUID, uuids[1]) == pynvml.NVML_ERROR_NOT_FOUND
    last = pynvml.nvmlDeviceGetHandleByUUID(uuids[3])
    assert pynvml.nvmlDeviceGetIndex(last) == 2
    assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(2)) == uuids[3]
    double.cards[1].absent = 0
    assert pynvml.nvmlDeviceGetCount() == (3 if list_at_init else 4)


def test_odd_codes_are_returned_by_the_next_calls_only(double: NvmlDouble) -> None:
    card = first_card()
    double.odd(0, Kind.TEMPERATURE, pynvml.NVML_ERROR_NOT_SUPPORTED, calls=2)
    for _ in range(2):
        assert error_of(pynvml.nvmlDeviceGetTemperature, card, 0) == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert pynvml.nvmlDeviceGetTemperature(card, 0) == double.cards[0].temperature
    pynvml.nvmlDeviceGetPowerUsage(card)


def test_a_rival_sets_its_card_every_0_9_s_as_another_process(double: NvmlDouble) -> None:
    double.rivals.append(Rival(card=2, percent=33, pid=4242))
    for _ in range(17):
        double.advance(0.5)
    log = double.log()
    assert [call[1:] for call in log] == [(4242, 2, 0, Kind.SET_FAN, 33, 0)] * 10
    assert (double.cards[2].fans[0].target, double.cards[2].fans[0].policy) == (33, MANUAL)
    assert double.cards[1].fans[0].policy == AUTO
