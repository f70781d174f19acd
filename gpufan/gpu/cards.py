"""The cards of this machine, opened with the backend that the settings name."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpufan.core.gpu import Gpu
from gpufan.errors import DriverError, InputError, NoAnswer
from gpufan.gpu.addresses import find_addresses
from gpufan.gpu.auto import AutoGpu
from gpufan.gpu.nvml import NvmlBox
from gpufan.gpu.x_server import SharedXServer
from gpufan.system.background import call_with_timeout
from gpufan.xorg.client import Display

XSERVER_FOLDER = "own-xserver"
"""Where our own X server has its files, in the runtime folder; `gpufan xserver` uses another."""

RELOAD_TIMEOUT_S = 2.0
"""For NVML to be loaded anew, s."""


@dataclass(frozen=True, slots=True)
class Cards:
    """The cards of this machine and the libraries and servers behind them, open until `close`."""

    gpus: Sequence[Gpu]
    """In the order of NVML's index."""
    nvml: NvmlBox | None
    x_server: SharedXServer | None
    timeout_s: float
    """For one card to answer, s."""

    def start_x_server(self, gpus: Sequence[Gpu]) -> None:
        """Start the X server if the fans of some of `gpus` are set over X, and find these cards on it.

        Raises DriverError.
        """
        over_x = [gpu for gpu in gpus if gpu.info.backend == "x11"]
        if self.x_server is None or not over_x:
            return
        self.x_server.start()
        for gpu in over_x:
            with suppress(NoAnswer):
                call_with_timeout(self.timeout_s, gpu.read)  # from now on its info says whether its fans can be set

    def reload_driver(self) -> None:
        """Shut NVML down and load it anew; every card opens anew at its next call.

        Raises DriverError, and NoAnswer after 2 s, while NVML may still be loading.
        """
        if self.nvml is not None:
            call_with_timeout(RELOAD_TIMEOUT_S, self.nvml.reload)

    def stop_x_server(self) -> None:
        """End our own X server."""
        if self.x_server is not None:
            self.x_server.stop()

    def close(self) -> None:
        """End our own X server and unload NVML. Does not release fans."""
        self.stop_x_server()
        if self.nvml is not None:
            # While a call hangs in the driver, this one may hang as well.
            with suppress(NoAnswer):
                call_with_timeout(1.0, self.nvml.close)


def open_cards(backend: str, display: str | None, runtime_folder: Path, timeout_s: float = 5.0) -> Cards:
    """Open every card with `backend`: `auto`, `nvml` or `x11`; wait `timeout_s` seconds for each at most.

    `display` names a running X server to use; if it is None, our own is started when it is needed, and has its files
    below `runtime_folder`. Raises InputError, DriverError or GpufanError.
    """
    if backend == "nvml":
        if display is not None:
            raise InputError("--display goes with --backend auto or x11: NVML needs no X server")
        box = NvmlBox(timeout_s)
        return Cards(box.gpus, box, None, timeout_s)
    existing = None if display is None else Display.parse(display)
    folder = runtime_folder / XSERVER_FOLDER
    if backend == "auto":
        box = NvmlBox(timeout_s)
        server = SharedXServer(existing, folder, box.addresses)
        return Cards([AutoGpu(gpu, server) for gpu in box.gpus], box, server, timeout_s)
    return _open_over_x(existing, folder, timeout_s)


def _open_over_x(existing: Display | None, folder: Path, timeout_s: float) -> Cards:
    """Open all cards over X, and through NVML as well if it works: it reads temperature and power."""
    from gpufan.gpu import x11

    nvml: NvmlBox | None
    try:
        nvml = NvmlBox(timeout_s)
    except DriverError:
        nvml = None
    server = SharedXServer(existing, folder, find_addresses(nvml))
    try:
        server.start()
        return Cards(x11.open_cards(server.display, nvml.gpus if nvml else []), nvml, server, timeout_s)
    except BaseException:
        server.stop()
        raise
