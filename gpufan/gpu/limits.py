"""The power limit and the temperature limit of a card over NVML: their ranges, reading and setting.

Both last until the driver is unloaded. The driver asks for CAP_SYS_ADMIN before it sets one. The temperature limit is
NVML's threshold ACOUSTIC_CURR, which `nvidia-smi -gtt` sets too. Some cards accept one and do not follow it
(open-gpu-kernel-modules#551), so success is what the temperature does.
"""

from typing import Any

import pynvml
from pynvml import NVMLError

from gpufan.core.gpu import Limits
from gpufan.errors import GpuError, NoPermission
from gpufan.gpu.nvml_errors import GONE, error_text, lost_error, not_permitted, optional_value


def power_range_w(handle: Any) -> tuple[float, float] | None:
    """Lowest and highest power limit that the card accepts, W; None if it reports none. Raises GpuLost."""
    range_mw = optional_value(pynvml.nvmlDeviceGetPowerManagementLimitConstraints, handle)
    return (range_mw[0] / 1000, range_mw[1] / 1000) if range_mw and 0 < range_mw[0] < range_mw[1] else None


def temperature_range_c(handle: Any) -> tuple[int, int] | None:
    """Lowest and highest temperature limit that the card accepts, °C; None if it reports none. Raises GpuLost."""
    low_c, high_c = (
        optional_value(pynvml.nvmlDeviceGetTemperatureThreshold, handle, kind)
        for kind in (pynvml.NVML_TEMPERATURE_THRESHOLD_ACOUSTIC_MIN, pynvml.NVML_TEMPERATURE_THRESHOLD_ACOUSTIC_MAX)
    )
    return (low_c, high_c) if low_c and high_c and low_c < high_c <= 150 else None


def read(handle: Any) -> Limits:
    """The limits as they are set now. Raises GpuLost."""
    power_mw = optional_value(pynvml.nvmlDeviceGetPowerManagementLimit, handle)
    temperature_c = optional_value(
        pynvml.nvmlDeviceGetTemperatureThreshold, handle, pynvml.NVML_TEMPERATURE_THRESHOLD_ACOUSTIC_CURR
    )
    return Limits(power_mw / 1000 if power_mw else None, temperature_c or None)


def write(handle: Any, limits: Limits) -> None:
    """Set the limits that are not None. Raises GpuError, GpuLost or NoPermission."""
    try:
        if limits.power_w is not None:
            pynvml.nvmlDeviceSetPowerManagementLimit(handle, round(limits.power_w * 1000))
        if limits.temperature_c is not None:
            which = pynvml.NVML_TEMPERATURE_THRESHOLD_ACOUSTIC_CURR
            pynvml.nvmlDeviceSetTemperatureThreshold(handle, which, round(limits.temperature_c))
    except NVMLError as error:
        if error.value == pynvml.NVML_ERROR_NO_PERMISSION:
            raise NoPermission(not_permitted("the limits of a card")) from error
        if error.value in GONE:
            raise lost_error("the card is gone", error) from error
        raise GpuError(f"the driver refused: {error_text(error)}") from error
