"""Backend `nvml`: reads and sets cards through NVML, the driver's management library, with the Python package `pynvml`.

The handle of a card is kept until the card is lost. Without a handle, and without persistence mode, the driver unloads
between calls. It takes more than a second to load again. `sensors.py` reads the values that every tick needs.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from ctypes import c_uint
from dataclasses import replace
from typing import Any

import pynvml
from pynvml import NVMLError

from gpufan.core.gpu import ASSUMED_DUTY_RANGE, NO_FAN, GpuInfo, Limits, Reading, Sensed, SingleBackend
from gpufan.core.pci import PciAddress
from gpufan.core.selection import card_may_match
from gpufan.errors import GpuError, GpuLost, NoPermission
from gpufan.gpu import nvml_limits
from gpufan.gpu.kernel_cards import kernel_uuid_and_model
from gpufan.gpu.nvml_errors import (
    ABSENCES,
    ABSENT,
    GONE,
    nvml_error_text,
    nvml_lost_error,
    nvml_permission_error_text,
    value_unless_nvml_error,
)
from gpufan.gpu.sensors import Sensors
from gpufan.system.printable import printable

FIRST_DRIVER = "515.43"
"""The first driver that can set fans through NVML (nvmlDeviceSetFanSpeed_v2)."""

_Call = Callable[..., Any]


class NvmlGpu(SingleBackend):
    """A card over NVML. It is opened when it is first used, and again after it was lost."""

    def __init__(self, index: int, pci: str = "") -> None:
        self.info = GpuInfo(
            uuid="",
            pci=pci,
            index=index,
            name="card",
            fan_count=0,
            duty_range=ASSUMED_DUTY_RANGE,
            slowdown_c=None,
            backend="nvml",
        )
        self._sensors: Sensors | None = None
        """The sensors of the card; None if the card is not open."""
        self._last_sensors: Sensors | None = None
        """The sensors when the card was last open."""
        self._opening = threading.Lock()

    def open(self) -> Sensors:
        """Open the card if it is not open, read its properties into `info`, and return its sensors.

        Raises GpuLost after any failure, or at once if another thread is still opening the card.
        """
        if self._sensors is not None:
            return self._sensors
        opening = self._opening
        if not opening.acquire(blocking=False):
            raise GpuLost("the card does not answer: the driver is still opening it")
        try:
            if not self.info.uuid:
                self.info = replace(self.info, name="card that does not answer")  # until it does
            handle, uuid = self._handle()
            info = self._describe(handle, uuid)
            if info != self.info:  # else it stays the same object
                self.info = info
            self._sensors = self._last_sensors = sensors = Sensors(handle, info.fan_count, self._last_sensors)
        except (NVMLError, UnicodeDecodeError) as error:
            raise nvml_lost_error("the card does not answer", error) from error
        finally:
            opening.release()
        return sensors

    @property
    def is_open(self) -> bool:
        """Whether the card is open: it has answered, and has not been lost since."""
        return self._sensors is not None

    def may_be(self, names: Sequence[str]) -> bool:
        """Whether one of `names` may mean this card. True if `names` is empty.

        The answer is also True if the card is not open yet and a name may turn out to match it.
        """
        if not names:
            return True
        if self.info.pci and not self.info.uuid:
            uuid, name = kernel_uuid_and_model(PciAddress.parse(self.info.pci))
            self.info = replace(self.info, uuid=uuid, name=name or self.info.name)
        return any(card_may_match(self.info, name) for name in names)

    def move(self, pci: str) -> None:
        """From now on, look for the card at the PCI address `pci`."""
        if pci != self.info.pci:
            self.info = replace(self.info, pci=pci)
            self.reopen()

    def reopen(self) -> None:
        """Drop the handle, so that the next call opens the card anew. Never fails."""
        self._sensors = None
        # A thread that hangs in the driver holds the old lock.
        self._opening = threading.Lock()

    def sense(self) -> Sensed:
        """Return temperature and power. Raises GpuLost."""
        try:
            return (self._sensors or self.open()).sense()
        except GpuLost:
            self._sensors = None
            raise

    def read(self) -> Reading:
        """Return temperature, power and every fan. Raises GpuLost."""
        try:
            return self.open().read()
        except GpuLost:
            self._sensors = None
            raise

    def set_duty(self, duty_percent: int) -> None:
        """Put every fan into manual mode and set it to `duty_percent`. Raises GpuError, GpuLost or NoPermission."""
        self._every_fan(pynvml.nvmlDeviceSetFanSpeed_v2, duty_percent)

    def release(self) -> None:
        """Give every fan back to the driver. Raises GpuError, GpuLost or NoPermission."""
        self._every_fan(pynvml.nvmlDeviceSetDefaultFanSpeed_v2)

    def read_limits(self) -> Limits:
        """Return the limits that are set now. Raises GpuLost."""
        return nvml_limits.read_nvml_limits(self.open().handle)

    def set_limits(self, wanted: Limits) -> None:
        """Set the limits that are not None. Raises GpuError, GpuLost or NoPermission."""
        nvml_limits.write_nvml_limits(self.open().handle, wanted)

    def _every_fan(self, call: _Call, *values: int) -> None:
        """Call `call`, a function of NVML, once for each fan, with the further arguments `values`.

        If a call fails, the calls for the other fans are still made. Then raises GpuError, GpuLost or NoPermission.
        """
        sensors = self.open()
        failed: NVMLError | None = None
        for fan in range(self.info.fan_count):
            try:
                call(sensors.handle, fan, *values)
            except NVMLError as error:
                failed = failed or error
        if failed is None:
            return
        if failed.value == pynvml.NVML_ERROR_NO_PERMISSION:
            raise NoPermission(nvml_permission_error_text("fans")) from failed
        # A handle that has become invalid has no error code of its own; but nothing can be read through it either.
        if failed.value in GONE or (failed.value not in ABSENT and self.sense().temperature_c is None):
            self._sensors = None
            raise nvml_lost_error("the card is gone", failed) from failed
        raise GpuError(f"the driver refused: {nvml_error_text(failed)}") from failed

    def _handle(self) -> tuple[Any, str]:
        """Return a new handle of the card, and its UUID. Raises NVMLError or UnicodeDecodeError."""
        known = self.info
        if known.pci:
            handle = pynvml.nvmlDeviceGetHandleByPciBusId(known.pci)
        else:
            handle = pynvml.nvmlDeviceGetHandleByIndex(known.index)
        uuid = _printable_nvml_text(pynvml.nvmlDeviceGetUUID(handle))
        if known.uuid in ("", uuid):
            return handle, uuid
        # Another card is at the address. This search comes last: NVML may open other cards in its course.
        return pynvml.nvmlDeviceGetHandleByUUID(known.uuid), known.uuid

    def _describe(self, handle: Any, uuid: str) -> GpuInfo:
        """Return the properties of the card. Raises NVMLError or UnicodeDecodeError.

        Raises GpuLost if the card reports fewer fans than it had when it was first opened.
        """
        known = self.info
        fan_count = _nvml_fan_count(handle)
        if fan_count < known.fan_count:
            # Believing the smaller number would leave some fans in manual mode.
            raise GpuLost(f"the card reports {fan_count} fans; it has {known.fan_count}")
        name = value_unless_nvml_error(pynvml.nvmlDeviceGetName, handle) or "NVIDIA card"
        slowdown_c = value_unless_nvml_error(
            pynvml.nvmlDeviceGetTemperatureThreshold, handle, pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
        )
        return replace(
            known,
            uuid=uuid,
            pci=_printable_nvml_text(pynvml.nvmlDeviceGetPciInfo(handle).busId),
            name=_printable_nvml_text(name),
            fan_count=fan_count,
            duty_range=value_unless_nvml_error(_nvml_duty_range, handle) or known.duty_range,
            slowdown_c=slowdown_c or known.slowdown_c,
            uncontrollable_reason=nvml_driver_reason() or (None if fan_count else NO_FAN),
            power_limit_w=known.power_limit_w or _nvml_enforced_limit_w(handle),  # by now gpufan may have changed it
            power_range_w=nvml_limits.power_limit_range_w(handle),
            temperature_limit_range_c=nvml_limits.temperature_limit_range_c(handle),
        )


def nvml_driver_reason() -> str | None:
    """Return why this driver cannot set fans through NVML; None if it can. NVML must be loaded."""
    if hasattr(pynvml.nvmlLib, "nvmlDeviceSetFanSpeed_v2"):
        return None
    version = ""
    with suppress(NVMLError):
        version = f" {_printable_nvml_text(pynvml.nvmlSystemGetDriverVersion())}"
    return f"driver{version} cannot set fans through NVML, {FIRST_DRIVER} is the first that can: the X path is needed"


def _nvml_fan_count(handle: Any) -> int:
    """Return the number of fans. If it cannot be read, raises GpuLost: with a wrong 0, no fan would ever be set."""
    for _ in range(ABSENCES):
        try:
            count: int = pynvml.nvmlDeviceGetNumFans(handle)
        except NVMLError as error:
            if error.value not in ABSENT:
                raise nvml_lost_error("the card does not report its fans", error) from error
        else:
            return count
    return 0


def _nvml_enforced_limit_w(handle: Any) -> float | None:
    """Return the power limit in effect, W; None if the card does not report it. Raises GpuLost."""
    limit_mw = value_unless_nvml_error(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    return None if limit_mw is None else limit_mw / 1000


def _nvml_duty_range(handle: Any) -> tuple[int, int] | None:
    """Return the lowest and the highest duty of the fans, percent. Raises NVMLError.

    Returns None if the driver reports values that cannot be right.
    """
    # The default arguments of this pynvml function are buffers that all threads share.
    low, high = pynvml.nvmlDeviceGetMinMaxFanSpeed(handle, c_uint(), c_uint())
    # A highest duty under 50 % is an error of the driver: full speed would not cool.
    return (low, high) if 0 <= low < high <= 100 and high >= 50 else None


def _printable_nvml_text(value: str | bytes) -> str:
    """Return a text from NVML without control characters."""
    return printable(value.decode(errors="replace") if isinstance(value, bytes) else value)
