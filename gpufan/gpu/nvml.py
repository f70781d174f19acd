"""Backend `nvml`: cards through the driver's management library, with its Python binding `pynvml`.

Each card has one handle for the life of the process: without a handle, and without persistence mode, the driver unloads
between calls and takes over a second to load again. A value that a card does not support is asked for only once.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from ctypes import byref, c_uint, c_ulonglong
from dataclasses import replace
from typing import Any

import pynvml
from pynvml import NVMLError

from gpufan.core.gpu import ASSUMED_DUTY_RANGE, NO_FAN, FanReading, GpuInfo, Reading, SingleBackend, Throttle
from gpufan.core.pci import PciAddress
from gpufan.errors import DriverError, GpuError, GpuLost, NoAnswer, NoPermission
from gpufan.system.background import BackgroundCall
from gpufan.system.printable import printable

FIRST_DRIVER = "515.43"
"""The first driver that can set fans through NVML (nvmlDeviceSetFanSpeed_v2)."""

_NO_DRIVER = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver found (no libnvidia-ml.so.1): install it,"
    " or try `gpufan run --simulate`",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA kernel module is not loaded: `sudo modprobe nvidia`,"
    " or reboot after installing the driver",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the NVIDIA library and the loaded kernel module are of different"
    " versions, as after an update: reboot",
    pynvml.NVML_ERROR_NO_PERMISSION: "no permission to talk to the NVIDIA driver: run as root, or check /dev/nvidia*",
}
_LOST = {pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED, pynvml.NVML_ERROR_GPU_NOT_FOUND}
_ABSENT = {pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND}

_THROTTLES = (
    (
        pynvml.nvmlClocksThrottleReasonSwThermalSlowdown | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown,
        Throttle.HEAT,
    ),
    (pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown, Throttle.POWER_BRAKE),
    (pynvml.nvmlClocksThrottleReasonHwSlowdown, Throttle.HARDWARE),
    (pynvml.nvmlClocksThrottleReasonSwPowerCap, Throttle.POWER_CAP),
)
"""Bits of NVML's mask, the most serious first."""

_Call = Callable[..., Any]


class _Value:
    """A number that is read every tick, into a buffer that is made once.

    pynvml's own functions make a buffer for each call, or share one between threads (GetFanControlPolicy_v2), and need
    several times as long.
    """

    def __init__(self, function: str, handle: Any, *arguments: int, into: Any = None, field: str = "value") -> None:
        self._call = getattr(pynvml.nvmlLib, function, None)
        self._buffer = c_uint() if into is None else into
        self._arguments = (handle, *arguments, byref(self._buffer))
        self._field = field

    def read(self) -> int | None:
        """The number now, or None if it cannot be read. Raises GpuLost."""
        if self._call is None:
            return None
        code = self._call(*self._arguments)
        if code == pynvml.NVML_SUCCESS:
            value: int = getattr(self._buffer, self._field)
            return value
        if code in _LOST:
            raise GpuLost(f"the card is gone: {_words(NVMLError(code))}")
        if code in _ABSENT:
            self._call = None
        return None


class _Sensors:
    """The values that are read from one card every tick."""

    def __init__(self, handle: Any, fan_count: int) -> None:
        temperature = pynvml.c_nvmlTemperature_v1_t()
        temperature.version = pynvml.nvmlTemperature_v1
        temperature.sensorType = pynvml.NVML_TEMPERATURE_GPU
        self._temperature = _Value("nvmlDeviceGetTemperatureV", handle, into=temperature, field="temperature")
        # For drivers before 565.57; CUDA 14 drops it.
        self._old_temperature = _Value("nvmlDeviceGetTemperature", handle, pynvml.NVML_TEMPERATURE_GPU)
        self._power_mw = _Value("nvmlDeviceGetPowerUsage", handle)
        # The name before driver 535.43.
        throttle = "nvmlDeviceGetCurrentClocksThrottleReasons"
        if hasattr(pynvml.nvmlLib, "nvmlDeviceGetCurrentClocksEventReasons"):
            throttle = "nvmlDeviceGetCurrentClocksEventReasons"
        self._throttle = _Value(throttle, handle, into=c_ulonglong())
        self._fans = [
            (
                _Value("nvmlDeviceGetFanSpeed_v2", handle, fan),
                _Value("nvmlDeviceGetTargetFanSpeed", handle, fan),
                _Value("nvmlDeviceGetFanControlPolicy_v2", handle, fan),
                _rpm(handle, fan),
            )
            for fan in range(fan_count)
        ]

    def read(self) -> Reading:
        """Raises GpuLost."""
        temperature_c = self._temperature.read()
        if temperature_c is None:
            temperature_c = self._old_temperature.read()
        power_mw = self._power_mw.read()
        fans = []
        for speed, target, policy, rpm in self._fans:
            speed_percent, target_percent, policy_now = speed.read(), target.read(), policy.read()
            manual = None if policy_now is None else policy_now == pynvml.NVML_FAN_POLICY_MANUAL
            fans.append(FanReading(speed_percent, target_percent, manual, rpm.read()))
        power_w = None if power_mw is None else power_mw / 1000
        return Reading(temperature_c, power_w, tuple(fans), _worst_throttle(self._throttle.read()))


