"""Gives access to the X server over which fans are set: a running server, or our own, which is started when needed."""

import threading
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gpufan.core.gpu import Gpu
from gpufan.core.pci import PciAddress
from gpufan.errors import DriverError, FansOutOfReach, GpuError, GpufanError
from gpufan.gpu.kernel_cards import PCI_FOLDER, kernel_bus_addresses
from gpufan.gpu.nvml_box import NvmlBox
from gpufan.xorg.box import graphics_devices, make_box
from gpufan.xorg.client import Display

if TYPE_CHECKING:
    from gpufan.gpu.x11 import X11Gpu
    from gpufan.xorg.headless_server import HeadlessServer


class SharedXServer:
    """The X server that all cards share. The threads of several cards may use it at the same time."""

    def __init__(self, existing: Display | None, folder: Path, addresses: Sequence[PciAddress]) -> None:
        """Use the running server at the display `existing`. If it is None, use our own server.

        Our own server is for the cards at `addresses`, and has its files in `folder`.
        """
        self._existing = existing
        self._folder = folder
        self._addresses = addresses
        self._own: HeadlessServer | None = None
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Start our own server, without waiting for it."""
        if self._existing is None:
            self._own_server().begin()

    def start(self) -> None:
        """Start our own server, and wait for it. If `existing` names a server, start nothing.

        Checks that the server can set fans. Raises DriverError.
        """
        from gpufan.gpu.nvcontrol import NvControl

        if self._existing is None:
            server = self._own_server()
            try:
                server.start()
            except DriverError:
                with self._lock:
                    if self._own is server:
                        self._own = None  # the next attempt needs a new one
                raise
        NvControl(self.display()).close()

    def display(self) -> Display:
        """Return the display of the server. Raises DriverError with the reason if no server runs."""
        if self._existing is not None:
            return self._existing
        with self._lock:
            server = self._own
        if server is None:
            raise DriverError("no X server is started")
        return server.display()

    def find(self, sensor: Gpu) -> "X11Gpu":
        """Find the card `sensor` on the X server. Returns it as a card whose fans are set over X.

        `sensor` goes on reading temperature and power. Raises FansOutOfReach.
        """
        from gpufan.gpu.x11 import open_x11_cards

        try:
            cards = open_x11_cards(self.display, [sensor])
        except (DriverError, GpuError) as error:
            raise FansOutOfReach(str(error)) from error
        for card in cards:
            if card.info.uuid == sensor.info.uuid:
                return card
        raise FansOutOfReach("the X server does not know the card: its xorg.conf must have a Device for it")

    def stop(self) -> None:
        """End our own server; it is not started again."""
        with self._lock:
            server = self._own
        if server is not None:
            server.stop()

    def _own_server(self) -> "HeadlessServer":
        """Return our own server, which is made at the first call."""
        from gpufan.xorg.headless_config import headless_config
        from gpufan.xorg.headless_server import HeadlessServer

        with self._lock:
            if self._own is None:
                self._own = HeadlessServer(headless_config(self._addresses), self._folder)
            return self._own


def addresses_for_x_server(
    nvml: NvmlBox | None = None, names: Sequence[str] = (), pci_folder: Path = PCI_FOLDER
) -> list[PciAddress]:
    """Return the addresses of the cards for which an X server is started.

    These are the open cards of `nvml` that match its names. If there are none, or NVML does not work, these are all
    usable cards on the PCI bus. If `nvml` is None, NVML is loaded for this call, with `names` as the names. Raises
    GpufanError if there are no cards.
    """
    if nvml is None:
        with suppress(DriverError), closing(NvmlBox(names)) as box:
            return addresses_for_x_server(box, pci_folder=pci_folder)
    addresses = nvml.addresses if nvml else []
    if not addresses:
        addresses = list(make_box(kernel_bus_addresses(pci_folder), graphics_devices(pci_folder)).cards)
    if not addresses:
        raise GpufanError("no NVIDIA card found: look at `lspci -d 10de:`, or try --simulate dual-1080ti")
    return addresses
