"""Asking NVIDIA's driver, which may hang: its versions, its cards, and on request whether their fans obey."""

import re
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from pynvml import NVMLError

from gpufan.config.settings import Settings
from gpufan.core.selection import select, split_controllable
from gpufan.doctor.facts import Card, Driver, Proof
from gpufan.errors import DriverError, GpufanError, NoAnswer
from gpufan.gpu.cards import open_cards
from gpufan.gpu.nvml import NvmlBox, NvmlGpu
from gpufan.service.proof import prove_control
from gpufan.system import versions as version
from gpufan.system.background import BackgroundCall, call_with_timeout
from gpufan.system.lock import controller_lock

_LIBRARY = re.compile(r"libnvidia-ml\.so\.(\d+\.\d+(?:\.\d+)?)$", re.MULTILINE)


def look(kernel_module: Path, patience_s: float) -> Driver:
    """Ask the driver, for `patience_s` seconds or little more. `kernel_module` is the file that tells its version."""
    module_version = version.driver_version(kernel_module)
    try:
        # One that is not open by then is tried once more below; here they are waited for one after the other.
        box = NvmlBox(patience_s / 8)
    except DriverError as error:
        cause = error.__cause__
        code = cause.value if isinstance(cause, NVMLError) else None
        return Driver(module_version, _loaded_library(), str(error), code)
    pending = [(gpu, BackgroundCall(partial(_look_at, gpu))) for gpu in box.gpus]
    end_s = time.monotonic() + patience_s / 2
    cards = []
    for gpu, look_at_card in pending:
        try:
            cards.append(look_at_card.result(max(end_s - time.monotonic(), 0)))
        except NoAnswer:
            cards.append(Card(gpu.info, None))
    with suppress(NoAnswer):
        call_with_timeout(1.0, box.close)
    return Driver(module_version, _loaded_library() or box.driver_version, cards=tuple(cards))


def _look_at(gpu: NvmlGpu) -> Card:
    reading = gpu.read()
    return Card(gpu.info, reading, gpu.persistence())


def _loaded_library() -> str | None:
    """Version of the NVML library that this process has loaded, by the name of its file.

    It can be told so even where the library refuses to work with the kernel module.
    """
    try:
        match = _LIBRARY.search(Path("/proc/self/maps").read_text())
    except OSError:
        return None
    return match[1] if match else None


def prove_fans(settings: Settings, runtime_folder: Path) -> tuple[Proof, ...]:
    """Move the fans of every card by a step, and give them back.

    Raises NoPermission without root, and GpufanError while another gpufan has the fans.
    """
    whole = settings.run_settings()
    proofs: list[Proof] = []
    said: list[str] = []
    with controller_lock(runtime_folder, said.append):
        cards = open_cards(whole.backend, whole.display, runtime_folder)
        try:
            usable, _ = split_controllable(select(cards.gpus, whole.gpus))
            cards.start_x_server(usable)
            for gpu in usable:
                try:
                    prove_control([gpu], said.append)
                    proofs.append(Proof(gpu.info.uuid, said[-1].partition(": ")[2], obeyed=True))
                except GpufanError as error:
                    text = str(error).removeprefix(f"{gpu.info.label}: ")
                    proofs.append(Proof(gpu.info.uuid, text, obeyed=False))
        finally:
            cards.close()
    return tuple(proofs)
