"""One card whose fans are set through NVML or over X."""

from dataclasses import replace

from gpufan.core.gpu import Gpu, GpuInfo, Reading
from gpufan.errors import DriverError, GpuLost
from gpufan.gpu.nvml import NvmlGpu, driver_obstacle
from gpufan.gpu.x_route import XRoute


class RoutedGpu:
    """A card that NVML reads, and whose fans are set through NVML or over X."""

    def __init__(self, nvml: NvmlGpu, route: XRoute) -> None:
        self.nvml = nvml
        self._route = route
        self._x: Gpu | None = None
        self._driver_obstacle = driver_obstacle()
        self.why_x = self._driver_obstacle
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
            obstacle = None if self._x is None else said.obstacle
            self._info = replace(said, backend="x11", backend_reason=self.why_x, obstacle=obstacle)
        return self._info

    def fall_back(self, why: str) -> str | None:
        """Take X from the next call on, since NVML does not move the fans; what stands in the way, or None.

        An empty text says that X is taken already.
        Starts an X server of our own where there is none yet, and waits for it.
        """
        if self.why_x is not None:
            return ""
        try:
            self._route.start()
            x = self._route.find(self.nvml)
        except (DriverError, GpuLost) as error:
            return f"over X neither: {error}"
        if x.info.obstacle is not None:
            return f"over X neither: {x.info.obstacle}"
        self._x, self.why_x = x, f"NVML does not move its fans: {why}"
        return None

    def read(self) -> Reading:
        """Read the card. Raises GpuLost, also while fans that are not the driver's cannot be reached over X."""
        try:
            return self._fans().read()
        except GpuLost:
            if not self._released_past_x:
                raise
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
            if self.why_x is None or self._driver_obstacle is not None:
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
