"""Read and set the power limit and the temperature limit of a card over NVML, and read their ranges.

Both limits last until the driver is unloaded. A process needs CAP_SYS_ADMIN to set a limit. The temperature limit is
NVML's threshold ACOUSTIC_CURR, which `nvidia-smi -gtt` sets too. Some cards accept a temperature limit and do not
follow it (open-gpu-kernel-modules#551), so only the temperature shows whether the limit works.
"""

from contextlib import suppress
from typing import Any

import pynvml
from pynvml import NVMLError

from gpufan.core.gpu import Limits
from gpufan.errors import GpuError, GpuLost, NoPermission
from gpufan.gpu.nvml_errors import (
    GONE,
    nvml_error_text,
    nvml_lost_error,
    nvml_permission_error_text,
    value_unless_nvml_error,
)


def power_limit_range_w(handle: Any) -> tuple[float, float] | None:
    """Return the lowest and the highest power limit that the card accepts, W; None if no valid range is reported."""
    range_mw = None
    with suppress(GpuLost):  # a card that is lost is found by the values that fan control needs
        range_mw = value_unless_nvml_error(pynvml.nvmlDeviceGetPowerManagementLimitConstraints, handle)
    return (range_mw[0] / 1000, range_mw[1] / 1000) if range_mw and 0 < range_mw[0] < range_mw[1] else None


def temperature_limit_range_c(handle: Any) -> tuple[int, int] | None:
    """Return the lowest and the highest temperature limit that the card accepts, °C.

    Returns None if the card reports no valid range.
    """
    low_c = high_c = None
    with suppress(GpuLost):
        low_c, high_c = (
            value_unless_nvml_error(pynvml.nvmlDeviceGetTemperatureThreshold, handle, kind)
            for kind in (pynvml.NVML_TEMPERATURE_THRESHOLD_ACOUSTIC_MIN, pynvml.NVML_TEMPERATURE_THRESHOLD_ACOUSTIC_MAX)
        )
    return (low_c, high_c) if low_c and high_c and low_c < high_c <= 150 else None


def read_nvml_limits(handle: Any) -> Limits:
    """Return the limits that are set now. A limit that the card does not report is None. Raises GpuLost."""
    power_mw = value_unless_nvml_error(pynvml.nvmlDeviceGetPowerManagementLimit, handle)
    temperature_c = value_unless_nvml_error(
        pynvml.nvmlDeviceGetTemperatureThreshold, handle, pynvml.NVML_TEMPERATURE_THRESHOLD_ACOUSTIC_CURR
    )
    return Limits(power_mw / 1000 if power_mw else None, temperature_c or None)


def write_nvml_limits(handle: Any, limits: Limits) -> None:
    """Set the limits that are not None. Raises GpuError, GpuLost or NoPermission."""
    try:
        if limits.power_w is not None:
            pynvml.nvmlDeviceSetPowerManagementLimit(handle, round(limits.power_w * 1000))
        if limits.temperature_c is not None:
            which = pynvml.NVML_TEMPERATURE_THRESHOLD_ACOUSTIC_CURR
            pynvml.nvmlDeviceSetTemperatureThreshold(handle, which, round(limits.temperature_c))
    except NVMLError as error:
        if error.value == pynvml.NVML_ERROR_NO_PERMISSION:
            raise NoPermission(nvml_permission_error_text("the limits of a card")) from error
        if error.value in GONE:
            raise nvml_lost_error("the card is gone", error) from error
        raise GpuError(f"the driver refused: {nvml_error_text(error)}") from error
