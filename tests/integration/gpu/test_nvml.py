"""Cards of the double, read and opened with the real pynvml."""

from collections.abc import Callable

import pynvml
import pytest

from gpufan.core.gpu import Limits
from gpufan.errors import DriverError, GpuError, GpuLost, NoPermission
from gpufan.gpu.nvml import NvmlGpu
from gpufan.gpu.nvml_box import NvmlBox
from gpufan.system.background import BackgroundCall
from tests.doubles.nvml import Kind, NvmlDouble, wait_for

SW_HEAT, HW_HEAT = 0x20, 0x40
HARDWARE, POWER_BRAKE, POWER_CAP, IDLE = 0x8, 0x80, 0x4, 0x1
"""As in nvml.h: nvmlClocksEventReasons."""


@pytest.mark.parametrize(
    ("mask", "throttle"),
    [
        (0, "none"),
        (IDLE, "none"),
        (POWER_CAP, "power-cap"),
        (SW_HEAT, "heat"),
        (HW_HEAT | HARDWARE, "heat"),
        (POWER_BRAKE | HARDWARE | POWER_CAP, "power-brake"),
        (HARDWARE, "hardware"),
        (SW_HEAT | POWER_CAP, "heat"),
        (1 << 40, "none"),
    ],
)
@pytest.mark.parametrize("driver", ["580.95", "525.60"])
def test_the_most_serious_reason_for_low_clocks_is_read(
    install: Callable[..., NvmlDouble], driver: str, mask: int, throttle: str
) -> None:
    install(driver).cards[0].throttle_reasons = mask
    assert NvmlGpu(0).read().throttle == throttle


# ---- values that cannot be read ----


@pytest.mark.parametrize("kind", [Kind.THROTTLE, Kind.POWER, Kind.RPM], ids=lambda kind: kind.name)
def test_a_value_that_never_answered_is_soon_asked_for_in_every_60th_read_only(double: NvmlDouble, kind: Kind) -> None:
    double.cards[0].fan_count = 1
    double.cards[0].error[kind] = pynvml.NVML_ERROR_NOT_SUPPORTED
    gpu = NvmlGpu(0)
    for asked in (7, 8, 9):  # 1, 2, 3, 7, 15, 31, 63, 123, 183
        for _ in range(60 if asked > 7 else 63):
            gpu.read()
        assert double.calls(0)[kind] == asked


@pytest.mark.parametrize("kind", [Kind.TEMPERATURE, Kind.POWER, Kind.GET_POLICY], ids=lambda kind: kind.name)
def test_one_odd_error_does_not_switch_a_value_off(double: NvmlDouble, kind: Kind) -> None:
    gpu = NvmlGpu(0)
    before = gpu.read()
    double.odd(0, kind, pynvml.NVML_ERROR_NOT_SUPPORTED, calls=2)
    assert gpu.read() != before
    gpu.read()
    assert gpu.read() == before


@pytest.mark.parametrize("kind", [Kind.TEMPERATURE, Kind.POWER, Kind.GET_POLICY, Kind.RPM], ids=lambda kind: kind.name)
def test_odd_errors_at_the_start_do_not_switch_a_value_off(double: NvmlDouble, kind: Kind) -> None:
    expected = NvmlGpu(0).read()
    gpu = NvmlGpu(0)
    gpu.open()
    double.odd(0, kind, pynvml.NVML_ERROR_NOT_SUPPORTED, calls=2)
    for _ in range(3):
        reading = gpu.read()
    assert reading == expected


@pytest.mark.parametrize("kind", [Kind.TEMPERATURE, Kind.POWER, Kind.GET_TARGET], ids=lambda kind: kind.name)
def test_errors_after_a_card_was_opened_again_do_not_switch_a_value_off(double: NvmlDouble, kind: Kind) -> None:
    gpu = NvmlGpu(0)
    expected = gpu.read()
    gpu.reopen()
    double.cards[0].error[kind] = pynvml.NVML_ERROR_NOT_SUPPORTED
    for _ in range(10):
        gpu.read()
    double.cards[0].error[kind] = 0
    assert gpu.read() == expected


