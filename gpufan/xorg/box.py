"""The graphics devices of the box that X can choose from, as sysfs lists them. No device is opened."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpufan.core.pci import PciAddress
from gpufan.errors import InputError
from gpufan.system.files import read_text_or_empty
from gpufan.xorg.configuration import Configuration
from gpufan.xorg.tokens import x_boolean

PCI_FOLDER = Path("/sys/bus/pci/devices")

_NVIDIA = "0x10de"
_MAKERS = {
    "0x1002": "AMD",
    "0x1022": "AMD",
    "0x102b": "Matrox",
    "0x10de": "NVIDIA",
    "0x1234": "QEMU",
    "0x1a03": "ASPEED",
    "0x1af4": "virtio",
    "0x15ad": "VMware",
    "0x8086": "Intel",
}
_DISPLAY_CLASS = "0x03"
_VGA_CLASS = "0x0300"
_LENT_TO_GUESTS = {"vfio-pci", "pci-stub", "xen-pciback"}
"""Kernel drivers that reserve a card for a virtual machine."""
_MODESETTING_DRIVERS = {
    *("amdgpu", "ast", "bochs-drm", "cirrus", "cirrus-qemu", "gma500", "hibmc-drm", "i915", "mgag200"),
    *("nouveau", "qxl", "radeon", "virtio-pci", "vmwgfx", "xe"),
}
"""Kernel drivers of graphics that the X driver `modesetting` works on."""

_DRIVERS_OF_NVIDIA = {"nvidia", "nouveau", "nv", "modesetting", "fbdev", "vesa"}
"""X drivers that can show a screen on an NVIDIA card."""

_MAKERS_OF_DRIVERS = {
    "intel": "Intel",
    "amdgpu": "AMD",
    "radeon": "AMD",
    "ati": "AMD",
    "ast": "ASPEED",
    "mga": "Matrox",
}
"""X drivers that are for the devices of one maker, other than NVIDIA's."""


@dataclass(frozen=True, slots=True)
class GraphicsDevice:
    """A graphics device on the PCI bus."""

    address: PciAddress
    maker: str
    """Name of the maker; its PCI number if it is rare."""
    is_nvidia: bool
    is_vga: bool
    is_boot_vga: bool
    """Whether the firmware showed its messages on this device."""
    kernel_driver: str
    """Empty if no driver is bound."""
    has_modesetting: bool
    """Whether the X driver `modesetting` works on it."""
    unusable: str
    """Why an X server of this box cannot use the device; empty if it can."""

    def __str__(self) -> str:
        return f"{self.address} ({self.maker})"


@dataclass(frozen=True, slots=True)
class Box:
    """The graphics devices for which X is configured."""

    cards: tuple[PciAddress, ...]
    """NVIDIA cards whose fans X has to set."""
    primary: PciAddress | None
    """Address of the primary device, unless an OutputClass chooses another one; None if the box has no device."""
    others: tuple[GraphicsDevice, ...] = ()
    """Devices other than `cards`."""

    def primary_under(self, configuration: Configuration) -> PciAddress | None:
        """Return the address of the device that X uses where no BusID is given, if X reads `configuration`.

        An OutputClass with the option PrimaryGPU makes the first card the primary device.
        """
        for section in configuration.nvidia_output_classes():
            option = section.option("primarygpu")
            if self.cards and option and x_boolean(option.value.text if option.value else ""):
                return self.cards[0]
        return self.primary

    def other_at(self, address: PciAddress | None) -> GraphicsDevice | None:
        """Return the device at `address`; None if there is none, or if it is one of `cards`."""
        return next((device for device in self.others if device.address == address), None)

    def only_other(self, driver: str) -> GraphicsDevice | None:
        """Return the only one of `others` that is made for an X driver; None if there are several, or none."""
        maker = _MAKERS_OF_DRIVERS.get(driver)
        found = [device for device in self.others if device.maker == maker and not device.unusable]
        return found[0] if len(found) == 1 else None

    def can_show(self, driver: str, address: PciAddress | None) -> bool:
        """Whether an X driver can show a screen on the device at `address`. True if that is not known."""
        if address in self.cards:
            return driver in ("", *_DRIVERS_OF_NVIDIA)
        if driver == "nvidia":
            return False
        other, maker = self.other_at(address), _MAKERS_OF_DRIVERS.get(driver)
        return other is None or maker is None or other.maker == maker


def graphics_devices(pci_folder: Path = PCI_FOLDER) -> list[GraphicsDevice]:
    """Return all graphics devices on the PCI bus, in the order of their addresses."""
    found = []
    for folder in pci_folder.glob("*:*:*.*"):
        kind = read_text_or_empty(folder / "class").strip()
        if not kind.startswith(_DISPLAY_CLASS):
            continue
        try:
            address = PciAddress.parse(folder.name)
        except InputError:
            continue
        vendor, driver = read_text_or_empty(folder / "vendor").strip().lower(), _graphics_kernel_driver(folder)
        found.append(
            GraphicsDevice(
                address=address,
                maker=_MAKERS.get(vendor, vendor or "unknown maker"),
                is_nvidia=vendor == _NVIDIA,
                is_vga=kind.startswith(_VGA_CLASS),
                is_boot_vga=read_text_or_empty(folder / "boot_vga").strip() == "1",
                kernel_driver=driver,
                has_modesetting=any(folder.glob("drm/card*")) or driver in _MODESETTING_DRIVERS,
                unusable=_unusable_device_reason(folder, driver),
            )
        )
    return sorted(found, key=lambda device: device.address)


def make_box(cards: Sequence[PciAddress], devices: Sequence[GraphicsDevice] = ()) -> Box:
    """Make the box of NVIDIA `cards`, without those that X cannot use. `devices` are all devices of the PCI bus."""
    unusable = {device.address for device in devices if device.unusable}
    usable = tuple(sorted({card for card in cards if card not in unusable}))
    others = tuple(device for device in devices if device.address not in usable)
    return Box(usable, _primary_graphics_device(usable, devices), others)


def _primary_graphics_device(cards: Sequence[PciAddress], devices: Sequence[GraphicsDevice]) -> PciAddress | None:
    """Return the address of the primary device: the boot VGA, the only VGA, or the first device; None without any."""
    usable = [device for device in devices if not device.unusable]
    choices = (
        [device.address for device in devices if device.is_boot_vga],
        [device.address for device in usable if device.is_vga] if sum(d.is_vga for d in usable) == 1 else [],
        sorted({*cards, *(device.address for device in usable)}),
    )
    return next((addresses[0] for addresses in choices if addresses), None)


def _unusable_device_reason(folder: Path, kernel_driver: str) -> str:
    """Return why X cannot use the device with this folder in sysfs; empty if X can use it."""
    if kernel_driver in _LENT_TO_GUESTS:
        return f"it is bound to {kernel_driver}, for a virtual machine"
    if (folder / "physfn").exists():
        return "it is a virtual function of another card"
    return ""


def _graphics_kernel_driver(device: Path) -> str:
    """Return the name of the kernel driver of the device with this folder in sysfs; empty if it has none."""
    try:
        return (device / "driver").readlink().name
    except OSError:
        return ""
