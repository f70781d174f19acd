"""Values of a card besides its temperature, read with the real pynvml."""

from collections.abc import Callable

import pynvml
import pytest

from gpufan.gpu.nvml import NvmlGpu
from tests.doubles.nvml import Kind, NvmlDouble

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


def test_a_card_that_does_not_support_throttle_reasons_is_asked_once(double: NvmlDouble) -> None:
    double.cards[0].error[Kind.THROTTLE] = pynvml.NVML_ERROR_NOT_SUPPORTED
    gpu = NvmlGpu(0)
    assert [gpu.read().throttle for _ in range(3)] == [None] * 3
    assert double.calls(0)[Kind.THROTTLE] == 1


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


def test_the_rpm_of_each_fan_is_read(double: NvmlDouble) -> None:
    double.cards[0].fans[0].rpm, double.cards[0].fans[1].rpm = 1100, 1180
    assert [fan.speed_rpm for fan in NvmlGpu(0).read().fans] == [1100, 1180]


def test_an_older_driver_has_no_rpm(install: Callable[..., NvmlDouble]) -> None:
    install("550.54")
    assert [fan.speed_rpm for fan in NvmlGpu(0).read().fans] == [None, None]
