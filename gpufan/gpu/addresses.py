"""The PCI addresses of NVIDIA's cards: as the driver reports them, or without a driver as the kernel lists them."""

from contextlib import closing, suppress
from pathlib import Path

from gpufan.core.pci import PciAddress
from gpufan.errors import DriverError, GpufanError
from gpufan.gpu.nvml import NvmlBox

PCI_FOLDER = Path("/sys/bus/pci/devices")

_NVIDIA = "0x10de"
_DISPLAY_CLASSES = "0x0300", "0x0302"
"""VGA controller, and 3D controller: a card without a connector."""


def find_addresses(nvml: NvmlBox | None = None, pci_folder: Path = PCI_FOLDER) -> list[PciAddress]:
    """The addresses of the cards that answer through NVML; if none does, of all cards on the PCI bus.

    NVML is loaded for the call if `nvml` is None. Raises GpufanError if there are no cards.
    """
    if nvml is None:
        with suppress(DriverError), closing(NvmlBox()) as box:
            return find_addresses(box, pci_folder)
    addresses = (nvml.addresses if nvml else []) or bus_addresses(pci_folder)
    if not addresses:
        raise GpufanError("no NVIDIA card found: look at `lspci -d 10de:`, or try --simulate dual-1080ti")
    return addresses


def bus_addresses(pci_folder: Path = PCI_FOLDER) -> list[PciAddress]:
    """The addresses of NVIDIA's display devices on the PCI bus."""
    return [
        PciAddress.parse(device.name)
        for device in sorted(pci_folder.glob("*:*:*.*"))
        if _attribute(device, "vendor") == _NVIDIA and _attribute(device, "class").startswith(_DISPLAY_CLASSES)
    ]


def _attribute(device: Path, name: str) -> str:
    try:
        return (device / name).read_text().strip().lower()
    except OSError:
        return ""
