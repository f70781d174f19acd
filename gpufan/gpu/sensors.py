"""Reads the values of a card that every tick needs, over NVML. The buffer for a value is made only once.

The functions of pynvml make a new buffer in each call, or share one buffer between threads (GetFanControlPolicy_v2).
They take several times as long.
"""

import math
from ctypes import byref, c_int, c_uint, c_ulonglong
from functools import partial
from itertools import chain
from typing import Any

import pynvml
from pynvml import NVMLError

from gpufan.core.gpu import FanReading, Reading, Sensed, Throttle
from gpufan.errors import GpuLost
from gpufan.gpu.nvml_errors import ABSENCES, ABSENT, GONE, nvml_lost_error

_ASK_FIRST, _ASK_EVERY = 4, 60
"""If a card does not have a value, gpufan asks for the value again after `_ASK_FIRST` reads. This number doubles each
time, up to `_ASK_EVERY`."""

_THROTTLES = (
    (
        pynvml.nvmlClocksThrottleReasonSwThermalSlowdown | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown,
        Throttle.HEAT,
    ),
    (pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown, Throttle.POWER_BRAKE),
    (pynvml.nvmlClocksThrottleReasonHwSlowdown, Throttle.HARDWARE),
    (pynvml.nvmlClocksThrottleReasonSwPowerCap, Throttle.POWER_CAP),
)
"""Bits of the mask in which NVML reports why clocks are lower, and their meaning. The most serious bits come first."""


class _SensorValue:
    """One number of a card. If it was read once, every later call asks for it, even after errors."""

    def __init__(self, function: str, handle: Any, *arguments: int, into: Any = None, field: str = "") -> None:
        """`function` is the name of a function of NVML. It is called with `handle` and `arguments`.

        The function writes into the buffer `into`, or into an unsigned integer if `into` is None. If the buffer is a
        structure, `field` is the name of the field that has the number.
        """
        call = getattr(pynvml.nvmlLib, function, None)
        buffer = c_uint() if into is None else into
        # A partial, and a number without a field name, are the fastest.
        self._call = partial(call, handle, *arguments, byref(buffer)) if call else None
        self._number = c_int.from_buffer(buffer, getattr(type(buffer), field).offset) if field else buffer
        self._left_out = 0.0 if call else math.inf
        """The number of reads until gpufan asks for the value again."""
        self._absences = 0
        self._wait = _ASK_FIRST
        self.answered = False

    def read(self) -> int | None:
        """Return the number now; None if it cannot be read. Raises GpuLost."""
        if self._left_out or self._call is None:
            self._left_out -= 1
            return None
        code = self._call()
        if not code:
            self.answered = True
            value: int = self._number.value
            return value
        if code in GONE:
            raise nvml_lost_error("the card is gone", NVMLError(code))
        if code in ABSENT and not self.answered:
            self._absences += 1
            if self._absences >= ABSENCES:
                self._left_out, self._wait = self._wait - 1, min(2 * self._wait, _ASK_EVERY)
        return None


class Sensors:
    """The sensors of one card, while its handle is valid."""

    def __init__(self, handle: Any, fan_count: int, before: "Sensors | None" = None) -> None:
        """`before` are the sensors of the same card at an earlier handle. A value that they have read is not absent."""
        self.handle = handle
        temperature = pynvml.c_nvmlTemperature_v1_t()
        temperature.version = pynvml.nvmlTemperature_v1
        temperature.sensorType = pynvml.NVML_TEMPERATURE_GPU
        self._temperature = _SensorValue("nvmlDeviceGetTemperatureV", handle, into=temperature, field="temperature")
        # For drivers before 565.57; CUDA 14 drops it.
        self._old_temperature = _SensorValue("nvmlDeviceGetTemperature", handle, pynvml.NVML_TEMPERATURE_GPU)
        self._power_mw = _SensorValue("nvmlDeviceGetPowerUsage", handle)
        # The name before driver 535.43.
        throttle = "nvmlDeviceGetCurrentClocksThrottleReasons"
        if hasattr(pynvml.nvmlLib, "nvmlDeviceGetCurrentClocksEventReasons"):
            throttle = "nvmlDeviceGetCurrentClocksEventReasons"
        self._throttle = _SensorValue(throttle, handle, into=c_ulonglong())
        self._fans = [
            (
                _SensorValue("nvmlDeviceGetFanSpeed_v2", handle, fan),
                _SensorValue("nvmlDeviceGetTargetFanSpeed", handle, fan),
                _SensorValue("nvmlDeviceGetFanControlPolicy_v2", handle, fan),
                _rpm_sensor(handle, fan),
            )
            for fan in range(fan_count)
        ]
        self._values = self._temperature, self._old_temperature, self._power_mw, self._throttle, *chain(*self._fans)
        for value, same in zip(self._values, before._values if before else (), strict=False):
            value.answered = same.answered
        self._reports_power = False
        """Whether the power was read at this handle."""

    def sense(self) -> Sensed:
        """Return temperature and power. Raises GpuLost.

        A card that has reported its power at this handle, and now reports neither power nor temperature, is lost.
        """
        temperature_c = self._temperature.read()
        if temperature_c is None:
            temperature_c = self._old_temperature.read()
        power_mw = self._power_mw.read()
        if power_mw is not None:
            self._reports_power = True
            return Sensed(temperature_c, power_mw / 1000)
        if temperature_c is None and self._reports_power:
            raise GpuLost("the card is gone: its temperature and its power cannot be read any more")
        return Sensed(temperature_c, None)

    def read(self) -> Reading:
        """Return temperature, power, fans and the reason for lower clocks. Raises GpuLost."""
        temperature_c, power_w = self.sense()
        fans = []
        for speed, target, policy, rpm in self._fans:
            speed_percent, target_percent, policy_now = speed.read(), target.read(), policy.read()
            manual = None if policy_now is None else policy_now == pynvml.NVML_FAN_POLICY_MANUAL
            fans.append(FanReading(speed_percent, target_percent, manual, rpm.read()))
        return Reading(temperature_c, power_w, tuple(fans), _worst_throttle_of_mask(self._throttle.read()))


def _rpm_sensor(handle: Any, fan: int) -> _SensorValue:
    """Return the sensor for the speed of the fan with the number `fan`, rpm."""
    speed = pynvml.c_nvmlFanSpeedInfo_t()
    speed.version = pynvml.nvmlFanSpeedInfo_v1
    speed.fan = fan
    return _SensorValue("nvmlDeviceGetFanSpeedRPM", handle, into=speed, field="speed")


def _worst_throttle_of_mask(mask: int | None) -> Throttle | None:
    """Return the most serious reason for lower clocks in `mask`, the bit mask of NVML. None if `mask` is None."""
    if mask is None:
        return None
    return next((name for bits, name in _THROTTLES if mask & bits), Throttle.NONE)
