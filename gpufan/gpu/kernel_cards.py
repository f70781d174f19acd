"""NVIDIA's cards as the kernel lists them: their PCI addresses, UUIDs and models, without opening a card."""

import re
from pathlib import Path

from gpufan.core.pci import PciAddress
from gpufan.system.files import read_text_or_empty

PCI_FOLDER = Path("/sys/bus/pci/devices")

DRIVER_FOLDER = Path("/sys/bus/pci/drivers/nvidia")
"""Has a link for each card that NVIDIA's kernel module drives; a card that is given to a virtual machine has none."""

CARDS_FOLDER = Path("/proc/driver/nvidia/gpus")
"""Here NVIDIA's kernel module describes each of its cards, in a folder named after its address."""

_NVIDIA = "0x10de"
_DISPLAY_CLASSES = "0x0300", "0x0302"
"""VGA controller, and 3D controller: a card without a connector."""


def bus_addresses(pci_folder: Path = PCI_FOLDER) -> list[PciAddress]:
    """The addresses of NVIDIA's display devices on the PCI bus, whatever drives them."""
    return [
        PciAddress.parse(device.name)
        for device in sorted(pci_folder.glob("*:*:*.*"))
        if read_text_or_empty(device / "vendor").strip().lower() == _NVIDIA
        and read_text_or_empty(device / "class").startswith(_DISPLAY_CLASSES)
    ]


def driven_addresses() -> list[PciAddress]:
    """The addresses of the cards that NVIDIA's kernel module drives, sorted; none where sysfs is not mounted."""
    return sorted(PciAddress.parse(link.name) for link in DRIVER_FOLDER.glob("*:*:*.*"))


def uuid_and_model(address: PciAddress) -> tuple[str, str]:
    """UUID and model of a card; empty where the kernel module does not know them, as before the first use of a card."""
    known = dict(
        re.findall(
            r"^([^:]+):[ \t]*(.+)$", read_text_or_empty(CARDS_FOLDER / address.lspci / "information"), re.MULTILINE
        )
    )
    uuid = known.get("GPU UUID", "?")
    return ("", "") if "?" in uuid else (uuid, known.get("Model", ""))
