"""Versions for a bug report, found without a call to the driver, which may hang."""

import platform
import re
from importlib import metadata
from pathlib import Path

from gpufan import __version__
from gpufan.system.files import text_of

KERNEL_MODULE = Path("/proc/driver/nvidia/version")
"""The version text of the loaded driver."""


def driver_version(path: Path = KERNEL_MODULE) -> str | None:
    """Version of the loaded kernel module, such as `580.65.06`; None if no module is loaded."""
    # "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May ..", or "Open Kernel Module for x86_64".
    match = re.search(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", text_of(path), re.MULTILINE)
    return match[1] if match else None


def versions() -> str:
    """The versions of gpufan, nvidia-ml-py, the driver and Python, in one line."""
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
