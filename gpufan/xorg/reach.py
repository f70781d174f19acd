"""Whether X can set the fans of each card with a configuration, and if not, why. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from gpufan.core.pci import PciAddress
from gpufan.errors import InputError
from gpufan.xorg.box import Box
from gpufan.xorg.config import Section
from gpufan.xorg.configuration import Configuration
from gpufan.xorg.coolbits import FANS_BIT, bits_of, deciding_coolbits
from gpufan.xorg.screens import NVIDIA, Fault, Server, bus_address, driver_of, primary
from gpufan.xorg.tokens import Statement, readable, same_name


class Obstacle(Enum):
    """Why X cannot set the fans of a card. The value is a sentence about the section `{name}` at `{place}`."""

    OTHER_DRIVER = '{place}: Device "{name}" gives it to another driver: change its Driver to "nvidia", or remove it'
    GPU_DEVICE = '{place}: Screen "{name}" has it as a GPUDevice, without an X screen of its own: remove that line'
    INACTIVE = '{place}: ServerLayout "{name}" declares it Inactive: remove that line'
    HIDDEN = '{place}: X ignores this Device, because an earlier one is called "{name}" too: rename it'
    OTHER_LAYOUT = (
        '{place}: ServerLayout "{name}" has it, which X uses only if it is started with -layout:'
        " name the layout to complete with --layout"
    )
    OTHER_SEAT = '{place}: Device "{name}" is for another seat, whose ServerLayout has no Screen for it: add one'
    FIRST_DRIVER = '{place}: Device "{name}" of the first X screen has no Driver, so X drops all others: add its Driver'
    TAKEN = '{place}: Device "{name}" is for it, but another Device has it first: remove one of them'
    WEAK = '{place}: Coolbits of "{name}" does not contain {bit}, with which fans are set'
    UNPLACED = "no X screen shows it"


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether X can set the fans of one card, and if not, why."""

    card: PciAddress
    obstacle: Obstacle | None
    """None if its fans can be set."""
    section: Section | None = None
    """The section that the obstacle is about."""
    entry: Statement | None = None
    """The entry of that section that the obstacle is about; None for all of it."""

    def __str__(self) -> str:
        if self.obstacle is None:
            return f"X can set the fans of {self.card}"
        place, name = "", ""
        if self.section is not None:
            file = self.section.file
            place = f"{file.name}:{file.line((self.entry or self.section).start)}"
            name = readable(self.section.name)
        reason = self.obstacle.value.format(place=place, name=name, bit=FANS_BIT)
        return f"X cannot set the fans of {self.card}: {reason}"


def reach_of_cards(
    configuration: Configuration, box: Box, servers: Sequence[Server], layout_is_chosen: bool
) -> list[Reach]:
    """Return the reach of each card. `layout_is_chosen`: the user has named the ServerLayout. Raises InputError."""
    devices = devices_of_cards(configuration, box, servers)
    reaches = []
    for card in box.cards:
        reach = _on_screens(configuration, card, servers) or _obstacle(
            configuration, box, card, devices[card], servers[0]
        )
        layout = None if layout_is_chosen else _other_layout(configuration, card, servers)
        if reach is None and layout is not None:
            reach = Reach(card, Obstacle.OTHER_LAYOUT, layout)
        reaches.append(reach or Reach(card, Obstacle.UNPLACED))
    return reaches


def devices_of_cards(
    configuration: Configuration, box: Box, servers: Sequence[Server]
) -> dict[PciAddress, list[Section]]:
    """Return the Devices that stand for each card, without those that X ignores.

    An NVIDIA Device that has no BusID, and of which X makes no use, counts for the first card without another Device.
    """
    devices = configuration.used("device")
    placed = {
        card: [x_screen.device for server in servers for x_screen in server.on_card(card) if x_screen.device]
        for card in box.cards
    }
    by_card = {card: [d for d in devices if _is_at(d, card) or d in placed[card]] for card in box.cards}
    working = [device for on_card in by_card.values() for device in on_card]
    loose = [d for d in devices if d not in working and d.value("busid") is None and driver_of(d) == NVIDIA]
    for device, card in zip(loose, [card for card in box.cards if not by_card[card]], strict=False):
        by_card[card].append(device)
    return by_card


