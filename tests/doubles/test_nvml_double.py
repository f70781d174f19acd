"""The NVML double itself, through the real pynvml."""

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pynvml
import pytest

from gpufan.gpu.simulated import PROFILES, SimulatedBox
from tests.doubles.nvml import AUTO, IGNORES, JAMS, MANUAL, Kind, NvmlDouble, build, wait_for


@pytest.fixture
def double(tmp_path: Path) -> Iterator[NvmlDouble]:
    profile = PROFILES["dual-1080ti-open-air"]
    plants = tuple(replace(plant, temperature_limit_range_c=(60, 90)) for plant in profile.plants)
    box = SimulatedBox(replace(profile, plants=plants), lambda t: 230.0)
    with NvmlDouble(tmp_path, box).install() as double:
        pynvml.nvmlInit()
        yield double


ACOUSTIC = pynvml.NVML_TEMPERATURE_THRESHOLD_ACOUSTIC_CURR

CALLS: dict[Kind, Callable[[object], object]] = {
    Kind.HANDLE: lambda card: pynvml.nvmlDeviceGetHandleByIndex(0),
    Kind.DESCRIBE: pynvml.nvmlDeviceGetName,
    Kind.FAN_COUNT: pynvml.nvmlDeviceGetNumFans,
    Kind.RANGE: pynvml.nvmlDeviceGetMinMaxFanSpeed,
    Kind.THRESHOLD: lambda card: pynvml.nvmlDeviceGetTemperatureThreshold(card, 1),
    Kind.TEMPERATURE: lambda card: pynvml.nvmlDeviceGetTemperatureV(card, 0),
    Kind.POWER: pynvml.nvmlDeviceGetPowerUsage,
    Kind.THROTTLE: pynvml.nvmlDeviceGetCurrentClocksEventReasons,
    Kind.GET_FAN: lambda card: pynvml.nvmlDeviceGetFanSpeed_v2(card, 0),
    Kind.GET_TARGET: lambda card: pynvml.nvmlDeviceGetTargetFanSpeed(card, 0),
    Kind.GET_POLICY: lambda card: pynvml.nvmlDeviceGetFanControlPolicy_v2(card, 0),
    Kind.RPM: pynvml.nvmlDeviceGetFanSpeedRPM,
    Kind.SET_FAN: lambda card: pynvml.nvmlDeviceSetFanSpeed_v2(card, 0, 50),
    Kind.SET_DEFAULT: lambda card: pynvml.nvmlDeviceSetDefaultFanSpeed_v2(card, 0),
    Kind.SET_POLICY: lambda card: pynvml.nvmlDeviceSetFanControlPolicy(card, 0, 0),
    Kind.GET_LIMIT: pynvml.nvmlDeviceGetPowerManagementLimit,
    Kind.SET_POWER: lambda card: pynvml.nvmlDeviceSetPowerManagementLimit(card, 200_000),
    Kind.SET_ACOUSTIC: lambda card: pynvml.nvmlDeviceSetTemperatureThreshold(card, ACOUSTIC, 80),
}


def error_of(call: Callable[..., object], *arguments: object) -> int:
    with pytest.raises(pynvml.NVMLError) as caught:
        call(*arguments)
    return caught.value.value


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name)
def test_each_kind_of_call_is_counted_and_fails_on_request_and_on_a_lost_card(double: NvmlDouble, kind: Kind) -> None:
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    before = double.calls(0)[kind]
    CALLS[kind](card)
    double.cards[0].error[kind] = pynvml.NVML_ERROR_TIMEOUT
    assert error_of(CALLS[kind], card) == pynvml.NVML_ERROR_TIMEOUT
    double.cards[0].lost = 1
    assert error_of(CALLS[kind], card) == pynvml.NVML_ERROR_GPU_IS_LOST
    assert double.calls(0)[kind] == before + 3
    pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(1))  # the other card still works


