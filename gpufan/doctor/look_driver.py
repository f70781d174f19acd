"""Ask the NVIDIA driver, which may hang, for its versions and its cards."""

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
    """The driver and its cards. All cards are read at the same time; one that does not answer has no reading."""
    module_version = versions.driver_version(below_root(versions.KERNEL_MODULE))
    try:
        box = NvmlBox()
    except DriverError as error:
        cause = error.__cause__
        code = cause.value if isinstance(cause, NVMLError) else None
        return Driver(module_version, _loaded_library(), str(error), code)
    results = call_all(cards.READ_TIMEOUT_S, [gpu.read for gpu in box.gpus])
    # Reading completes the info of a card that opened late.
    found = tuple(_card(gpu.info, result) for gpu, result in zip(box.gpus, results, strict=True))
    with suppress(NoAnswer):
        call_with_timeout(1.0, box.close)
    return Driver(module_version, _loaded_library() or box.driver_version, cards=found)


def _card(info: GpuInfo, result: Reading | Exception) -> Card:
    """A card after the attempt to read it. Raises `result` if it is an error other than NoAnswer."""
    if isinstance(result, Reading):
        return Card(info, result)
    if not isinstance(result, NoAnswer):
        raise result
    return Card(info, None, needs_reset=isinstance(result, ResetRequired))


def _loaded_library() -> str | None:
    """Version of the NVML library in this process, from its file name. It is known even if the library fails."""
    match = _LIBRARY.search(read_text_or_empty(Path("/proc/self/maps")))
    return match[1] if match else None