def _on_screens(configuration: Configuration, card: PciAddress, servers: Sequence[Server]) -> Reach | None:
    """Return the reach of a card by its X screens; None if it has none."""
    screens = [x_screen for server in servers for x_screen in server.on_card(card)]
    for x_screen in screens:
        settings = deciding_coolbits(configuration, x_screen.screen, x_screen.device)
        if not settings.allow_fans:
            weak = next((s for s in (settings.setting, *settings.of_depths) if s and not bits_of(s) & FANS_BIT), None)
            return Reach(card, Obstacle.WEAK, weak.section if weak else x_screen.device)
    return Reach(card, None) if screens else None


def _obstacle(
    configuration: Configuration, box: Box, card: PciAddress, devices: Sequence[Section], server: Server
) -> Reach | None:
    """Return why the server cannot be given an X screen on a card; None if it can."""
    devices = [*devices, *_foreign_devices(configuration, box, card, server)]
    for device in devices:
        if driver_of(device) not in (NVIDIA, ""):
            return Reach(card, Obstacle.OTHER_DRIVER, device)
        if server.layout and (entry := _entry(server.layout, "inactive", device)):
            return Reach(card, Obstacle.INACTIVE, server.layout, entry)
        for x_screen in server.screens:
            if x_screen.screen and (entry := _entry(x_screen.screen, "gpudevice", device)):
                return Reach(card, Obstacle.GPU_DEVICE, x_screen.screen, entry)
        seat = device.value("matchseat")
        if seat is not None and same_name(seat.text) != same_name(server.seat):
            return Reach(card, Obstacle.OTHER_SEAT, device)
    if not devices:
        for hidden in configuration.of_kind("device"):
            if _is_at(hidden, card):
                return Reach(card, Obstacle.HIDDEN, hidden)
    for x_screen in server.screens:
        if x_screen.device and x_screen.address == card and x_screen.fault is Fault.TAKEN:
            return Reach(card, Obstacle.TAKEN, x_screen.device)
    first = server.screens[0]
    if first.is_automatic and first.device is not None and first.address != card:
        return Reach(card, Obstacle.FIRST_DRIVER, first.device)
    return None


def _foreign_devices(configuration: Configuration, box: Box, card: PciAddress, server: Server) -> list[Section]:
    """Return the Devices of other drivers that the server uses for a card, by BusID or because the card is primary."""
    in_use = [x_screen.device for x_screen in server.screens if x_screen.device and x_screen.address == card]
    for device in server.gpu_devices:
        if _is_at(device, card) or (device.value("busid") is None and card == primary(configuration, box)):
            in_use.append(device)
    return [d for d in in_use if driver_of(d) not in (NVIDIA, "") and box.can_show(driver_of(d), card)]


def _other_layout(configuration: Configuration, card: PciAddress, servers: Sequence[Server]) -> Section | None:
    """Return a ServerLayout that has the card, and that no server uses by itself."""
    used = [server.layout for server in servers]
    for layout in configuration.used("serverlayout"):
        if layout in used:
            continue
        for entry in layout.entries("screen"):
            screen = configuration.named("screen", entry.strings[0].text)
            name = screen.value("device") if screen else None
            device = configuration.named("device", name.text) if name else None
            if device is not None and _is_at(device, card):
                return layout
    return None


def _entry(section: Section, keyword: str, device: Section) -> Statement | None:
    """Return the entry of a section that names a Device."""
    entries = section.entries(keyword)
    return next((entry for entry in entries if same_name(entry.strings[0].text) == same_name(device.name)), None)


def _is_at(device: Section, card: PciAddress) -> bool:
    try:
        return bus_address(device) == card
    except InputError:
        return False