def test_a_card_is_found_by_uuid_and_by_pci_address_and_has_its_properties(double: NvmlDouble) -> None:
    uuid = double.cards[1].uuid.decode()
    card = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    for address in ("00000000:41:00.0", "0000:41:00.0", "41:00.0"):
        assert pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByPciBusId(address)) == 1
    pci = pynvml.nvmlDeviceGetPciInfo(card)
    assert (pci.domain, pci.bus, pci.device, pci.busId) == (0, 0x41, 0, "00000000:41:00.0")
    assert pynvml.nvmlDeviceGetUUID(card) == uuid
    assert pynvml.nvmlDeviceGetName(card) == "NVIDIA GeForce GTX 1080 Ti"
    assert pynvml.nvmlDeviceGetCount() == pynvml.nvmlDeviceGetNumFans(card) == 2
    assert pynvml.nvmlDeviceGetMinMaxFanSpeed(card) == [23, 100]
    assert [pynvml.nvmlDeviceGetTemperatureThreshold(card, which) for which in (0, 1, 3)] == [96, 93, 91]
    assert pynvml.nvmlDeviceGetEnforcedPowerLimit(card) == pynvml.nvmlDeviceGetPowerManagementLimit(card) == 250_000
    assert pynvml.nvmlSystemGetDriverVersion() == "580.95"
    assert error_of(pynvml.nvmlDeviceGetHandleByUUID, "GPU-none") == pynvml.NVML_ERROR_NOT_FOUND
    assert error_of(pynvml.nvmlDeviceGetHandleByIndex, 2) == pynvml.NVML_ERROR_INVALID_ARGUMENT
    double.cards[1].slowdown = 0
    assert error_of(pynvml.nvmlDeviceGetTemperatureThreshold, card, 1) == pynvml.NVML_ERROR_NOT_SUPPORTED
    double.cards[1].fan_count = 0
    assert error_of(pynvml.nvmlDeviceGetFanSpeed, card) == pynvml.NVML_ERROR_NOT_SUPPORTED


def test_setting_a_speed_concerns_that_fan_only_and_the_default_releases_it(double: NvmlDouble) -> None:
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    pynvml.nvmlDeviceSetFanSpeed_v2(card, 1, 70)
    assert [pynvml.nvmlDeviceGetFanControlPolicy_v2(card, fan) for fan in (0, 1)] == [AUTO, MANUAL]
    assert [pynvml.nvmlDeviceGetTargetFanSpeed(card, fan) for fan in (0, 1)] == [23, 70]
    pynvml.nvmlDeviceSetDefaultFanSpeed_v2(card, 1)
    pynvml.nvmlDeviceSetFanControlPolicy(card, 0, MANUAL)
    assert [pynvml.nvmlDeviceGetFanControlPolicy_v2(card, fan) for fan in (0, 1)] == [MANUAL, AUTO]
    assert [pynvml.nvmlDeviceGetTargetFanSpeed(card, fan) for fan in (0, 1)] == [23, 23]
    log = double.log()
    assert [call[2:] for call in log] == [
        (0, 1, Kind.SET_FAN, 70, 0),
        (0, 1, Kind.SET_DEFAULT, 0, 0),
        (0, 0, Kind.SET_POLICY, MANUAL, 0),
    ]
    assert {call.pid for call in log} == {os.getpid()}
    assert log == sorted(log)


@pytest.mark.parametrize(("fan", "percent"), [(0, 22), (0, 101), (0, 0), (0, -1), (2, 50)])
def test_a_fan_or_speed_out_of_range_is_refused_and_changes_nothing(double: NvmlDouble, fan: int, percent: int) -> None:
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    assert error_of(pynvml.nvmlDeviceSetFanSpeed_v2, card, fan, percent) == pynvml.NVML_ERROR_INVALID_ARGUMENT
    assert double.log()[-1].result == pynvml.NVML_ERROR_INVALID_ARGUMENT
    assert double.cards[0].fans[0].policy == AUTO


def test_only_setting_needs_permission(double: NvmlDouble) -> None:
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    double.map.not_permitted = 1
    for kind in Kind:
        if kind.name.startswith("SET_"):
            assert error_of(CALLS[kind], card) == pynvml.NVML_ERROR_NO_PERMISSION
        else:
            CALLS[kind](card)


def test_a_limit_is_set_within_its_bounds_and_changes_power_and_temperature(double: NvmlDouble) -> None:
    cards = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in (0, 1)]
    assert pynvml.nvmlDeviceGetPowerManagementLimitConstraints(cards[0]) == [125_000, 300_000]
    assert pynvml.nvmlDeviceGetPowerManagementDefaultLimit(cards[0]) == 250_000
    assert [pynvml.nvmlDeviceGetTemperatureThreshold(cards[1], kind) for kind in (4, 5, 6)] == [60, 84, 90]
    for milliwatts in (124_999, 300_001):
        refused = error_of(pynvml.nvmlDeviceSetPowerManagementLimit, cards[0], milliwatts)
        assert refused == pynvml.NVML_ERROR_INVALID_ARGUMENT
    for celsius in (59, 91):
        refused = error_of(pynvml.nvmlDeviceSetTemperatureThreshold, cards[1], ACOUSTIC, celsius)
        assert refused == pynvml.NVML_ERROR_INVALID_ARGUMENT
    pynvml.nvmlDeviceSetPowerManagementLimit(cards[0], 150_000)
    pynvml.nvmlDeviceSetTemperatureThreshold(cards[1], ACOUSTIC, 62)
    double.advance(900)
    assert [pynvml.nvmlDeviceGetPowerUsage(cards[0]), pynvml.nvmlDeviceGetPowerManagementLimit(cards[0])] == [
        150_000
    ] * 2
    assert 60 <= pynvml.nvmlDeviceGetTemperatureV(cards[1], 0) <= 64
    reasons = [pynvml.nvmlDeviceGetCurrentClocksEventReasons(card) for card in cards]
    assert reasons == [pynvml.nvmlClocksEventReasonSwPowerCap, pynvml.nvmlClocksEventReasonSwThermalSlowdown]
    double.restart()
    assert (double.cards[0].power_limit_mw, double.cards[1].acoustic) == (250_000, 84)


