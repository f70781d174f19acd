"""NVIDIA's cards as the kernel lists them: their PCI addresses, UUIDs and models. No card is opened for this."""

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


def kernel_bus_addresses(pci_folder: Path = PCI_FOLDER) -> list[PciAddress]:
    """Return the addresses of NVIDIA's display devices on the PCI bus, with any driver or none."""
    return [
        PciAddress.parse(device.name)
        for device in sorted(pci_folder.glob("*:*:*.*"))
        if read_text_or_empty(device / "vendor").strip().lower() == _NVIDIA
        and read_text_or_empty(device / "class").startswith(_DISPLAY_CLASSES)
    ]


def kernel_driven_addresses() -> list[PciAddress]:
    """Return the sorted addresses of the cards that NVIDIA's kernel module drives; none if sysfs is not mounted."""
    return sorted(PciAddress.parse(link.name) for link in DRIVER_FOLDER.glob("*:*:*.*"))


def kernel_uuid_and_model(address: PciAddress) -> tuple[str, str]:
    """Return UUID and model of a card. Both are empty if the kernel module does not know the UUID.

    It learns the UUID at the first use of the card.
    """
    known = dict(
        re.findall(
            r"^([^:]+):[ \t]*(.+)$", read_text_or_empty(CARDS_FOLDER / address.lspci / "information"), re.MULTILINE
        )
    )
    uuid = known.get("GPU UUID", "?")
    return ("", "") if "?" in uuid else (uuid, known.get("Model", ""))
