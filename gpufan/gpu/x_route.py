"""The X server over which fans are set: one that runs already, or one of our own, started when it is first needed."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpufan.core.gpu import Gpu
from gpufan.core.pci import PciAddress
from gpufan.errors import DriverError, FansOutOfReach, GpuError, GpuLost
from gpufan.xorg.client import Display

if TYPE_CHECKING:
    from gpufan.xorg.server import HeadlessServer

_BASE = b"""\
# The X server that gpufan runs to set fans; written anew at every start.

Section "ServerFlags"
    Option "AutoAddDevices" "off"
    Option "AutoAddGPU" "off"
EndSection

Section "Module"
    Disable "glx"
EndSection
"""
"""No input, no cards but those named, and 55 MB less for what nobody draws."""


def server_config(cards: Sequence[PciAddress]) -> str:
    """Text of the xorg.conf of a server of our own for `cards`."""
    # Not above: they take longer to load than all the rest, and most boxes never need them.
    from gpufan.xorg.config import Config
    from gpufan.xorg.edit import Wanted, edit
    from gpufan.xorg.setup import render

    return edit(Config(_BASE, "xorg.conf"), cards, Wanted(), render).data.decode("latin-1")


class XRoute:
    """The way to NV-CONTROL. Safe to use from the threads of several cards."""

    def __init__(self, existing: Display | None, folder: Path, cards: Sequence[PciAddress]) -> None:
        """Take the server at `existing`; without one, run one for `cards` that keeps its files in `folder`."""
        self._existing = existing
        self._folder = folder
        self._cards = cards
        self._server: HeadlessServer | None = None
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Have a server started, without waiting for it."""
        if self._existing is None:
            self._own().begin()

    def start(self) -> None:
        """Have a server started, and wait until fans can be set over it; an existing one too. Raises DriverError."""
        from gpufan.gpu.nvcontrol import NvControl

        if self._existing is None:
            server = self._own()
            try:
                server.start()
            except DriverError:
                with self._lock:
                    if self._server is server:
                        self._server = None  # the next try is a new server's
                raise
        NvControl(self.locate()).close()

    def locate(self) -> Display:
        """Where the server is. Raises DriverError, saying why, while there is none."""
        if self._existing is not None:
            return self._existing
        with self._lock:
            server = self._server
        if server is None:
            raise DriverError("no X server is started")
        return server.display()

    def find(self, sensor: Gpu) -> Gpu:
        """The card that `sensor` reads, with its fans over X. Raises GpuLost while that cannot be had."""
        from gpufan.gpu.nvcontrol import NvControlBox

        try:
            for gpu in NvControlBox(self.locate, [sensor]).gpus:
                if gpu.info.uuid == sensor.info.uuid:
                    return gpu
        except GpuLost:
            raise
        except (DriverError, GpuError) as error:
            raise FansOutOfReach(str(error)) from error
        raise FansOutOfReach("the X server does not know the card: its xorg.conf must have a Device for it")

    def close(self) -> None:
        """End a server of our own."""
        with self._lock:
            server = self._server
        if server is not None:
            server.stop()

    def _own(self) -> "HeadlessServer":
        from gpufan.xorg.server import HeadlessServer

        with self._lock:
            if self._server is None:
                self._server = HeadlessServer(server_config(self._cards), self._folder)
            return self._server
