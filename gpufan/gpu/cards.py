"""Open the cards of this machine with the backend that the settings name."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpufan.core.gpu import Gpu, Reading
from gpufan.errors import DriverError, InputError, NoAnswer
from gpufan.gpu.auto import AutoGpu
from gpufan.gpu.header import HeaderGpu, Headers, NamesFor
from gpufan.gpu.nvml import NvmlGpu
from gpufan.gpu.nvml_box import NvmlBox
from gpufan.gpu.x_server import SharedXServer, addresses_for_x_server
from gpufan.system.background import call_all, call_with_timeout
from gpufan.xorg.client import Display

XSERVER_FOLDER = "own-xserver"
"""Our own X server has its files in this folder, which is in the runtime folder. `gpufan xserver` uses another one."""

READ_TIMEOUT_S = 2.0
"""Time limit for reading all cards at the same time, s."""

RELOAD_TIMEOUT_S = 2.0
"""Time limit for loading NVML again, s."""


@dataclass(slots=True)
class Cards:
    """The cards of this machine, together with NVML and the X server. Call `close` at the end."""

    gpus: Sequence[Gpu]
    """All cards, in the order of NVML's index. New cards are added at the end. A card that is not named is not open."""
    nvml: NvmlBox | None
    x_server: SharedXServer | None
    adopt: Callable[[NvmlGpu], Gpu] | None
    """Takes a new card of NVML, and returns it with its backend.

    None if new cards cannot be used, since the X server knows only the cards that were there at its start.
    """

    def use_headers(self, names_for: NamesFor, headers: Headers) -> None:
        """From now on, cool each card with the channels that `names_for` returns for it; with its own fans if none."""

        def with_headers(gpu: Gpu) -> Gpu:
            return HeaderGpu(gpu, names_for, headers.open_fan)

        adopt = self.adopt
        self.gpus = [with_headers(gpu) for gpu in self.gpus]
        if adopt is not None:
            self.adopt = lambda gpu: with_headers(adopt(gpu))

    def start_x_server(self, gpus: Sequence[Gpu]) -> None:
        """Start the X server if the fans of some of `gpus` are set over X, and find these cards on the server.

        Raises DriverError.
        """
        over_x = [gpu for gpu in gpus if gpu.info.backend == "x11"]
        if self.x_server is None or not over_x:
            return
        self.x_server.start()
        read_all_cards([gpu.read for gpu in over_x])  # from now on `info` says whether the fans can be set

    def find_new(self) -> list[Gpu]:
        """Open and return the named cards that have appeared since the last call. May last 2 s.

        A card that has come back is not new: its old object stays in use.
        """
        if self.nvml is None or self.adopt is None:
            return []
        new = [self.adopt(gpu) for gpu in self.nvml.find_new()]
        self.gpus = [*self.gpus, *new]
        return new

    def reload_driver(self) -> None:
        """Shut NVML down and load it again. Every card opens again at its next call.

        Raises DriverError, or NoAnswer after 2 s. NVML may still be loading then.
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


def open_cards(backend: str, display: str | None, runtime_folder: Path, names: Sequence[str] = ()) -> Cards:
    """Open the cards that `names` may mean, or all cards. `backend` is `auto`, `nvml` or `x11`.

    `display` names the running X server to use. If it is None, our own X server is started when it is needed, with its
    files in `runtime_folder`. Raises InputError, DriverError or GpufanError.
    """
    if backend == "nvml":
        if display is not None:
            raise InputError("--display goes with --backend auto or x11: NVML needs no X server")
        box = NvmlBox(names)
        return Cards(list(box.gpus), box, None, lambda gpu: gpu)
    existing = None if display is None else Display.parse(display)
    folder = runtime_folder / XSERVER_FOLDER
    if backend == "auto":
        box = NvmlBox(names)
        server = SharedXServer(existing, folder, box.addresses)
        return Cards([AutoGpu(gpu, server) for gpu in box.gpus], box, server, lambda gpu: AutoGpu(gpu, server))
    return _open_cards_over_x(existing, folder, names)


def _open_cards_over_x(existing: Display | None, folder: Path, names: Sequence[str]) -> Cards:
    """Open cards over X. If NVML works, open them through NVML too, to read temperature and power.

    `existing` is the running X server to use; None for our own X server, which has its files in `folder`. NVML opens
    only the cards that `names` may mean. Raises DriverError or GpufanError.
    """
    from gpufan.gpu import x11

    nvml: NvmlBox | None
    try:
        nvml = NvmlBox(names)
    except DriverError:
        nvml = None
    server = SharedXServer(existing, folder, addresses_for_x_server(nvml))
    try:
        server.start()
        return Cards(x11.open_x11_cards(server.display, nvml.gpus if nvml else []), nvml, server, None)
    except BaseException:
        server.stop()
        raise


def read_all_cards(reads: Sequence[Callable[[], Reading]]) -> list[Reading | None]:
    """Call all `reads` at the same time. Return the reading of each card; None if it does not answer within 2 s.

    Raises the error of a call, except NoAnswer.
    """
    readings: list[Reading | None] = []
    for result in call_all(READ_TIMEOUT_S, reads):
        if isinstance(result, Exception) and not isinstance(result, NoAnswer):
            raise result
        readings.append(result if isinstance(result, Reading) else None)
    return readings