def test_a_card_without_a_limit_does_not_support_it(double: NvmlDouble) -> None:
    double.cards[0].most_power_mw = double.cards[0].acoustic = double.cards[0].most_acoustic = 0
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    assert error_of(pynvml.nvmlDeviceGetPowerManagementLimitConstraints, card) == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert error_of(pynvml.nvmlDeviceGetTemperatureThreshold, card, ACOUSTIC) == pynvml.NVML_ERROR_NOT_SUPPORTED
    for kind in (Kind.SET_POWER, Kind.SET_ACOUSTIC):
        assert error_of(CALLS[kind], card) == pynvml.NVML_ERROR_NOT_SUPPORTED


def test_absurd_temperatures_are_reported_unchanged(double: NvmlDouble) -> None:
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    double.cards[0].temperature = -40
    assert pynvml.nvmlDeviceGetTemperatureV(card, 0) == -40
    assert pynvml.nvmlDeviceGetTemperature(card, 0) == 2**32 - 40


def test_a_hung_call_blocks_only_itself_until_it_is_released(double: NvmlDouble) -> None:
    card, other = (pynvml.nvmlDeviceGetHandleByIndex(i) for i in (0, 1))
    double.cards[0].hang[Kind.TEMPERATURE] = 1
    thread = threading.Thread(target=CALLS[Kind.TEMPERATURE], args=(card,))
    thread.start()
    wait_for(lambda: double.calls(0)[Kind.TEMPERATURE])
    CALLS[Kind.TEMPERATURE](other)
    CALLS[Kind.SET_FAN](card)
    assert thread.is_alive()
    double.let_go()
    thread.join(5)
    assert not thread.is_alive()


def test_a_slow_call_lasts_as_long_as_configured(double: NvmlDouble) -> None:
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    double.cards[0].delay_us[Kind.POWER] = 20_000
    start = time.monotonic()
    CALLS[Kind.POWER](card)
    assert time.monotonic() - start >= 0.02


def test_a_call_that_hangs_over_a_shutdown_ends_in_its_own_map(double: NvmlDouble, tmp_path: Path) -> None:
    double.cards[0].hang[Kind.SET_FAN] = 1
    thread = threading.Thread(target=CALLS[Kind.SET_FAN], args=(pynvml.nvmlDeviceGetHandleByIndex(0),))
    thread.start()
    wait_for(lambda: double.calls(0)[Kind.SET_FAN])
    pynvml.nvmlShutdown()
    (tmp_path / "next").mkdir()
    following = NvmlDouble(tmp_path / "next")
    with following.install():
        pynvml.nvmlInit()
        double.let_go()
        thread.join(5)
        assert (len(double.log()), len(following.log())) == (1, 0)


def test_fans_and_temperature_follow_the_plant(double: NvmlDouble) -> None:
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    double.advance(300)
    assert pynvml.nvmlDeviceGetPowerUsage(card) == 230_000
    lazy_c = pynvml.nvmlDeviceGetTemperatureV(card, 0)
    assert pynvml.nvmlDeviceGetTargetFanSpeed(card, 0) > 23
    for fan in (0, 1):
        pynvml.nvmlDeviceSetFanSpeed_v2(card, fan, 100)
    double.advance(0.5)
    assert 23 < pynvml.nvmlDeviceGetFanSpeed_v2(card, 1) < 100  # on its way
    double.advance(900)
    assert pynvml.nvmlDeviceGetFanSpeed(card) == 100
    assert pynvml.nvmlDeviceGetFanSpeedRPM(card) == 3500
    assert pynvml.nvmlDeviceGetTemperatureV(card, 0) < lazy_c - 5


