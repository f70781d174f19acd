"""Which way leads to a card's fans: NVML where the driver can, NV-CONTROL over an X server where it cannot.

With `auto`, NVML has every card whose fans it says it can set, and the control loop has the proof: it reads back what
it sets, and a card whose fans do not follow is given to X by `fall_back`.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpufan.core.gpu import Gpu
from gpufan.core.pci import PciAddress
from gpufan.errors import DriverError, InputError, NoAnswer
from gpufan.gpu.nvml import NvmlBox
from gpufan.gpu.routed import RoutedGpu
from gpufan.gpu.x_route import XRoute
from gpufan.system.background import call_with_timeout
from gpufan.xorg.client import Display

BACKENDS = ("auto", "nvml", "x11")
XSERVER_FOLDER = "own-xserver"
"""In the runtime folder, where an X server of our own keeps its files; not where that of `gpufan xserver` does."""


@dataclass(frozen=True, slots=True)
class Cards:
    """The cards of this machine, and what they are reached through, open until `close`."""

    gpus: Sequence[Gpu]
    box: NvmlBox | None
    route: XRoute | None
    patience_s: float

    def reach(self, gpus: Sequence[Gpu]) -> None:
        """Start the X server where some of `gpus` need it from the start, and find them there. Raises DriverError."""
        over_x = [gpu for gpu in gpus if gpu.info.backend == "x11"]
        if self.route is None or not over_x:
            return
        self.route.start()
        for gpu in over_x:
            with suppress(NoAnswer):
                call_with_timeout(self.patience_s, gpu.read)  # from now on its info says whether its fans can be set

    def close(self) -> None:
        """Let go of the driver, and end an X server of our own. Does not release fans."""
        if self.route is not None:
            self.route.close()
        if self.box is not None:
            # While a call hangs in the driver, this one may hang as well.
            with suppress(NoAnswer):
                call_with_timeout(1.0, self.box.close)


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
