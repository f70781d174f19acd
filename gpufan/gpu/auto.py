"""Backend `auto`: reads a card through NVML. Sets the fans through NVML, or over X if NVML does not move them.

An old driver cannot set fans through NVML at all. With such a driver the fans are set over X from the start. Otherwise
NVML sets the fans. If the control loop finds by reading back that they do not obey, it calls `fall_back`.
"""

from dataclasses import replace

from gpufan.core.gpu import FallBack, Gpu, GpuInfo, Limits, Reading, Sensed
from gpufan.errors import DriverError, FansOutOfReach, GpuLost
from gpufan.gpu.nvml import NvmlGpu, nvml_driver_reason
from gpufan.gpu.x_server import SharedXServer


class AutoGpu:
    """A card that is opened through NVML, and also over X if its fans must be set over X."""

    def __init__(self, nvml: NvmlGpu, server: SharedXServer) -> None:
        self._nvml = nvml
        self._server = server
        self._x: Gpu | None = None
        self._driver_reason = nvml_driver_reason()
        self._x_reason = self._driver_reason
        """Why the fans are set over X; None while NVML sets them."""
        self._source: GpuInfo | None = None
        """The info of a backend from which `_info` was made."""
        self._info = nvml.info
        self._nvml_released = False
        """Whether the fans were released through NVML because the X server did not answer."""

    @property
    def info(self) -> GpuInfo:
        """The properties of the card. The object is replaced only when a property changes."""
        if self._x_reason is None:
            return self._nvml.info
        source = self._nvml.info if self._x is None else self._x.info
        if source is not self._source:
            self._source = source
            # NVML's own reason does not count: it is why the fans are set over X.
            reason = None if self._x is None else source.uncontrollable_reason
            self._info = replace(source, backend="x11", backend_reason=self._x_reason, uncontrollable_reason=reason)
        return self._info

    def read(self) -> Reading:
        """Return temperature, power and fans. Raises GpuLost, also if the X server that sets fans does not answer."""
        try:
            return self._backend().read()
        except GpuLost:
            if not self._nvml_released:
                raise
            return self._nvml.read()

    def sense(self) -> Sensed:
        """Return temperature and power. Raises GpuLost, also if the X server that sets fans does not answer."""
        if self._x_reason is None:
            return self._nvml.sense()
        try:
            return self._backend().sense()
        except GpuLost:
            if not self._nvml_released:
                raise
            return self._nvml.sense()

    def reopen(self) -> None:
        """Drop the handle of NVML and the connection to the X server, so that the next call opens both anew."""
        (self._nvml if self._x is None else self._x).reopen()

    def observe(self) -> Reading:
        """Return temperature, power and fans as NVML reports them, without an X server. Raises GpuLost."""
        return self._nvml.read()

    def set_duty(self, duty_percent: int) -> None:
        """Set every fan to `duty_percent`. Raises GpuError, GpuLost or NoPermission."""
        self._backend().set_duty(duty_percent)
        self._nvml_released = False

    def release(self) -> None:
        """Give every fan back to the driver. Raises GpuError, GpuLost or NoPermission."""
        try:
            self._backend().release()
        except GpuLost:
            # The X server may have ended, and NVML may release the fans all the same.
            if self._x_reason is None or self._driver_reason is not None:
                raise
            self._nvml.release()
            self._nvml_released = True

    def read_limits(self) -> Limits:
        """Return the limits that NVML reports. Raises GpuLost."""
        return self._nvml.read_limits()

    def set_limits(self, limits: Limits) -> None:
        """Set limits through NVML. Raises GpuError, GpuLost or NoPermission."""
        self._nvml.set_limits(limits)

    def fall_back(self, reason: str) -> FallBack:
        """Set the fans over X from the next call on. `reason` says why NVML does not move them.

        Starts an X server if there is none, and waits for it. The result says whether the fans are now set over X.
        """
        if self._x_reason is not None:
            return FallBack(switched=False)  # they are set over X already
        try:
            self._server.start()
            x = self._server.find(self._nvml)
        except FansOutOfReach as error:
            return FallBack(switched=False, x_error=error.x_error)
        except (DriverError, GpuLost) as error:
            return FallBack(switched=False, x_error=str(error))
        if x.info.uncontrollable_reason is not None:
            return FallBack(switched=False, x_error=x.info.uncontrollable_reason)
        self._x, self._x_reason = x, f"NVML does not move its fans: {reason}"
        return FallBack(switched=True)

    def _backend(self) -> Gpu:
        """Open the card, and return the backend that sets its fans now. Raises GpuLost."""
        if self._x_reason is None:
            return self._nvml
        if self._x is None:
            self._nvml.open()
            self._server.begin()
            self._x = self._server.find(self._nvml)
        return self._x