def test_a_card_with_one_slow_fan_is_cooled_less(double: NvmlDouble) -> None:
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    pynvml.nvmlDeviceSetFanSpeed_v2(card, 0, 100)
    double.advance(600)
    assert double.cards[0].fans[0].speed == 100
    assert double.cards[0].fans[1].speed < 60
    one_fan_c = double.cards[0].temperature
    pynvml.nvmlDeviceSetFanSpeed_v2(card, 1, 100)
    double.advance(600)
    assert double.cards[0].temperature < one_fan_c - 2


def test_a_stuck_fan_reports_success_and_does_not_move(double: NvmlDouble) -> None:
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    double.cards[0].fans[0].stuck, double.cards[0].fans[1].stuck = IGNORES, JAMS
    for fan in (0, 1):
        pynvml.nvmlDeviceSetFanSpeed_v2(card, fan, 90)
    double.advance(10)
    assert [call.result for call in double.log()] == [0, 0]
    assert [pynvml.nvmlDeviceGetFanControlPolicy_v2(card, fan) for fan in (0, 1)] == [AUTO, MANUAL]
    assert [pynvml.nvmlDeviceGetTargetFanSpeed(card, fan) for fan in (0, 1)] == [23, 90]
    assert [pynvml.nvmlDeviceGetFanSpeed_v2(card, fan) for fan in (0, 1)] == [23, 23]


def test_values_set_by_hand_stay_while_the_fans_move(double: NvmlDouble) -> None:
    double.cards[0].by_hand, double.cards[0].temperature = 1, 95
    CALLS[Kind.SET_FAN](pynvml.nvmlDeviceGetHandleByIndex(0))
    with double.live(speed=100):
        wait_for(lambda: double.cards[0].fans[0].speed == 50)
    assert double.cards[0].temperature == 95


def test_a_misspelt_field_is_an_error(double: NvmlDouble) -> None:
    with pytest.raises(AttributeError):
        double.cards[0].temprature = 95


def test_without_a_map_or_with_an_init_error_nothing_starts(
    double: NvmlDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    pynvml.nvmlShutdown()
    assert error_of(pynvml.nvmlDeviceGetCount) == pynvml.NVML_ERROR_UNINITIALIZED
    assert error_of(pynvml.nvmlDeviceGetHandleByIndex, 0) == pynvml.NVML_ERROR_UNINITIALIZED
    double.map.init_error = pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    assert error_of(pynvml.nvmlInit) == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    monkeypatch.delenv("GPUFAN_NVML_DOUBLE")
    assert error_of(pynvml.nvmlInit) == pynvml.NVML_ERROR_DRIVER_NOT_LOADED


SET = "nvmlDeviceSetFanSpeed_v2"
POLICY = "nvmlDeviceSetFanControlPolicy"
TEMPERATURE_V = "nvmlDeviceGetTemperatureV"
TEMPERATURE = "nvmlDeviceGetTemperature"


@pytest.mark.parametrize(
    ("driver", "has", "lacks"),
    [
        ("470.256", {TEMPERATURE}, {SET, POLICY, TEMPERATURE_V}),
        ("515.43", {TEMPERATURE, SET}, {POLICY, TEMPERATURE_V}),
        ("520.56", {TEMPERATURE, SET, POLICY}, {TEMPERATURE_V}),
        ("565.57", {TEMPERATURE, SET, POLICY, TEMPERATURE_V}, set()),
        ("1400.0", {SET, POLICY, TEMPERATURE_V}, {TEMPERATURE}),
    ],
)
def test_each_driver_version_has_its_own_symbols(driver: str, has: set[str], lacks: set[str]) -> None:
    library = ctypes.CDLL(str(build(driver)))
    assert {name for name in has | lacks if hasattr(library, name)} == has


def test_an_old_driver_is_missing_functions_in_this_process_too(tmp_path: Path) -> None:
    with NvmlDouble(tmp_path, driver="470.256").install():
        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByIndex(0)
        assert error_of(CALLS[Kind.SET_FAN], card) == pynvml.NVML_ERROR_FUNCTION_NOT_FOUND
        assert pynvml.nvmlDeviceGetTemperature(card, 0) == 30


def test_another_process_sees_the_same_cards(double: NvmlDouble) -> None:
    program = (
        "import pynvml as n; n.nvmlInit(); card = n.nvmlDeviceGetHandleByIndex(1);"
        "n.nvmlDeviceSetFanSpeed_v2(card, 0, n.nvmlDeviceGetTemperatureV(card, 0))"
    )
    double.cards[1].temperature = 77
    with subprocess.Popen([sys.executable, "-c", program], env=os.environ | double.environment()) as process:
        assert process.wait(10) == 0
    assert [call[1:] for call in double.log()] == [(process.pid, 1, 0, Kind.SET_FAN, 77, 0)]
