"""Read the versions of gpufan, the driver and Python for a bug report.

The driver is not called, because a call may hang.
"""

import platform
import re
from importlib import metadata
from pathlib import Path

from gpufan import __version__
from gpufan.system.files import read_text_or_empty

KERNEL_MODULE = Path("/proc/driver/nvidia/version")
"""In this file, the loaded kernel module of NVIDIA shows its version."""


def driver_version(path: Path = KERNEL_MODULE) -> str | None:
    """Return the version of NVIDIA's loaded kernel module, such as `580.65.06`; None if no module is loaded.

    `path` is the file in which the module shows its version.
    """
    # "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May ..", or "Open Kernel Module for x86_64".
    match = re.search(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", read_text_or_empty(path), re.MULTILINE)
    return match[1] if match else None


def versions() -> str:
    """Return the versions of gpufan, nvidia-ml-py, the driver and Python, as one line of text."""
    try:
        binding = metadata.version("nvidia-ml-py")
    except metadata.PackageNotFoundError:
        binding = "missing"
    driver = driver_version()
    parts = [
        f"gpufan {__version__}",
        f"nvidia-ml-py {binding}",
        f"driver {driver}" if driver else "no driver",
        f"Python {platform.python_version()}",
    ]
    return " · ".join(parts)
