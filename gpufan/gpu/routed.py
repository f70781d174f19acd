"""One card whose fans are set through NVML or over X."""

from dataclasses import replace

from gpufan.core.gpu import FallBack, Gpu, GpuInfo, Reading
from gpufan.errors import DriverError, FansOutOfReach, GpuLost
from gpufan.gpu.nvml import NvmlGpu, driver_reason
from gpufan.gpu.x_route import XRoute


class RoutedGpu:
    """A card that NVML reads, and whose fans are set through NVML or over X."""

    def __init__(self, nvml: NvmlGpu, route: XRoute) -> None:
        self.nvml = nvml
        self._route = route
        self._x: Gpu | None = None
        self._driver_reason = driver_reason()
        self.why_x = self._driver_reason
        """Why the fans are to be set over X; None as long as NVML has them."""
        self._said: GpuInfo | None = None
        self._info = nvml.info
        self._released_past_x = False
        """The fans were given back through NVML since X could not be reached."""

    @property
    def info(self) -> GpuInfo:
        """What the card said of itself; the same object as long as that is the same."""
        if self.why_x is None:
            return self.nvml.info
        said = self.nvml.info if self._x is None else self._x.info
        if said is not self._said:
            self._said = said
            # What stands in NVML's way is why X is taken.
            reason = None if self._x is None else said.uncontrollable_reason
            self._info = replace(said, backend="x11", backend_reason=self.why_x, uncontrollable_reason=reason)
        return self._info

    def fall_back(self, reason: str) -> FallBack:
        """Set the fans over X from the next call on, because NVML does not move them: `reason`.

        Starts our own X server if there is none, and waits for it.
        """
        if self.why_x is not None:
            return FallBack(switched=False)  # it uses X already
        try:
            self._route.start()
            x = self._route.find(self.nvml)
        except FansOutOfReach as error:
            return FallBack(switched=False, x_error=error.x_error)
        except (DriverError, GpuLost) as error:
            return FallBack(switched=False, x_error=str(error))
        if x.info.uncontrollable_reason is not None:
            return FallBack(switched=False, x_error=x.info.uncontrollable_reason)
        self._x, self.why_x = x, f"NVML does not move its fans: {reason}"
        return FallBack(switched=True)

    def read(self) -> Reading:
        """Read the card. Raises GpuLost, also while fans that are not the driver's cannot be reached over X."""
        try:
            return self._fans().read()
        except GpuLost:
            if not self._released_past_x:
                raise
            return self.nvml.read()

    def observe(self) -> Reading:
        """Read the card through NVML, so that no X server is needed. Raises GpuLost."""
        return self.nvml.read()

    def set_duty(self, duty_percent: int) -> None:
        """Set every fan. Raises GpuError, GpuLost or NoPermission."""
        self._fans().set_duty(duty_percent)
        self._released_past_x = False

    def release(self) -> None:
        """Give every fan back. Raises GpuError, GpuLost or NoPermission."""
        try:
            self._fans().release()
        except GpuLost:
            # X may be gone, and the driver take its fans back through NVML all the same.
            if self.why_x is None or self._driver_reason is not None:
                raise
            self.nvml.release()
            self._released_past_x = True

    def _fans(self) -> Gpu:
        if self.why_x is None:
            return self.nvml
        if self._x is None:
            self.nvml.open()
            self._route.begin()
            self._x = self._route.find(self.nvml)
        return self._x