def _rpm(handle: Any, fan: int) -> _Value:
    speed = pynvml.c_nvmlFanSpeedInfo_t()
    speed.version = pynvml.nvmlFanSpeedInfo_v1
    speed.fan = fan
    return _Value("nvmlDeviceGetFanSpeedRPM", handle, into=speed, field="speed")


def _worst_throttle(mask: int | None) -> Throttle | None:
    if mask is None:
        return None
    return next((name for bits, name in _THROTTLES if mask & bits), Throttle.NONE)


class NvmlGpu(SingleBackend):
    """One card. It is opened when it is first used, and again after it was lost."""

    def __init__(self, index: int) -> None:
        self.info = GpuInfo(
            uuid="",
            pci="",
            index=index,
            name="card that does not answer",
            fan_count=0,
            duty_range=ASSUMED_DUTY_RANGE,
            slowdown_c=None,
            backend="nvml",
        )
        self._handle: Any = None
        self._sensors: _Sensors

    def open(self) -> None:
        """Get the handle and read the properties of the card into `info`. Raises GpuLost."""
        if self._handle is not None:
            return
        try:
            if self.info.uuid:
                handle = pynvml.nvmlDeviceGetHandleByUUID(self.info.uuid)
            else:
                handle = pynvml.nvmlDeviceGetHandleByIndex(self.info.index)
            uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
            pci = _text(pynvml.nvmlDeviceGetPciInfo(handle).busId)
        except (NVMLError, UnicodeDecodeError) as error:
            raise GpuLost(f"the card does not answer: {_words(error)}") from error
        fan_count = _fan_count(handle)
        if fan_count < self.info.fan_count:
            # Believing the smaller number would leave some fans in manual mode.
            raise GpuLost(f"the card reports {fan_count} fans; it has {self.info.fan_count}")
        duty_range = _optional(_duty_range, handle)
        name = _optional(pynvml.nvmlDeviceGetName, handle) or "NVIDIA card"
        slowdown_c = _optional(
            pynvml.nvmlDeviceGetTemperatureThreshold, handle, pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
        )
        power_limit_mw = _optional(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)
        self.info = replace(
            self.info,
            uuid=uuid,
            pci=pci,
            name=_text(name),
            fan_count=fan_count,
            duty_range=duty_range or ASSUMED_DUTY_RANGE,
            slowdown_c=slowdown_c,
            uncontrollable_reason=driver_reason() or (None if fan_count else NO_FAN),
            power_limit_w=None if power_limit_mw is None else power_limit_mw / 1000,
        )
        self._sensors = _Sensors(handle, fan_count)
        self._handle = handle

    def read(self) -> Reading:
        """Read temperature, power and every fan. Raises GpuLost."""
        self.open()
        try:
            return self._sensors.read()
        except GpuLost:
            self._handle = None
            raise

    def set_duty(self, duty_percent: int) -> None:
        """Put every fan of the card into manual mode and set it. Raises GpuError, GpuLost or NoPermission."""
        self._every_fan(pynvml.nvmlDeviceSetFanSpeed_v2, duty_percent)

    def release(self) -> None:
        """Give every fan back to the driver. Raises GpuError, GpuLost or NoPermission."""
        self._every_fan(pynvml.nvmlDeviceSetDefaultFanSpeed_v2)

    def _every_fan(self, call: _Call, *values: int) -> None:
        """Make `call` for every fan, then raise for the first that failed. Raises GpuError, GpuLost or NoPermission."""
        self.open()
        failed: NVMLError | None = None
        for fan in range(self.info.fan_count):
            try:
                call(self._handle, fan, *values)
            except NVMLError as error:
                failed = failed or error
        if failed is None:
            return
        if failed.value == pynvml.NVML_ERROR_NO_PERMISSION:
            raise NoPermission(_not_permitted()) from failed
        if failed.value in _LOST:
            self._handle = None
            raise GpuLost(f"the card is gone: {_words(failed)}") from failed
        raise GpuError(f"the driver refused: {_words(failed)}") from failed


