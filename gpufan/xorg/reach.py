"""Find out for each card whether X can set its fans with a configuration. If X cannot, name the obstacle. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from gpufan.core.pci import PciAddress
from gpufan.xorg.box import Box
from gpufan.xorg.config import Section
from gpufan.xorg.configuration import Configuration
from gpufan.xorg.coolbits import FANS_BIT, deciding_coolbits
from gpufan.xorg.keywords import MAX_SCREENS
from gpufan.xorg.screens import NVIDIA, Fault, ServerScreens, devices_of_cards
from gpufan.xorg.tokens import Statement, normalized_name
from gpufan.xorg.values import leading_number

_DEPTHS = {8, 15, 16, 24, 30}
"""The colour depths of X screens that NVIDIA's driver supports."""


class Obstacle(Enum):
    """Why X cannot set the fans of a card. The value is a text for the user.

    In the value, `{name}` is the name of the section that is the obstacle, and `{place}` is its file and line. `{bit}`
    is FANS_BIT. `{most}` is MAX_SCREENS.
    """

    OTHER_DRIVER = '{place}: Device "{name}" gives it to another driver: change its Driver to "nvidia", or remove it'
    GPU_DEVICE = '{place}: Screen "{name}" has it as a GPUDevice, without an X screen of its own: remove that line'
    INACTIVE = '{place}: ServerLayout "{name}" declares it Inactive: remove that line'
    HIDDEN = '{place}: X ignores this Device, because an earlier one is called "{name}" too: rename it'
    OTHER_LAYOUT = (
        '{place}: ServerLayout "{name}" has it, which X uses only if it is started with -layout:'
        " name the layout to complete with --layout"
    )
    OTHER_SEAT = '{place}: "{name}" is for another seat, whose ServerLayout has no Screen for it: add one'
    FIRST_DRIVER = '{place}: Device "{name}" of the first X screen has no Driver, so X drops all others: add its Driver'
    TAKEN = '{place}: Device "{name}" is for it, but another Device has it first: remove one of them'
    WEAK = '{place}: Coolbits of "{name}" does not contain {bit}, with which fans are set'
    DEPTH = '{place}: NVIDIA\'s driver has no such colour depth, so it does not start Screen "{name}": use 24'
    NO_X_DRIVER = (
        "{place}: X looks for drivers only in this ModulePath, which has no nvidia_drv.so: correct or remove it"
    )
    NO_SCREEN_LEFT = "X has {most} X screens at most"
    UNPLACED = "no X screen shows it"


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether X can set the fans of one card, and if not, why."""

    card: PciAddress
    obstacle: Obstacle | None
    """Why X cannot set the fans of the card; None if X can set the fans."""
    section: Section | None = None
    """The section that the obstacle is about; None if there is no obstacle, or none in a section."""
    entry: Statement | None = None
    """The entry in `section` that the obstacle is about; None if the obstacle is about the whole section."""

    def __str__(self) -> str:
        if self.obstacle is None:
            return f"X can set the fans of {self.card}"
        place, name = "", ""
        if self.section is not None:
            place = self.section.file.place((self.entry or self.section).start)
            name = self.section.shown
        reason = self.obstacle.value.format(place=place, name=name, bit=FANS_BIT, most=MAX_SCREENS)
        return f"X cannot set the fans of {self.card}: {reason}"


def reach_of_cards(
    configuration: Configuration, box: Box, servers: Sequence[ServerScreens], layout_is_chosen: bool
) -> list[Reach]:
    """Return a Reach for each card of `box`: whether X can set the fans of the card, or why not.

    `servers` are the X servers with their X screens. `layout_is_chosen` says whether the user has named the
    ServerLayout.
    """
    if box.lacks_x_driver and (found := configuration.module_path()):
        return [Reach(card, Obstacle.NO_X_DRIVER, found[0], found[1][0]) for card in box.cards]
    devices = devices_of_cards(configuration, box, servers)
    reaches = []
    for card in box.cards:
        reach = _reach_by_screens(configuration, box, card, servers) or _obstacle(
            configuration, box, card, devices[card], servers[0]
        )
        if reach is None and not layout_is_chosen:
            reach = _other_layout_obstacle(configuration, card, servers)
        reaches.append(reach or Reach(card, Obstacle.UNPLACED))
    return reaches


def _reach_by_screens(
    configuration: Configuration, box: Box, card: PciAddress, servers: Sequence[ServerScreens]
) -> Reach | None:
    """Return the reach of a card that has an X screen; None if the card has no X screen."""
    screens = [x_screen for server in servers for x_screen in server.on_card(card)]
    for x_screen in screens:
        if x_screen.screen and (depth := _unknown_depth(x_screen.screen)):
            return Reach(card, Obstacle.DEPTH, x_screen.screen, depth)
        settings = deciding_coolbits(configuration, x_screen.screen, x_screen.device)
        if weak := settings.without_fans:
            return Reach(card, Obstacle.WEAK, weak[0].section)
        if settings.setting is None or (settings.is_of_output_class and card in box.without_drm):
            return Reach(card, Obstacle.WEAK, x_screen.device)
    return Reach(card, None) if screens else None


def _unknown_depth(screen: Section) -> Statement | None:
    """Return the entry with the default colour depth of `screen` if NVIDIA's driver does not support it, else None."""
    keywords = "defaultdepth", "defaultcolordepth"
    last = [entry for entry in screen.statements if entry.keyword in keywords and entry.block < 0][-1:]
    for entry in last:
        depth = leading_number(entry.arguments[0].text)[0]
        if depth > 0 and depth not in _DEPTHS:
            return entry
    return None


