"""Add Device sections, Screen sections and layout entries for cards without an X screen to a configuration. No I/O."""

from collections.abc import Sequence
from typing import NamedTuple

from gpufan.core.pci import PciAddress
from gpufan.system.resources import template
from gpufan.xorg.box import Box
from gpufan.xorg.config import ConfigFile, Section
from gpufan.xorg.configuration import Configuration
from gpufan.xorg.coolbits import output_class_coolbits
from gpufan.xorg.editor import Edits
from gpufan.xorg.keywords import MAX_SCREENS
from gpufan.xorg.reach import Obstacle, reach_of_cards
from gpufan.xorg.screens import NVIDIA, Fault, ServerScreens, devices_of_cards, screens_of_servers
from gpufan.xorg.tokens import normalized_name


class _NewDevice(NamedTuple):
    """A Device section to add. `options` are pairs of name and value."""

    identifier: str
    driver: str
    bus_id: str
    options: Sequence[tuple[str, str]]
    seat: str
    """The seat whose servers may use the Device although no Screen names it; empty if these are those of all seats."""


class _NewScreen(NamedTuple):
    """A Screen section to add. `device` is the name of its Device.

    `is_nvidia` says whether this Device has NVIDIA's driver.
    """

    identifier: str
    device: str
    is_nvidia: bool


def add_sections_for_cards(
    configuration: Configuration,
    box: Box,
    coolbits: int,
    monitor: Sequence[tuple[str, str]],
    layout_name: str | None,
) -> Configuration:
    """Add sections and layout entries for each card of `box` that has no X screen but can have one.

    Returns the new configuration. New sections are added to the main file. Each new Device for an NVIDIA card gets the
    option Coolbits with the bits `coolbits`, and the options `monitor`, which are pairs of name and value.
    `layout_name` is the ServerLayout to complete; if it is None, X chooses the layout. Raises InputError if X would
    refuse the configuration.
    """
    found = screens_of_servers(configuration, box, layout_name)
    reaches = reach_of_cards(configuration, box, found, layout_name is not None)
    missing = [reach.card for reach in reaches if reach.obstacle is Obstacle.UNPLACED]
    missing = missing[: MAX_SCREENS - len(found[0].screens)]
    if not missing:
        return configuration
    options = [("Coolbits", str(coolbits | output_class_coolbits(configuration))), *monitor]
    return _Additions(configuration, box, found, options).make(missing)