class NvmlBox:
    """NVML, loaded, and all cards that the driver knows, including those that do not answer."""

    def __init__(self, timeout_s: float = 5.0) -> None:
        """Load the library and open every card, `timeout_s` seconds for each at most. Raises DriverError."""
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
        except NVMLError as error:
            known = _NO_DRIVER.get(error.value)
            raise DriverError(known or f"the NVIDIA driver does not answer: {_words(error)}") from error
        if count == 0:
            raise DriverError("the NVIDIA driver runs but knows no card: look at `lspci -d 10de:` and `dmesg`")
        self.driver_version = _text(pynvml.nvmlSystemGetDriverVersion())
        self.gpus = [NvmlGpu(index) for index in range(count)]
        for pending in [BackgroundCall(gpu.open) for gpu in self.gpus]:
            with suppress(NoAnswer):  # the first read raises it again
                pending.result(timeout_s)

    @property
    def addresses(self) -> list[PciAddress]:
        """The addresses of the cards that answer."""
        return [PciAddress.parse(gpu.info.pci) for gpu in self.gpus if gpu.info.pci]

    def close(self) -> None:
        """Unload NVML."""
        pynvml.nvmlShutdown()


def driver_reason() -> str | None:
    """Why this driver cannot set the fans of any card through NVML; None if it can. NVML must be loaded."""
    if hasattr(pynvml.nvmlLib, "nvmlDeviceSetFanSpeed_v2"):
        return None
    version = _text(pynvml.nvmlSystemGetDriverVersion())
    return f"driver {version} cannot set fans through NVML, {FIRST_DRIVER} is the first that can: the X path is needed"


def _optional(call: _Call, handle: Any, *values: int) -> Any:
    """Result of `call`; None if it failed. Raises GpuLost."""
    try:
        return call(handle, *values)
    except UnicodeDecodeError:  # pynvml's, of a name
        return None
    except NVMLError as error:
        if error.value in _LOST:
            raise GpuLost(f"the card is gone: {_words(error)}") from error
        return None


def _fan_count(handle: Any) -> int:
    """The number of fans. Raises GpuLost if it cannot be read: with a wrong 0 the fans would never be set."""
    try:
        count: int = pynvml.nvmlDeviceGetNumFans(handle)
    except NVMLError as error:
        if error.value in _ABSENT:
            return 0
        raise GpuLost(f"the card does not report its fans: {_words(error)}") from error
    return count


def _duty_range(handle: Any) -> tuple[int, int] | None:
    # The default arguments of this pynvml function are buffers that all threads share.
    low, high = pynvml.nvmlDeviceGetMinMaxFanSpeed(handle, c_uint(), c_uint())
    # A highest duty under 50 % is an error of the driver: full speed would not cool.
    return (low, high) if 0 <= low < high <= 100 and high >= 50 else None


def _not_permitted() -> str:
    if os.geteuid() != 0:
        return "the driver lets only root set fans: run this with sudo"
    return "the driver refuses to let even root set fans: it asks for CAP_SYS_ADMIN, which a container may lack"


def _text(value: str | bytes) -> str:
    return printable(value.decode(errors="replace") if isinstance(value, bytes) else value)


def _words(error: Exception) -> str:
    return str(error).rstrip(".")
