"""The graphics devices of this machine ("the box") that X can use. They are read from sysfs; no device is opened."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpufan.core.pci import PciAddress
from gpufan.errors import InputError
from gpufan.system.files import read_text_or_empty
from gpufan.xorg.configuration import NVIDIA_DRM, Configuration
from gpufan.xorg.tokens import x_boolean

PCI_FOLDER = Path("/sys/bus/pci/devices")

NVIDIA_MODULE = "nvidia"
"""The kernel driver of NVIDIA."""

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
_LENT_TO_GUESTS = re.compile(r".*vfio[-_]pci|pci-stub|(xen-)?pciback")
"""Kernel drivers that reserve a card for a virtual machine."""
_MODESETTING_DRIVERS = {
    *("amdgpu", "ast", "bochs-drm", "cirrus", "cirrus-qemu", "gma500", "hibmc-drm", "i915", "mgag200"),
    *("nouveau", "qxl", "radeon", "virtio-pci", "vmwgfx", "xe"),
}
"""Kernel drivers of graphics devices on which the X driver `modesetting` works."""

_DRM_DRIVERS = {"virtio-pci": "virtio_gpu"}
"""The name that a kernel driver has as a DRM driver, where the names differ."""

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
"""The maker of the graphics devices for each X driver that is made for one maker. NVIDIA's driver is not listed."""


@dataclass(frozen=True, slots=True)
class GraphicsDevice:
    """A graphics device on the PCI bus."""

    address: PciAddress
    maker: str
    """Name of the maker. For a maker that is not in `_MAKERS`, the PCI number of the maker."""
    is_nvidia: bool
    is_vga: bool
    is_boot_vga: bool
    """Whether the firmware showed its messages on this device."""
    kernel_driver: str
    """Name of the kernel driver; empty if no driver is bound to the device."""
    has_drm: bool
    """Whether the kernel shows the device as a DRM device, which X needs for OutputClass sections."""
    unusable: str
    """Why an X server on this machine cannot use the device; empty if an X server can use the device."""

    def __str__(self) -> str:
        return f"{self.address} ({self.maker})"

    @property
    def has_modesetting(self) -> bool:
        """Whether the X driver `modesetting` works on the device."""
        return self.has_drm or self.kernel_driver in _MODESETTING_DRIVERS


@dataclass(frozen=True, slots=True)
class Box:
    """The graphics devices for which X is configured."""

    cards: tuple[PciAddress, ...]
    """The NVIDIA cards whose fans are to be set over X."""
    primary: PciAddress | None
    """Address of the primary device if no OutputClass chooses another device. None if the box has no device."""
    others: tuple[GraphicsDevice, ...] = ()
    """The graphics devices that are not in `cards`."""
    without_drm: frozenset[PciAddress] = frozenset()
    """Those of `cards` that are no DRM devices of NVIDIA's kernel driver. X may use no OutputClass for them."""
    lacks_x_driver: bool = False
    """Whether X finds no driver of NVIDIA in the ModulePath of the configuration."""

    def primary_under(self, configuration: Configuration) -> PciAddress | None:
        """Return the address of the primary device under `configuration`; None if the box has no device.

        X uses the primary device where no BusID is given. If OutputClass sections have the option PrimaryGPU, the
        primary device is the first device to which such a section applies.
        """
        drm_drivers = {card: NVIDIA_DRM for card in self.cards if card not in self.without_drm}
        for other in self.others:
            if other.has_drm:
                drm_drivers[other.address] = _DRM_DRIVERS.get(other.kernel_driver, other.kernel_driver)
        for address, drm_driver in sorted(drm_drivers.items()):
            for section in configuration.output_classes(drm_driver):
                option = section.option("primarygpu")
                if option and x_boolean(option.value.text if option.value else ""):
                    return address
        return self.primary

    def shown_under(self, configuration: Configuration) -> PciAddress | None:
        """Return the address of the device on which X shows a screen by itself under `configuration`.

        This is the primary device. If X cannot use the primary device, this is the usable device with the lowest
        address. Returns None if the box has no device.
        """
        primary = self.primary_under(configuration)
        other = self.other_at(primary)
        if other is None or not other.unusable:
            return primary
        return min([*self.cards, *(other.address for other in self.others if not other.unusable)], default=primary)

    def other_at(self, address: PciAddress | None) -> GraphicsDevice | None:
        """Return the device of `others` at `address`; None if `others` has no device there."""
        return next((device for device in self.others if device.address == address), None)

    def only_other(self, driver: str | None) -> GraphicsDevice | None:
        """Return the only usable device of `others` that the X driver `driver` is made for.

        Returns None if there are several such devices, or none.
        """
        maker = _MAKERS_OF_DRIVERS.get(driver or "")
        found = [device for device in self.others if device.maker == maker and not device.unusable]
        return found[0] if len(found) == 1 else None

    def can_show(self, driver: str | None, address: PciAddress | None) -> bool:
        """Whether the X driver `driver` can show a screen on the device at `address`.

        `driver` is None if X finds the driver by itself. Returns True if the answer is not known.
        """
        if address in self.cards:
            return driver in (None, *_DRIVERS_OF_NVIDIA)
        if driver in ("", "nvidia"):
            return False
        other, maker = self.other_at(address), _MAKERS_OF_DRIVERS.get(driver or "")
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
                has_drm=any(folder.glob("drm/card*")),
                unusable=_unusable_device_reason(folder, driver),
            )
        )
    return sorted(found, key=lambda device: device.address)


