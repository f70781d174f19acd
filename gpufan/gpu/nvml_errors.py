"""Says what an error of NVML means for a card or for the driver, and converts it to an error of gpufan."""

import os
from collections.abc import Callable
from typing import Any

import pynvml
from pynvml import NVMLError

from gpufan.errors import DriverError, GpuLost, ResetRequired

GONE = {
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED,
    pynvml.NVML_ERROR_GPU_NOT_FOUND,
}
"""Codes that say that the card or the library is gone. Other codes may mean this too: see `Sensors.sense`."""

ABSENT = {pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND}
"""Codes that say that the driver or the card does not have the value or the function."""

ABSENCES = 3
"""After this number of `ABSENT` errors in a row, the card does not have the value. A single one may be an accident."""

_REMEDIES = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver found (no libnvidia-ml.so.1): install it,"
    " or try `gpufan run --simulate`",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA kernel module is not loaded: `sudo modprobe nvidia`,"
    " or reboot after installing the driver",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA library and the loaded kernel module are of different"
    " versions, as after an update: reboot",
    pynvml.NVML_ERROR_NO_PERMISSION: "no permission to talk to the NVIDIA driver: run as root, or check /dev/nvidia*",
}
"""Message for an error of the driver as a whole, by code."""


def nvml_error_text(error: Exception) -> str:
    """Return the text of an error of NVML or pynvml, without the full stop."""
    return str(error).rstrip(".")


def nvml_lost_error(what: str, error: Exception) -> GpuLost:
    """Return the GpuLost to raise after a call to a card has failed with `error`. Its text begins with `what`."""
    kind = ResetRequired if getattr(error, "value", None) == pynvml.NVML_ERROR_RESET_REQUIRED else GpuLost
    return kind(f"{what}: {nvml_error_text(error)}")


def nvml_driver_error(error: NVMLError) -> DriverError:
    """Return the DriverError to raise after loading NVML has failed with `error`. Its text has a remedy."""
    return DriverError(_REMEDIES.get(error.value) or f"the NVIDIA driver does not answer: {nvml_error_text(error)}")


def nvml_permission_error_text(what: str) -> str:
    """Return why the driver does not let this process set `what`, and the remedy."""
    if os.geteuid() != 0:
        return f"the driver lets only root set {what}: run this with sudo"
    return f"the driver refuses to let even root set {what}: it asks for CAP_SYS_ADMIN, which a container may lack"


def value_unless_nvml_error(call: Callable[..., Any], handle: Any, *values: int) -> Any:
    """Call `call`, a function of NVML, with `handle` and `values`, and return its result.

    Raises GpuLost if the card is gone. After any other error, returns None: the card does not have the value.
    """
    try:
        return call(handle, *values)
    except UnicodeDecodeError:  # pynvml's, of a name
        return None
    except NVMLError as error:
        if error.value in GONE:
            raise nvml_lost_error("the card is gone", error) from error
        return None