class _Additions:
    """Collects the new sections, and the changes of existing sections."""

    def __init__(
        self, configuration: Configuration, box: Box, found: Sequence[ServerScreens], options: Sequence[tuple[str, str]]
    ) -> None:
        self.configuration = configuration
        self.box = box
        self.server = found[0]
        self.others = found[1:]
        self.options = options
        self.edits = Edits(configuration)
        self.devices = devices_of_cards(configuration, box, found)
        self.adopted: PciAddress | None = None
        """The card that gets no new Screen, because the first Screen uses the Device of this card; else None."""
        # Without a seat, X on another seat would use a new Device as a GPUDevice.
        self.seat = self.server.seat if self.others else ""
        self.new_devices: list[_NewDevice] = []
        self.new_screens: list[_NewScreen] = []
        self.names = {
            kind: {normalized_name(section.name) for section in configuration.of_kind(kind)}
            for kind in ("device", "screen")
        }

    def make(self, missing: Sequence[PciAddress]) -> Configuration:
        """Add all sections for the cards `missing`, which have no X screen yet. Returns the new configuration."""
        present = self._present_screens(missing)
        added = []
        # The primary card first: X shows its first screen there.
        first = self.box.primary_under(self.configuration)
        for card in sorted(missing, key=lambda card: (card != first, card)):
            device = self._device(card)
            if screen := self._screen(card, device):
                added.append(screen)
        self._add_bus_ids()
        layout, names = self.server.layout, [*present, *added]
        # To a single X screen with the number 0, X would add the Devices of other seats as GPUDevices.
        number = int(bool(self.others) and len(names) == 1)
        if layout is not None:
            entries = layout.entries("screen")
            self._extend_layout(layout, names if not entries else added, number)
            names = []
        text = template("templates/xorg.conf.j2").render(
            new=not self._main.text,
            devices=self.new_devices,
            screens=self.new_screens,
            layout=names,
            number=number,
            layout_name=self.configuration.default_layout() or "gpufan",
        )
        self.edits.editor_of(self._main).append(text)
        return self.edits.apply()

    @property
    def _main(self) -> ConfigFile:
        """The file to which the new sections are added."""
        return next(file for file in self.configuration.files if file.name == self.configuration.main)

    def _present_screens(self, missing: Sequence[PciAddress]) -> list[str]:
        """Return a list with one name: that of the Screen for the server's first X screen.

        The caller adds this Screen to the layout. If X made the first X screen without a Screen or a Device, add the
        missing section.

        The list is empty if another seat has the graphics device. The list is also empty if the X screen has neither a
        Screen nor a Device, and its graphics device is not one of `box.others` that works with the X driver
        modesetting. `missing` are the cards without an X screen.
        """
        first = self.server.screens[0]
        if first.address is not None and any(server.has(first.address) for server in self.others):
            return []
        other = self.box.other_at(first.address)
        device_name = first.device.name if first.device else ""
        if first.device is None and other is not None and not other.unusable and other.has_modesetting:
            device_name = self._free_name("device", f"{other.maker} {other.address}")
            self.new_devices.append(_NewDevice(device_name, "modesetting", other.address.xorg, (), self.seat))
        elif first.device is None:
            if first.screen is None:
                return []
            # A Screen that names no Device has the first one.
            self.adopted = next((card for card in missing if card == first.address), missing[0])
            self._device(self.adopted)
        if first.screen is not None:
            return [first.screen.name]
        name = self._free_name("screen", "Screen 0")
        self.new_screens.append(_NewScreen(name, device_name, first.driver == NVIDIA))
        return [name]

    def _device(self, card: PciAddress) -> str:
        """Return the name of the Device of `card`. If the card has no Device, add a Device.

        If the Device has no BusID, add it.
        """
        for device in self.devices[card][:1]:
            if device.bus_id is None:
                self.edits.add_entry(device, f'BusID "{card.xorg}"')
            return device.name
        for new in self.new_devices:
            if new.bus_id == card.xorg:
                return new.identifier
        name = self._free_name("device", f"NVIDIA {card}")
        self.new_devices.append(_NewDevice(name, NVIDIA, card.xorg, self.options, self.seat))
        return name

    def _screen(self, card: PciAddress, device: str) -> str | None:
        """Return the name of a Screen for `card`, which the caller adds to the layout.

        Returns None for the card `adopted`, because the first Screen shows this card. `device` is the name of the
        card's Device. If no unused Screen has this Device, create a Screen.
        """
        if card == self.adopted:
            return None
        listed = [x_screen.screen for server in (self.server, *self.others) for x_screen in server.screens]
        for screen in self.configuration.used("screen"):
            own = self.configuration.device_of_screen(screen, self.server.seat)
            if screen not in listed and own is not None and normalized_name(own.name) == normalized_name(device):
                return screen.name
        name = self._free_name("screen", f"Screen {card}")
        self.new_screens.append(_NewScreen(name, device, True))
        return name

    def _add_bus_ids(self) -> None:
        """Add the BusID to the Device of each X screen, where it is missing and known.

        X needs it for a card as soon as there are several Devices, and for a GPU of another maker if X cannot use the
        primary device. The next planning round adds a missing Driver.
        """
        others = {None, self.box.primary_under(self.configuration)} - {*self.box.cards}
        for x_screen in self.server.screens:
            if x_screen.device is None:
                continue
            address = x_screen.address if x_screen.fault is None and x_screen.address not in others else None
            if x_screen.fault is Fault.NO_BUS_ID and (other := self.box.only_other(x_screen.driver)):
                address = other.address
            if address is not None and x_screen.device.bus_id is None:
                self.edits.add_entry(x_screen.device, f'BusID "{address.xorg}"')

    def _extend_layout(self, layout: Section, names: Sequence[str], number: int) -> None:
        """Add the Screens `names` to `layout`, to the right of a Screen that has none to its right yet.

        The new Screens get numbers if the layout numbers its Screens. If the layout has no Screen yet, the numbers
        begin with `number`.
        """
        entries = layout.entries("screen")
        is_numbered = any(entry.arguments[0].kind == "number" for entry in entries)
        if entries:
            number = max(x_screen.number for x_screen in self.server.screens) + 1
        previous = _screen_with_free_side(layout)
        for name in names:
            entry = f'Screen {number} "{name}"' if is_numbered or not entries else f'Screen "{name}"'
            if previous is not None:
                entry += f' RightOf "{previous}"'
            self.edits.add_entry(layout, entry)
            number, previous = number + 1, name

    def _free_name(self, kind: str, name: str) -> str:
        """Return a name for a new section of this kind, and reserve the name.

        The result is `name`, or `name` with a number if another section has this name.
        """
        free, number = name, 1
        while normalized_name(free) in self.names[kind]:
            number += 1
            free = f"{name} #{number}"
        self.names[kind].add(normalized_name(free))
        return free


def _screen_with_free_side(layout: Section) -> str | None:
    """Return the name of the last Screen in `layout` with no other Screen on its right.

    If there is none, return the name of the last Screen. If the layout has no Screens, return None.
    """
    names: list[str] = []
    taken: set[str] = set()
    for entry in layout.statements:
        if entry.keyword == "screen":
            names.append(entry.strings[0].text)
            # The old form has the Screens above, below, on the left and on the right.
            _, _, left, right = ([token.text for token in entry.strings[1:]] or [""] * 4)[:4]
            taken.update(normalized_name(name) for name in (left, names[-1] if right else ""))
        elif entry.keyword == "rightof":
            taken.add(normalized_name(entry.strings[0].text))
        elif entry.keyword == "leftof":
            taken.add(normalized_name(names[-1]))
    free = [name for name in names if normalized_name(name) not in taken]
    return next(reversed(free or names), None)