def make_box(cards: Sequence[PciAddress], devices: Sequence[GraphicsDevice] = ()) -> Box:
    """Make a Box of the NVIDIA cards `cards`, but leave out cards that X cannot use.

    If NVIDIA's kernel module drives some of the cards, those with another kernel driver or none are left out too. Else
    the module is not loaded yet. `devices` are all graphics devices on the PCI bus.
    """
    is_loaded = any(device.kernel_driver == NVIDIA_MODULE and device.address in cards for device in devices)
    unusable = {
        device.address for device in devices if device.unusable or (is_loaded and device.kernel_driver != NVIDIA_MODULE)
    }
    usable = tuple(sorted({card for card in cards if card not in unusable}))
    others = tuple(device for device in devices if device.address not in usable)
    of_drm = {device.address for device in devices if device.has_drm and device.kernel_driver == NVIDIA_MODULE}
    without_drm = frozenset({device.address for device in devices} & set(usable) - of_drm)
    return Box(usable, _primary_graphics_device(usable, devices), others, without_drm)


def _primary_graphics_device(cards: Sequence[PciAddress], devices: Sequence[GraphicsDevice]) -> PciAddress | None:
    """Return the address of the primary device; None if there is no device.

    The primary device is the device on which the firmware showed its messages. If there is no such device, the primary
    device is the only usable VGA device. If there are several usable VGA devices or none, the primary device is the
    usable device or card with the lowest address.
    """
    usable = [device for device in devices if not device.unusable]
    choices = (
        [device.address for device in devices if device.is_boot_vga],
        [device.address for device in usable if device.is_vga] if sum(d.is_vga for d in usable) == 1 else [],
        sorted({*cards, *(device.address for device in usable)}),
    )
    return next((addresses[0] for addresses in choices if addresses), None)


def _unusable_device_reason(folder: Path, kernel_driver: str) -> str:
    """Return the reason why X cannot use a device; empty if X can use the device.

    `folder` is the folder of the device in sysfs. `kernel_driver` is empty if the device has no kernel driver.
    """
    if _LENT_TO_GUESTS.fullmatch(kernel_driver):
        return f"it is bound to {kernel_driver}, for a virtual machine"
    if (folder / "physfn").exists():
        return "it is a virtual function of another card"
    return ""


def _graphics_kernel_driver(device: Path) -> str:
    """Return the name of the kernel driver of a device; empty if the device has no kernel driver.

    `device` is the folder of the device in sysfs.
    """
    try:
        return (device / "driver").readlink().name
    except OSError:
        return ""
