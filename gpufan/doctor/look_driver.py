"""Ask the NVIDIA driver, which may hang, for its versions and its cards."""

import re
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from pynvml import NVMLError

from gpufan.doctor.facts import Card, Driver
from gpufan.doctor.root_folder import below_root
from gpufan.errors import DriverError, NoAnswer
from gpufan.gpu.nvml import NvmlBox, NvmlGpu
from gpufan.system import versions
from gpufan.system.background import BackgroundCall, call_with_timeout

_LIBRARY = re.compile(r"libnvidia-ml\.so\.(\d+\.\d+(?:\.\d+)?)$", re.MULTILINE)


def look_at_driver(limit_s: float) -> Driver:
    """The driver and its cards; a card that does not answer within `limit_s` seconds has no reading."""
    module_version = versions.driver_version(below_root(versions.KERNEL_MODULE))
    try:
        # NVML opens the cards one after the other. `read` opens a card again that was too late.
        box = NvmlBox(limit_s / 8)
    except DriverError as error:
        cause = error.__cause__
        code = cause.value if isinstance(cause, NVMLError) else None
        return Driver(module_version, _loaded_library(), str(error), code)
    calls = [(gpu, BackgroundCall(partial(_look_at_card, gpu))) for gpu in box.gpus]
    end_s = time.monotonic() + limit_s / 2
    cards = []
    for gpu, call in calls:
        try:
            cards.append(call.result(max(end_s - time.monotonic(), 0)))
        except NoAnswer:
            cards.append(Card(gpu.info, None))
    with suppress(NoAnswer):
        call_with_timeout(1.0, box.close)
    return Driver(module_version, _loaded_library() or box.driver_version, cards=tuple(cards))


def _look_at_card(gpu: NvmlGpu) -> Card:
    reading = gpu.read()  # reading may open the card, and complete its info
    return Card(gpu.info, reading)


def _loaded_library() -> str | None:
    """Version of the NVML library in this process, from its file name. It is known even if the library fails."""
    try:
        match = _LIBRARY.search(Path("/proc/self/maps").read_text())
    except OSError:
        return None
    return match[1] if match else None
