"""Reads PCI addresses, UUIDs and models of NVIDIA's cards from the kernel. No card is opened for this."""

import re
from pathlib import Path

from gpufan.core.pci import PciAddress
from gpufan.system.files import read_text_or_empty

PCI_FOLDER = Path("/sys/bus/pci/devices")

DRIVER_FOLDER = Path("/sys/bus/pci/drivers/nvidia")
"""Has a link for each card that NVIDIA's kernel module drives. A card of a virtual machine has no link here."""

CARDS_FOLDER = Path("/proc/driver/nvidia/gpus")
"""Has a folder for each card that NVIDIA's kernel module drives. The name of the folder is the address of the card."""

_NVIDIA = "0x10de"
_DISPLAY_CLASSES = "0x0300", "0x0302"
"""VGA controller, and 3D controller: a card without a connector."""


def kernel_bus_addresses(pci_folder: Path = PCI_FOLDER) -> list[PciAddress]:
    """Return the addresses of NVIDIA's display devices on the PCI bus, whatever driver they have, sorted by name."""
    return [
        PciAddress.parse(device.name)
        for device in sorted(pci_folder.glob("*:*:*.*"))
        if read_text_or_empty(device / "vendor").strip().lower() == _NVIDIA
        and read_text_or_empty(device / "class").startswith(_DISPLAY_CLASSES)
    ]


def kernel_driven_addresses() -> list[PciAddress]:
    """Return the sorted addresses of the cards that NVIDIA's kernel module drives; empty if sysfs is not mounted."""
    return sorted(PciAddress.parse(link.name) for link in DRIVER_FOLDER.glob("*:*:*.*"))


def kernel_uuid_and_model(address: PciAddress) -> tuple[str, str]:
    """Return UUID and model of the card at `address`. Both are empty if the kernel module does not know the UUID.

    The kernel module learns the UUID when the card is first used.
    """
    known = dict(
        re.findall(
            r"^([^:]+):[ \t]*(.+)$", read_text_or_empty(CARDS_FOLDER / address.lspci / "information"), re.MULTILINE
        )
    )
    uuid = known.get("GPU UUID", "?")
    return ("", "") if "?" in uuid else (uuid, known.get("Model", ""))
