"""Find the X screens that an X server makes from a configuration, with the Device and graphics device of each.

The rules are those of the server, release 21.1. No I/O.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import chain

from gpufan.core.pci import PciAddress
from gpufan.errors import InputError
from gpufan.xorg.box import Box
from gpufan.xorg.config import Section
from gpufan.xorg.configuration import DEFAULT_SEAT, Configuration
from gpufan.xorg.keywords import MAX_GPU_DEVICES
from gpufan.xorg.tokens import Statement, x_boolean
from gpufan.xorg.values import leading_number

NVIDIA = "nvidia"

_DRIVERS_WITHOUT_DEVICE = {"dummy"}
"""X drivers that need no graphics device. The dummy driver is used for VNC."""

_ISOLATED_DEVICE = re.compile(r"PCI:\s*[+-]?[0-9]+:\s*[+-]?[0-9]+:\s*[+-]?[0-9]+")


class Fault(Enum):
    """Why an X screen gets no graphics device."""

    NO_DRIVER = auto()
    """The Device of the X screen has no Driver. X finds a driver by itself only for the first X screen."""
    NO_BUS_ID = auto()
    """The Device of the X screen has no BusID, and the driver of the X screen cannot use the primary device."""
    NO_CARD = auto()
    """The driver of the X screen cannot use the graphics device at the BusID."""
    TAKEN = auto()
    """Another Device already uses the same graphics device."""
    LOST = auto()
    """The X screen is not the first one, and X drops it: X must find the driver of the first X screen by itself."""


@dataclass(frozen=True, slots=True)
class XScreen:
    """An X screen of a server."""

    number: int
    screen: Section | None
    """The Screen section; None if X makes the X screen without a Screen section."""
    device: Section | None
    """The Device section; None if X finds the graphics device without a Device section."""
    driver: str | None
    """Name of the X driver, normalized; None if X must find the driver itself."""
    address: PciAddress | None
    """The address in the BusID; without a BusID, the address of the primary device.

    None if the address is not known, for example because the box has no device.
    """
    fault: Fault | None = None
    """Why the X screen gets no graphics device; None if the X screen gets a graphics device."""

    @property
    def is_automatic(self) -> bool:
        """Whether X must find the driver of the screen itself."""
        return self.driver is None


@dataclass(frozen=True, slots=True)
class ServerScreens:
    """The layout and the X screens of one X server."""

    seat: str
    layout: Section | None
    """The ServerLayout of the server; None if the configuration has no ServerLayout for the server."""
    screens: tuple[XScreen, ...]
    gpu_devices: tuple[Section, ...] = ()
    """The Devices that X screens use as GPUDevices. These Devices have no X screen of their own."""
    inactive: tuple[Section, ...] = ()
    """The Devices that the layout declares Inactive."""

    @property
    def has_own_layout(self) -> bool:
        """Whether the ServerLayout of the server is only for its seat."""
        return self.layout is not None and self.layout.value("matchseat") is not None

    def has(self, address: PciAddress) -> bool:
        """Whether the server shows an X screen at `address`, by the BusID of a Device or with NVIDIA's driver.

        X screens of other Devices without BusID are left out: only on the default seat, they use the primary device.
        """
        devices = [x_screen.device for x_screen in self.screens if x_screen.fault is None and x_screen.device]
        return any(device.address == address for device in devices) or bool(self.on_card(address))

    def on_card(self, address: PciAddress) -> list[XScreen]:
        """Return the X screens that NVIDIA's driver shows on the card at `address`.

        X screens without a Device are left out. X finds the driver for them only if the kernel module is loaded before
        X starts.
        """
        found = [x_screen for x_screen in self.screens if x_screen.address == address and x_screen.device is not None]
        return [x_screen for x_screen in found if x_screen.fault is None and x_screen.driver == NVIDIA]


def screens_of_servers(configuration: Configuration, box: Box, layout_name: str | None = None) -> list[ServerScreens]:
    """Return the X screens of each X server. The server of the default seat comes first.

    Each other seat with a ServerLayout of its own has one more server. `layout_name` is the ServerLayout of the default
    seat. If it is None, X chooses the ServerLayout. Raises InputError if X would refuse the configuration.
    """
    first, *others = screens_of_seats(configuration, box, layout_name)
    # A seat that has no layout of its own has no server of its own.
    return [first, *(server for server in others if server.has_own_layout)]


def screens_of_seats(configuration: Configuration, box: Box, layout_name: str | None = None) -> list[ServerScreens]:
    """Return the X screens of a server on each seat that sections name. The default seat comes first.

    A seat without a ServerLayout of its own is included: X chooses the sections for it as for every other seat.
    `layout_name` is the ServerLayout of the default seat. If it is None, X chooses the ServerLayout. Raises InputError
    if X would refuse the configuration.
    """
    first, *seats = configuration.seats()
    servers = [_screens_of_server(configuration, box, first, layout_name)]
    return servers + [_screens_of_server(configuration, box, seat) for seat in seats]


def seat_option_matters(configuration: Configuration, box: Box, layout_name: str | None = None) -> bool:
    """Whether X makes other X screens of the default seat if it is started without the option -seat.

    `layout_name` is the ServerLayout of the server. If it is None, X chooses the ServerLayout.
    """
    try:
        without_option = _screens_of_server(configuration, box, "", layout_name)
    except InputError:  # the ServerLayout is only for the seat
        return True
    with_option = _screens_of_server(configuration, box, DEFAULT_SEAT, layout_name)
    return without_option.screens != with_option.screens


def _screens_of_server(
    configuration: Configuration, box: Box, seat: str, layout_name: str | None = None
) -> ServerScreens:
    """Return the X screens of the X server of one seat. `layout_name` is the ServerLayout of the server.

    If it is None, X chooses the ServerLayout. Raises InputError if X would refuse the configuration.
    """
    layout = configuration.layout(seat, layout_name)
    chosen: list[tuple[int, Section | None]] = []
    for place, entry in enumerate(layout.entries("screen") if layout else ()):
        number = _number_in_entry(entry, place)
        chosen.append((number if number >= 0 else place, configuration.named("screen", entry.strings[0].text)))
    if not chosen:
        chosen = [(0, next(configuration.suitable("screen", seat), None))]
    for _, screen in chosen:
        if screen is not None:
            configuration.check_gamma(screen)
    screens: list[XScreen] = []
    helpers: list[list[Section]] = []
    for number, screen in chosen:
        device = configuration.device_of_screen(screen, seat)
        # So X decides whether this is the only X screen.
        is_only = number == 0 and len(screens) + 1 == len(chosen)
        screens.append(
            XScreen(
                number, screen, device, device.driver if device else None, _screen_address(configuration, box, device)
            )
        )
        helpers.append(list(_gpu_devices_of_screen(configuration, screen, device, seat if is_only else None)))
    if layout is not None:
        _check_isolated_device(layout, screens[0].device)
    inactive = [
        device
        for entry in (layout.entries("inactive") if layout else ())
        if (device := configuration.named("device", entry.strings[0].text))
    ]
    _assign_devices_to_screens(configuration, box, screens, helpers)
    return ServerScreens(seat, layout, tuple(screens), tuple(chain(*helpers)), tuple(inactive))


def _check_isolated_device(layout: Section, device: Section | None) -> None:
    """Raise InputError if X ends because of the option IsolateDevice or SingleCard of `layout`.

    `device` is the Device of the first X screen; None if it has no Device.
    """
    option, single = layout.option("isolatedevice"), layout.option("singlecard")
    token = option.value if option else None
    if single and not (token and token.text) and x_boolean(single.value.text if single.value else ""):
        if device is None:
            raise layout.file.error(single.name.start, "X crashes with SingleCard if the first Screen has no Device")
        option, token = single, device.bus_id
    if option and token and token.text.startswith("PCI:") and not _ISOLATED_DEVICE.match(token.text):
        problem = f'X refuses to isolate "{token.shown}": write it without @, for example PCI:10:0:0'
        raise layout.file.error(option.name.start, problem)


def devices_of_cards(
    configuration: Configuration, box: Box, servers: Sequence[ServerScreens]
) -> dict[PciAddress, list[Section]]:
    """Return the Devices that belong to each card. Devices that X ignores are left out.

    If a Device with NVIDIA's driver has no BusID and X does not use the Device, it belongs to the first card that has
    no Device yet.
    """
    devices = configuration.used("device")
    placed = {
        card: [x_screen.device for server in servers for x_screen in server.on_card(card) if x_screen.device]
        for card in box.cards
    }
    by_card = {card: [d for d in devices if d.address == card or d in placed[card]] for card in box.cards}
    working = [device for on_card in by_card.values() for device in on_card]
    loose = [d for d in devices if d not in working and d.bus_id is None and d.driver == NVIDIA]
    for device, card in zip(loose, [card for card in box.cards if not by_card[card]], strict=False):
        by_card[card].append(device)
    return by_card


def _gpu_devices_of_screen(
    configuration: Configuration, screen: Section | None, device: Section | None, seat: str | None
) -> Iterator[Section]:
    """Return the GPUDevices of an X screen with the sections `screen` and `device`.

    They are the Devices that `screen` names as GPUDevice. If `screen` names none, they are the other Devices for
    `seat`, which X adds to a single X screen. `seat` is None if X adds no Devices, for example because there are
    several X screens.
    """
    entries = screen.entries("gpudevice") if screen else []
    for entry in entries:
        if found := configuration.named("device", entry.strings[0].text):
            yield found
    if seat is not None and not entries:
        others = [other for other in configuration.suitable("device", seat) if other is not device]
        yield from others[:MAX_GPU_DEVICES]


def _screen_address(configuration: Configuration, box: Box, device: Section | None) -> PciAddress | None:
    """Return the address of the graphics device on which X shows an X screen with the section `device`.

    This is the address in the BusID. Without a BusID, this is the primary device; if X cannot use the primary device,
    drivers other than NVIDIA's use another one. Returns None if the box has no device, if X finds no PCI device with
    the BusID, or if the driver of `device` needs no graphics device.
    """
    if device is None:
        return box.shown_under(configuration)
    if device.driver in _DRIVERS_WITHOUT_DEVICE:
        return None
    if device.bus_id is not None:
        return device.address
    return box.primary_under(configuration) if device.driver == NVIDIA else box.shown_under(configuration)


def _assign_devices_to_screens(
    configuration: Configuration, box: Box, screens: list[XScreen], helpers: list[list[Section]]
) -> None:
    """Decide as X does which X screen gets which graphics device.

    If an X screen gets none, replace this X screen in `screens` by a copy with the fault. `helpers` are the GPUDevices
    of each X screen.
    """
    if screens[0].is_automatic:
        if screens[0].address in box.cards and screens[0].address not in box.without_drm:
            screens[0] = replace(screens[0], driver=configuration.output_class_driver())
        screens[1:] = [replace(x_screen, fault=Fault.LOST) for x_screen in screens[1:]]
    claimed: set[PciAddress] = set()
    for place, x_screen in enumerate(screens):
        if x_screen.fault is None:
            fault = _screen_fault(box, x_screen, place > 0, claimed)
            screens[place] = replace(x_screen, fault=fault)
            if fault is None and x_screen.address is not None:
                claimed.add(x_screen.address)
        # X serves the GPUDevices of a Screen before the next Screen.
        claimed.update(
            address
            for device in helpers[place]
            if (address := _screen_address(configuration, box, device)) and box.can_show(device.driver, address)
        )


def _screen_fault(box: Box, x_screen: XScreen, follows: bool, claimed: set[PciAddress]) -> Fault | None:
    """Return why an X screen gets no graphics device; None if the X screen gets a graphics device.

    `follows` says whether another X screen comes before this one. `claimed` are the addresses of graphics devices that
    are already in use.
    """
    if follows and x_screen.is_automatic:
        return Fault.NO_DRIVER
    if not box.can_show(x_screen.driver, x_screen.address):
        has_bus_id = x_screen.device is not None and x_screen.device.bus_id is not None
        return Fault.NO_CARD if has_bus_id else Fault.NO_BUS_ID
    if x_screen.address in claimed and (x_screen.device is None or _screen_number_in_device(x_screen.device) == 0):
        return Fault.TAKEN
    return None


def _screen_number_in_device(device: Section) -> int:
    """Return the number in the entry Screen of a Device; 0 if there is no such entry.

    This number distinguishes several Devices of one card.
    """
    return next((_number_in_entry(entry, 0) for entry in reversed(device.entries("screen"))), 0)


def _number_in_entry(entry: Statement, default: int) -> int:
    """Return the first argument of an entry Screen if it is a number, else `default`."""
    first = entry.arguments[0]
    return leading_number(first.text)[0] if first.kind == "number" else default
