"""Asks the NVIDIA driver for its versions and its cards. The driver may hang."""

import re
from contextlib import suppress
from pathlib import Path

from pynvml import NVMLError

from gpufan.core.gpu import GpuInfo, Reading
from gpufan.doctor.facts import Card, Driver
from gpufan.doctor.root_folder import below_root
from gpufan.errors import DriverError, NoAnswer, ResetRequired
from gpufan.gpu import cards
from gpufan.gpu.nvml_box import NvmlBox
from gpufan.system import versions
from gpufan.system.background import call_all, call_with_timeout
from gpufan.system.files import read_text_or_empty

_LIBRARY = re.compile(r"libnvidia-ml\.so\.(\d+\.\d+(?:\.\d+)?)$", re.MULTILINE)


def look_at_driver() -> Driver:
    """Return the facts about the driver and its cards. A card that does not answer in time has no reading."""
    module_version = versions.driver_version(below_root(versions.KERNEL_MODULE))
    try:
        box = NvmlBox()
    except DriverError as error:
        cause = error.__cause__
        code = cause.value if isinstance(cause, NVMLError) else None
        return Driver(module_version, _look_at_driver_library(), str(error), code)
    results = call_all(cards.READ_TIMEOUT_S, [gpu.read for gpu in box.gpus])
    # Reading completes the info of a card that opened late.
    found = tuple(_looked_at_card(gpu.info, result) for gpu, result in zip(box.gpus, results, strict=True))
    with suppress(NoAnswer):
        call_with_timeout(1.0, box.close)
    return Driver(module_version, _look_at_driver_library() or box.driver_version, cards=found)


def _looked_at_card(info: GpuInfo, result: Reading | Exception) -> Card:
    """Return the facts about one card. `result` is its reading, or the error of the attempt to read it.

    If the error is NoAnswer, the card has no reading. Any other error is raised.
    """
    if isinstance(result, Reading):
        return Card(info, result)
    if not isinstance(result, NoAnswer):
        raise result
    return Card(info, None, needs_reset=isinstance(result, ResetRequired))


def _look_at_driver_library() -> str | None:
    """Return the version of the NVML library in this process. Returns None if the library is not loaded.

    The file name of the library contains the version, so the version is known even if the library fails.
    """
    match = _LIBRARY.search(read_text_or_empty(Path("/proc/self/maps")))
    return match[1] if match else None