def test_odd_errors_at_the_start_do_not_take_the_fans_from_a_card(double: NvmlDouble) -> None:
    double.odd(0, Kind.FAN_COUNT, pynvml.NVML_ERROR_NOT_SUPPORTED, calls=2)
    gpu = NvmlGpu(0)
    gpu.open()
    assert (gpu.info.fan_count, gpu.info.uncontrollable_reason) == (2, None)


def test_the_lean_read_asks_for_temperature_and_power_only(double: NvmlDouble) -> None:
    gpu = NvmlGpu(0)
    gpu.open()
    before = double.calls(0)
    assert gpu.sense() == (60, 150)
    after = double.calls(0)
    assert {kind for kind in Kind if after[kind] != before[kind]} == {Kind.TEMPERATURE, Kind.POWER}


# ---- a card that is lost ----

CODES = [
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_NOT_FOUND,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_TIMEOUT,
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_IN_USE,
    pynvml.NVML_ERROR_UNKNOWN,
]


@pytest.mark.parametrize("code", CODES)
def test_a_card_that_cannot_be_opened_is_lost_whatever_the_error(double: NvmlDouble, code: int) -> None:
    for kind in (Kind.HANDLE, Kind.DESCRIBE, Kind.FAN_COUNT):
        double.cards[0].error[kind] = code
        gpu = NvmlGpu(0)
        with pytest.raises(GpuLost):
            gpu.read()
        double.cards[0].error[kind] = 0
        assert gpu.sense() == (60, 150)


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_UNINITIALIZED, pynvml.NVML_ERROR_UNKNOWN])
@pytest.mark.parametrize(
    "call",
    [NvmlGpu.sense, NvmlGpu.read, NvmlGpu.release, lambda gpu: gpu.set_duty(50)],
    ids=["sense", "read", "release", "set_duty"],
)
def test_after_a_restart_of_the_driver_a_card_is_lost_until_nvml_is_loaded_anew(
    double: NvmlDouble, call: Callable[[NvmlGpu], object], code: int
) -> None:
    box = NvmlBox()
    gpu = box.gpus[0]
    gpu.read()
    info = gpu.info
    double.restart(error=code)
    for _ in range(2):
        with pytest.raises(GpuLost):
            call(gpu)
    box.reload()
    call(gpu)
    assert gpu.sense() == (60, 150)
    assert gpu.info is info, "the same card with the same properties"


def test_a_refused_set_of_a_card_that_can_be_read_is_no_loss(double: NvmlDouble) -> None:
    double.cards[0].error[Kind.SET_FAN] = pynvml.NVML_ERROR_UNKNOWN
    gpu = NvmlGpu(0)
    with pytest.raises(GpuError, match="the driver refused: Unknown Error") as refused:
        gpu.set_duty(50)
    assert not isinstance(refused.value, GpuLost)