def _obstacle(
    configuration: Configuration, box: Box, card: PciAddress, devices: Sequence[Section], server: ServerScreens
) -> Reach | None:
    """Return the reach of a card that cannot get a new X screen, with the obstacle.

    Returns None if the server can show a new X screen on the card. `devices` are the Devices that belong to the card.
    """
    devices = [*devices, *_obstacle_devices(configuration, box, card, server)]
    for device in devices:
        if device.driver not in (NVIDIA, "", None):
            return Reach(card, Obstacle.OTHER_DRIVER, device)
        if server.layout and (entry := server.layout.entry_naming("inactive", device.name)):
            return Reach(card, Obstacle.INACTIVE, server.layout, entry)
        for x_screen in server.screens:
            if x_screen.screen and (entry := x_screen.screen.entry_naming("gpudevice", device.name)):
                return Reach(card, Obstacle.GPU_DEVICE, x_screen.screen, entry)
        screens = [s for s in configuration.used("screen") if configuration.device_of_screen(s, server.seat) is device]
        for sections in ([device], screens):
            if sections and all(_is_for_other_seat(section, server.seat) for section in sections):
                return Reach(card, Obstacle.OTHER_SEAT, sections[0])
    if not devices:
        for hidden in configuration.of_kind("device"):
            if hidden.address == card:
                return Reach(card, Obstacle.HIDDEN, hidden)
    for x_screen in server.screens:
        if x_screen.device and x_screen.address == card and x_screen.fault is Fault.TAKEN:
            return Reach(card, Obstacle.TAKEN, x_screen.device)
    first = server.screens[0]
    if first.is_automatic and first.device is not None and first.address != card:
        return Reach(card, Obstacle.FIRST_DRIVER, first.device)
    return Reach(card, Obstacle.NO_SCREEN_LEFT) if len(server.screens) >= MAX_SCREENS else None


def _is_for_other_seat(section: Section, seat: str) -> bool:
    """Whether the MatchSeat of `section` is another seat than `seat`."""
    wanted = section.value("matchseat")
    return wanted is not None and normalized_name(wanted.text) != normalized_name(seat)


def _obstacle_devices(configuration: Configuration, box: Box, card: PciAddress, server: ServerScreens) -> list[Section]:
    """Return the Devices with which the server `server` gives `card` to an X driver other than NVIDIA's."""
    in_use = [x_screen.device for x_screen in server.screens if x_screen.device and x_screen.address == card]
    for device in server.gpu_devices:
        if device.address == card or (device.bus_id is None and card == box.primary_under(configuration)):
            in_use.append(device)
    return [d for d in in_use if d.driver not in (NVIDIA, "", None) and box.can_show(d.driver, card)]


def _other_layout_obstacle(
    configuration: Configuration, card: PciAddress, servers: Sequence[ServerScreens]
) -> Reach | None:
    """Return a Reach with OTHER_LAYOUT if an unused ServerLayout has a Screen for `card`; else None.

    A ServerLayout is unused if no server in `servers` uses it.
    """
    used = [server.layout for server in servers]
    for layout in configuration.used("serverlayout"):
        if layout in used:
            continue
        for entry in layout.entries("screen"):
            screen = configuration.named("screen", entry.strings[0].text)
            name = screen.value("device") if screen else None
            device = configuration.named("device", name.text) if name else None
            if device is not None and device.address == card:
                return Reach(card, Obstacle.OTHER_LAYOUT, layout)
    return None
