"""The graphics devices of the box, as far as the choices of the X server depend on them: sysfs, without opening one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpufan.core.pci import PciAddress
from gpufan.errors import InputError

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
    """Whether the firmware showed its messages on it."""
    kernel_driver: str
    """Empty if no driver is bound."""
    has_modesetting: bool
    """Whether the X driver `modesetting` works on it."""
    unusable: str
    """Why an X server of this box cannot have it; empty if it can."""

    def __str__(self) -> str:
        return f"{self.address} ({self.maker})"


@dataclass(frozen=True, slots=True)
class Box:
    """The graphics devices for which X is configured."""

    cards: tuple[PciAddress, ...]
    """NVIDIA cards whose fans X has to set."""
    primary: PciAddress | None
    """The device that X uses where no BusID is given; None if the box has none."""
    others: tuple[GraphicsDevice, ...] = ()
    """Devices other than `cards`."""

    def other_at(self, address: PciAddress | None) -> GraphicsDevice | None:
        """Return the device at `address` if it is none of the cards."""
        return next((device for device in self.others if device.address == address), None)

    def only_other(self, driver: str) -> GraphicsDevice | None:
        """Return the only device that an X driver is for; None if there are several, or none."""
        maker = _MAKERS_OF_DRIVERS.get(driver)
        found = [device for device in self.others if device.maker == maker and not device.unusable]
        return found[0] if len(found) == 1 else None

    def can_show(self, driver: str, address: PciAddress | None) -> bool:
        """Whether an X driver can show a screen on the device at `address`. Where it is not known, it is assumed."""
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
        kind = _text(folder / "class")
        if not kind.startswith(_DISPLAY_CLASS):
            continue
        try:
            address = PciAddress.parse(folder.name)
        except InputError:
            continue
        vendor, driver = _text(folder / "vendor").lower(), _link_name(folder / "driver")
        found.append(
            GraphicsDevice(
                address=address,
                maker=_MAKERS.get(vendor, vendor or "unknown maker"),
                is_nvidia=vendor == _NVIDIA,
                is_vga=kind.startswith(_VGA_CLASS),
                is_boot_vga=_text(folder / "boot_vga") == "1",
                kernel_driver=driver,
                has_modesetting=any(folder.glob("drm/card*")) or driver in _MODESETTING_DRIVERS,
                unusable=_unusable_reason(folder, driver),
            )
        )
    return sorted(found, key=lambda device: device.address)


def make_box(cards: Sequence[PciAddress], devices: Sequence[GraphicsDevice] = ()) -> Box:
    """Make the box of NVIDIA `cards`, without those that X cannot have; `devices` are all devices of the PCI bus."""
    unusable = {device.address for device in devices if device.unusable}
    usable = tuple(sorted({card for card in cards if card not in unusable}))
    others = tuple(device for device in devices if device.address not in usable)
    return Box(usable, _primary(usable, devices), others)


def _primary(cards: Sequence[PciAddress], devices: Sequence[GraphicsDevice]) -> PciAddress | None:
    """Return the device that X treats as primary: the boot VGA, the only VGA, or the first one."""
    usable = [device for device in devices if not device.unusable]
    choices = (
        [device.address for device in devices if device.is_boot_vga],
        [device.address for device in usable if device.is_vga] if sum(d.is_vga for d in usable) == 1 else [],
        sorted({*cards, *(device.address for device in usable)}),
    )
    return next((addresses[0] for addresses in choices if addresses), None)


def _unusable_reason(folder: Path, driver: str) -> str:
    if driver in _LENT_TO_GUESTS:
        return f"it is bound to {driver}, for a virtual machine"
    if (folder / "physfn").exists():
        return "it is a virtual function of another card"
    return ""


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def _link_name(link: Path) -> str:
    try:
        return link.readlink().name
    except OSError:
        return ""
