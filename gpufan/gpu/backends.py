"""Which way leads to a card's fans: NVML where the driver can, NV-CONTROL over an X server where it cannot.

With `auto`, NVML has every card whose fans it says it can set, and the control loop has the proof: it reads back what
it sets, and a card whose fans do not follow is given to X by `fall_back`.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from gpufan.bounded import within
from gpufan.errors import DriverError, GpuLost, InputError
from gpufan.gpu import Gpu, GpuInfo, Reading
from gpufan.gpu.nvml import NvmlBox, NvmlGpu, driver_obstacle
from gpufan.gpu.pci import PciAddress
from gpufan.xorg.client import Display
from gpufan.xorg.route import XRoute

BACKENDS = ("auto", "nvml", "x11")
XSERVER_FOLDER = "own-xserver"
"""In the runtime folder, where an X server of our own keeps its files; not where that of `gpufan xserver` does."""


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


@dataclass(frozen=True, slots=True)
class Cards:
    """The cards of this machine, and what they are reached through, open until `close`."""

    gpus: Sequence[Gpu]
    box: NvmlBox | None
    route: XRoute | None
    patience_s: float

    def reach(self, gpus: Sequence[Gpu]) -> None:
        """Start the X server where some of `gpus` need it from the start, and find them there. Raises DriverError."""
        over_x = [gpu for gpu in gpus if isinstance(gpu, RoutedGpu) and gpu.why_x is not None]
        if self.route is None or not over_x:
            return
        self.route.start()
        for gpu in over_x:
            with suppress(GpuLost):
                within(self.patience_s, gpu.read)  # from now on its info says whether its fans can be set

    def close(self) -> None:
        """Let go of the driver, and end an X server of our own. Does not release fans."""
        if self.route is not None:
            self.route.close()
        if self.box is not None:
            # While a call hangs in the driver, this one may hang as well.
            with suppress(GpuLost):
                within(1.0, self.box.close)


def open_cards(backend: str, display: str | None, folder: Path, patience_s: float) -> Cards:
    """Find every card, waiting `patience_s` seconds for each at most.

    `backend` is one of `BACKENDS`; `display` names an X server to be used instead of one of our own, which keeps its
    files in `folder`. Raises InputError, DriverError or GpufanError.
    """
    if backend == "nvml":
        if display is not None:
            raise InputError("--display goes with --backend auto or x11: NVML needs no X server")
        box = NvmlBox(patience_s)
        return Cards(box.gpus, box, None, patience_s)
    existing = None if display is None else Display.parse(display)
    if backend == "auto":
        box = NvmlBox(patience_s)
        route = XRoute(existing, folder, _addresses(box))
        return Cards([RoutedGpu(gpu, route) for gpu in box.gpus], box, route, patience_s)
    return _over_x(existing, folder, patience_s)


def _over_x(existing: Display | None, folder: Path, patience_s: float) -> Cards:
    """All cards over X, with NVML for their temperatures where it works."""
    from gpufan.gpu.nvcontrol import NvControlBox
    from gpufan.xorg.setup import find_cards

    box: NvmlBox | None
    try:
        box = NvmlBox(patience_s)
    except DriverError:
        box = None
    addresses = find_cards(lambda: [] if box is None else [gpu.info.pci for gpu in box.gpus if gpu.info.pci])
    route = XRoute(existing, folder, addresses)
    try:
        route.start()
        gpus = NvControlBox(route.locate, [] if box is None else box.gpus).gpus
        return Cards(gpus, box, route, patience_s)
    except BaseException:
        route.close()
        raise


def nvml_addresses() -> list[str]:
    """Where the driver's cards sit, those left out that do not answer. Raises DriverError."""
    box = NvmlBox()
    try:
        return [gpu.info.pci for gpu in box.gpus if gpu.info.pci]
    finally:
        box.close()


def _addresses(box: NvmlBox) -> list[PciAddress]:
    return [PciAddress.parse(gpu.info.pci) for gpu in box.gpus if gpu.info.pci]