def test_a_driver_that_does_not_start_again_is_an_error_until_it_does(double: NvmlDouble) -> None:
    box = NvmlBox()
    double.restart(init_error=pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    with pytest.raises(DriverError, match="kernel module is not loaded"):
        box.reload()
    with pytest.raises(GpuLost):
        box.gpus[0].read()
    double.map.init_error = 0
    box.reload()
    assert box.gpus[0].sense() == (60, 150)


def test_a_card_that_was_reopened_has_a_new_handle_of_the_same_card(double: NvmlDouble) -> None:
    gpu = NvmlGpu(1)
    gpu.open()
    info, opened = gpu.info, double.calls(1)[Kind.HANDLE]
    gpu.reopen()
    assert (gpu.sense(), double.calls(1)[Kind.HANDLE], gpu.info is info) == ((60, 150), opened + 1, True)


def test_a_card_that_changed_places_with_another_is_known_by_its_uuid(double: NvmlDouble) -> None:
    gpu = NvmlGpu(0)
    gpu.open()
    first, second = double.cards[:2]
    first.uuid, second.uuid, second.temperature = second.uuid, first.uuid, 70
    gpu.reopen()
    assert (gpu.sense(), gpu.info.pci) == ((70, 150), second.pci.decode())


def test_while_a_card_hangs_in_opening_another_thread_is_refused_at_once(double: NvmlDouble) -> None:
    double.cards[0].hang[Kind.HANDLE] = 1
    gpu = NvmlGpu(0)
    opening = BackgroundCall(gpu.open)
    wait_for(lambda: double.calls(0)[Kind.HANDLE])
    with pytest.raises(GpuLost, match="the driver is still opening it"):
        gpu.read()
    double.let_go()
    opening.result(5)
    assert gpu.sense() == (60, 150)


# ---- properties ----


def test_the_power_limit_is_read(double: NvmlDouble) -> None:
    double.cards[0].power_limit_mw = 180_500
    gpu = NvmlGpu(0)
    gpu.open()
    assert gpu.info.power_limit_w == 180.5


def test_a_card_without_a_power_limit_is_still_read(double: NvmlDouble) -> None:
    double.cards[0].error[Kind.THRESHOLD] = pynvml.NVML_ERROR_NOT_SUPPORTED
    gpu = NvmlGpu(0)
    assert gpu.read().temperature_c is not None
    assert gpu.info.power_limit_w is None


def test_limits_and_their_ranges_are_read_and_set(double: NvmlDouble) -> None:
    double.cards[0].acoustic, double.cards[0].least_acoustic, double.cards[0].most_acoustic = 84, 60, 90
    gpu, other = NvmlGpu(0), NvmlGpu(1)
    assert gpu.read_limits() == (250, 84)
    assert (gpu.info.power_range_w, gpu.info.temperature_limit_range_c) == ((125, 300), (60, 90))
    gpu.set_limits(Limits(200.5))
    gpu.set_limits(Limits(temperature_c=79))
    assert gpu.read_limits() == (200.5, 79)
    assert other.read_limits() == (250, None)
    assert other.info.temperature_limit_range_c is None


def test_the_power_limit_at_the_first_opening_is_the_scale_of_the_card_for_good(double: NvmlDouble) -> None:
    gpu = NvmlGpu(0)
    gpu.set_limits(Limits(150.0))
    info = gpu.info
    gpu.reopen()
    gpu.open()
    assert gpu.info is info
    assert info.power_limit_w == 250


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (pynvml.NVML_ERROR_NO_PERMISSION, NoPermission),
        (pynvml.NVML_ERROR_NOT_SUPPORTED, GpuError),
        (pynvml.NVML_ERROR_INVALID_ARGUMENT, GpuError),
        (pynvml.NVML_ERROR_GPU_IS_LOST, GpuLost),
        (pynvml.NVML_ERROR_UNINITIALIZED, GpuLost),
    ],
)
@pytest.mark.parametrize("limits", [Limits(200.0), Limits(temperature_c=80)], ids=["power", "temperature"])
def test_a_limit_that_is_refused_has_an_error_that_says_why(
    double: NvmlDouble, code: int, error: type[Exception], limits: Limits
) -> None:
    gpu = NvmlGpu(0)
    gpu.open()
    double.cards[0].error[Kind.SET_POWER] = double.cards[0].error[Kind.SET_ACOUSTIC] = code
    with pytest.raises(error) as caught:
        gpu.set_limits(limits)
    assert type(caught.value) is error


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_GPU_IS_LOST])
def test_a_card_that_reports_no_limits_is_opened_all_the_same(double: NvmlDouble, code: int) -> None:
    double.cards[0].error[Kind.GET_LIMIT] = code
    gpu = NvmlGpu(0)
    assert gpu.read().temperature_c == 60
    assert gpu.info.power_range_w is None


def test_the_rpm_of_each_fan_is_read(double: NvmlDouble) -> None:
    double.cards[0].fans[0].rpm, double.cards[0].fans[1].rpm = 1100, 1180
    assert [fan.speed_rpm for fan in NvmlGpu(0).read().fans] == [1100, 1180]


def test_an_older_driver_has_no_rpm(install: Callable[..., NvmlDouble]) -> None:
    install("550.54")
    assert [fan.speed_rpm for fan in NvmlGpu(0).read().fans] == [None, None]
