"""What an X server makes of a configuration: its layout, its X screens, and the graphics device that each gets.

The rules are those of the server, release 21.1. No I/O.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import chain

from gpufan.core.pci import PciAddress
from gpufan.errors import InputError
from gpufan.xorg.box import Box
from gpufan.xorg.config import Section
from gpufan.xorg.configuration import Configuration
from gpufan.xorg.coolbits import chosen_driver, output_classes
from gpufan.xorg.keywords import MAX_GPU_DEVICES
from gpufan.xorg.tokens import Statement, boolean, same_name

NVIDIA = "nvidia"


class Fault(Enum):
    """Why an X screen gets no graphics device."""

    NO_DRIVER = auto()
    """Its Device has no Driver. X finds a driver by itself only for its first X screen."""
    NO_BUS_ID = auto()
    """Its Device has no BusID, and the primary device is not for this driver."""
    NO_CARD = auto()
    """The device at its BusID is not for its driver."""
    TAKEN = auto()
    """Another Device has the same graphics device."""
    LOST = auto()
    """X drops all X screens after a first one whose driver it must find by itself."""


@dataclass(frozen=True, slots=True)
class XScreen:
    """An X screen of a server."""

    number: int
    screen: Section | None
    """None if X makes one up."""
    device: Section | None
    """None if X makes one up."""
    driver: str
    """Normalized; empty if X has to find it."""
    address: PciAddress | None
    """The device that its BusID means; without a BusID the primary one. None if the box has none."""
    fault: Fault | None = None

    @property
    def is_automatic(self) -> bool:
        """Whether X has to find its driver."""
        return not self.driver


@dataclass(frozen=True, slots=True)
class Server:
    """What one X server makes of a configuration."""

    seat: str
    layout: Section | None
    """None if the configuration has no ServerLayout for it."""
    screens: tuple[XScreen, ...]
    gpu_devices: tuple[Section, ...] = ()
    """Devices that only help the first X screen; they have no X screen of their own."""
    inactive: tuple[Section, ...] = ()

    def on_card(self, address: PciAddress) -> list[XScreen]:
        """Return the X screens that NVIDIA's driver shows on the card at `address`.

        A screen without a Device does not count: X finds its driver only if the kernel module is loaded before X.
        """
        found = [x_screen for x_screen in self.screens if x_screen.address == address and x_screen.device is not None]
        return [x_screen for x_screen in found if x_screen.fault is None and x_screen.driver == NVIDIA]


def make_servers(configuration: Configuration, box: Box, layout_name: str | None = None) -> list[Server]:
    """Return the X servers that the configuration is for: one for each seat, that of the default seat first.

    `layout_name` is the ServerLayout of the default seat; None lets X choose. Raises InputError for what X refuses.
    """
    first, *seats = configuration.seats()
    found = [make_server(configuration, box, first, layout_name)]
    # A seat that has no layout of its own has no server of its own.
    for seat in seats:
        layout = configuration.layout(seat)
        if layout is not None and layout.value("matchseat") is not None:
            found.append(make_server(configuration, box, seat))
    return found


def make_server(configuration: Configuration, box: Box, seat: str, layout_name: str | None = None) -> Server:
    """Return what the server of one seat makes of the configuration."""
    layout = configuration.layout(seat, layout_name)
    chosen: list[tuple[int, Section | None]] = []
    for place, entry in enumerate(layout.entries("screen") if layout else ()):
        number = int(entry.arguments[0].text) if _is_number(entry) else place
        chosen.append((number, configuration.named("screen", entry.strings[0].text)))
    if not chosen:
        chosen = [(0, next(configuration.suitable("screen", seat), None))]
    screens: list[XScreen] = []
    helpers: list[list[Section]] = []
    for number, screen in chosen:
        device = screen_device(configuration, screen, seat)
        # So X decides whether this is the only X screen.
        is_only = number == 0 and len(screens) + 1 == len(chosen)
        screens.append(XScreen(number, screen, device, driver_of(device), _address(configuration, box, device)))
        helpers.append(list(_gpu_devices(configuration, screen, device, seat if is_only else None)))
    inactive = [
        device
        for entry in (layout.entries("inactive") if layout else ())
        if (device := configuration.named("device", entry.strings[0].text))
    ]
    _claim(configuration, box, screens, helpers)
    return Server(seat, layout, tuple(screens), tuple(chain(*helpers)), tuple(inactive))


def primary(configuration: Configuration, box: Box) -> PciAddress | None:
    """Return the graphics device that X uses where no BusID is given."""
    for section in output_classes(configuration):
        option = section.option("primarygpu")
        if box.cards and option and boolean(option.value.text if option.value else ""):
            return box.cards[0]
    return box.primary


def bus_address(device: Section) -> PciAddress | None:
    """Return the address in the BusID of a Device; None without one. Raises InputError if it is not an address."""
    token = device.value("busid")
    if token is None or not token.text:
        return None
    try:
        return PciAddress.from_bus_id(token.text)
    except InputError as error:
        raise device.file.error(token.start, str(error)) from None


def screen_device(configuration: Configuration, screen: Section | None, seat: str) -> Section | None:
    """Return the Device of a Screen. Without one, or with one that does not exist, it is the first Device."""
    name = screen.value("device") if screen else None
    named = configuration.named("device", name.text) if name else None
    return named or next(configuration.suitable("device", seat), None)


def _gpu_devices(
    configuration: Configuration, screen: Section | None, device: Section | None, seat: str | None
) -> Iterator[Section]:
    """Return the GPUDevices of a Screen; if it has none, those that X adds to the only X screen of `seat`.

    `seat` is None for an X screen that is not the only one.
    """
    entries = screen.entries("gpudevice") if screen else []
    for entry in entries:
        if found := configuration.named("device", entry.strings[0].text):
            yield found
    if seat is not None and not entries:
        others = [other for other in configuration.suitable("device", seat) if other is not device]
        yield from others[:MAX_GPU_DEVICES]


def driver_of(device: Section | None) -> str:
    """Return the Driver of a Device, normalized; empty if it has none."""
    driver = device.value("driver") if device else None
    return same_name(driver.text) if driver else ""


def _address(configuration: Configuration, box: Box, device: Section | None) -> PciAddress | None:
    if device is None or device.value("busid") is None:
        return primary(configuration, box)
    try:
        return bus_address(device)
    except InputError:
        if driver_of(device) in (NVIDIA, ""):
            raise
        return None


def _claim(configuration: Configuration, box: Box, screens: list[XScreen], helpers: list[list[Section]]) -> None:
    """Give each X screen its graphics device: mark in `screens` those that get none."""
    if screens[0].is_automatic:
        if screens[0].address in box.cards:
            screens[0] = replace(screens[0], driver=chosen_driver(configuration))
        screens[1:] = [replace(x_screen, fault=Fault.LOST) for x_screen in screens[1:]]
    claimed: set[PciAddress] = set()
    for place, x_screen in enumerate(screens):
        if x_screen.fault is None:
            fault = _fault(box, x_screen, place > 0, claimed)
            screens[place] = replace(x_screen, fault=fault)
            if fault is None and x_screen.address is not None:
                claimed.add(x_screen.address)
        # X serves the GPUDevices of a Screen before the next Screen.
        claimed.update(
            address
            for device in helpers[place]
            if (address := _address(configuration, box, device)) and box.can_show(driver_of(device), address)
        )


def _fault(box: Box, x_screen: XScreen, follows: bool, claimed: set[PciAddress]) -> Fault | None:
    """Return why an X screen gets no graphics device; None if it gets one."""
    if follows and x_screen.is_automatic:
        return Fault.NO_DRIVER
    if not box.can_show(x_screen.driver, x_screen.address):
        has_bus_id = x_screen.device is not None and x_screen.device.value("busid") is not None
        return Fault.NO_CARD if has_bus_id else Fault.NO_BUS_ID
    if x_screen.address in claimed and (x_screen.device is None or _head_number(x_screen.device) == 0):
        return Fault.TAKEN
    return None


def _head_number(device: Section) -> int:
    """Return the number in the entry Screen of a Device: several Devices of one card have different numbers."""
    return next((int(entry.arguments[0].text) for entry in reversed(device.entries("screen")) if _is_number(entry)), 0)


def _is_number(entry: Statement) -> bool:
    first = entry.arguments[0]
    return first.kind == "number" and first.text.isdigit() and len(first.text) < 10
