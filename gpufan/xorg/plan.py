"""Plan the smallest change of a configuration with which X can set the fans of every NVIDIA card. No I/O.

Each card then has a Device with NVIDIA's driver and Coolbits, and an X screen in the layout. What X uses before the
change, it uses after it too; an exception is named in `Plan.losses`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from gpufan.core.pci import PciAddress
from gpufan.xorg.additions import place_cards
from gpufan.xorg.box import Box
from gpufan.xorg.config import Section
from gpufan.xorg.configuration import Configuration
from gpufan.xorg.coolbits import FANS_BIT, Setting, bits_of, chosen_driver, deciding_coolbits, with_bits
from gpufan.xorg.editor import Edits
from gpufan.xorg.reach import Reach, reach_of_cards
from gpufan.xorg.screens import NVIDIA, Fault, Server, XScreen, bus_address, driver_of, make_servers, primary
from gpufan.xorg.tokens import readable, same_name

_ROUNDS = 5
"""Limit of the rounds. In the first one everything is done, unless an X screen appears that X has dropped before."""


class Wanted(NamedTuple):
    """The options that every NVIDIA Device needs."""

    coolbits: int = FANS_BIT
    """Bits to set; 4 is control of fans."""
    edid: str | None = None
    """Absolute path of the EDID file of a pretended monitor; None for no such monitor."""
    layout: str | None = None
    """Name of the ServerLayout to complete; None for the one that X uses."""

    @property
    def monitor(self) -> tuple[tuple[str, str], ...]:
        """Names and values of the options of the pretended monitor."""
        if self.edid is None:
            return ()
        return ("ConnectedMonitor", "DFP-0"), ("CustomEDID", f"DFP-0:{self.edid}")


class Plan(NamedTuple):
    """The changed configuration and what follows from it."""

    before: Configuration
    after: Configuration
    reaches: Sequence[Reach]
    """What X can do with each card after the change."""
    losses: Sequence[str]
    """What X would no longer use."""
    notes: Sequence[str]

    @property
    def changes(self) -> list[tuple[str, bytes, bytes]]:
        """Name, content before and content after of each file that changes."""
        pairs = zip(self.before.files, self.after.files, strict=True)
        return [(old.name, old.data, new.data) for old, new in pairs if old.text != new.text]


def make_plan(configuration: Configuration, box: Box, wanted: Wanted) -> Plan:
    """Plan the change. Raises InputError, with file and line, for what X refuses."""
    changed = configuration
    for _ in range(_ROUNDS):
        before = changed
        for step in (_complete_devices, _place_cards, _set_options):
            changed = step(changed, box, wanted)
        if changed is before:
            break
    found = make_servers(changed, box, wanted.layout)
    reaches = reach_of_cards(changed, box, found, wanted.layout is not None)
    losses = _losses(box, make_servers(configuration, box, wanted.layout), found)
    return Plan(configuration, changed, reaches, losses, _notes(configuration, box, wanted))


def _complete_devices(configuration: Configuration, box: Box, wanted: Wanted) -> Configuration:
    """Give the Devices of X screens the Driver and the BusID without which X does not use them for their card."""
    edits = Edits(configuration)
    found = make_servers(configuration, box, wanted.layout)
    free = [
        card for card in box.cards if not _is_named(configuration, card) and not any(s.on_card(card) for s in found)
    ]
    for server in found:
        for x_screen in server.screens:
            if x_screen.device is None:
                continue
            needs_driver = x_screen.device.value("driver") is None and x_screen.address in box.cards
            if needs_driver and (len(server.screens) > 1 or chosen_driver(configuration) != NVIDIA):
                edits.add_entry(x_screen.device, 'Driver "nvidia"')
            has_bus_id = x_screen.device.value("busid") is not None
            if (
                free
                and not has_bus_id
                and x_screen.driver == NVIDIA
                and x_screen.fault in (Fault.NO_BUS_ID, Fault.TAKEN)
            ):
                edits.add_entry(x_screen.device, f'BusID "{free.pop(0).xorg}"')
    return edits.apply()


def _place_cards(configuration: Configuration, box: Box, wanted: Wanted) -> Configuration:
    return place_cards(configuration, box, wanted.coolbits, wanted.monitor, wanted.layout)


def _set_options(configuration: Configuration, box: Box, wanted: Wanted) -> Configuration:
    """Set Coolbits where it decides for an X screen of a card, and pretend a monitor."""
    edits = Edits(configuration)
    for server in make_servers(configuration, box, wanted.layout):
        for x_screen in [x_screen for card in box.cards for x_screen in server.on_card(card)]:
            if x_screen.device is not None:
                _set_coolbits(configuration, edits, x_screen, x_screen.device, wanted.coolbits)
                _pretend_monitor(edits, x_screen, x_screen.device, wanted)
    return edits.apply()


def _set_coolbits(configuration: Configuration, edits: Edits, x_screen: XScreen, device: Section, bits: int) -> None:
    deciding = deciding_coolbits(configuration, x_screen.screen, device)
    setting, own = deciding.setting, _section_for_option(x_screen, device)
    value = bits_of(setting) if setting else 0
    # An OutputClass is for all cards, and a file of a package is not ours: a stronger section overrides both.
    if (
        setting is None
        or setting.section.kind == "outputclass"
        or (_is_packaged(setting.section) and own is x_screen.screen)
    ):
        if value & bits != bits:
            edits.add_entry(own, f'Option "Coolbits" "{value | bits}"')
    else:
        _raise(edits, setting, bits)
    for setting in deciding.of_depths:
        _raise(edits, setting, bits)


def _section_for_option(x_screen: XScreen, device: Section) -> Section:
    """Return the section for a new option: the Device, or its Screen if only the file of the Device is of a package."""
    return x_screen.screen if x_screen.screen and _is_packaged(device) and not _is_packaged(x_screen.screen) else device


def _is_packaged(section: Section) -> bool:
    return section.file.name.startswith("/usr/")


def _raise(edits: Edits, setting: Setting, bits: int) -> None:
    """Set the bits in an existing option."""
    bits_of(setting)  # raises InputError if it is not a number
    token, editor = setting.option.value, edits.editor_of(setting.section.file)
    if token is None:
        end = setting.option.name.end
        editor.replace(end, end, f' "{bits}"')
    elif (text := with_bits(token.text, bits)) != token.text:
        editor.replace(token.start, token.end, f'"{text}"')


def _pretend_monitor(edits: Edits, x_screen: XScreen, device: Section, wanted: Wanted) -> None:
    """Add the pretended monitor to a Device, unless it has a monitor of its own."""
    if _own_monitor(x_screen, device, wanted) is None:
        for name, value in wanted.monitor:
            if device.option(same_name(name)) is None:
                edits.add_entry(device, f'Option "{name}" "{value}"')


def _own_monitor(x_screen: XScreen, device: Section, wanted: Wanted) -> str | None:
    """Return the name of an option with which the user pretends another monitor; None if there is none."""
    for name, value in wanted.monitor:
        for section in (device, *([x_screen.screen] if x_screen.screen else [])):
            option = section.option(same_name(name))
            if option and (option.value is None or option.value.text != value):
                return name
    return None


def _losses(box: Box, before: Sequence[Server], after: Sequence[Server]) -> list[str]:
    """Return a sentence for each screen and GPUDevice that X used before, and would no longer use as before."""
    losses = []
    for old, new in zip(before, after, strict=False):
        of_other_seats = {x_screen.address for server in after if server is not new for x_screen in server.screens}
        for place, x_screen in enumerate(old.screens):
            if x_screen.fault is not None or x_screen.address in of_other_seats:
                continue
            if len(new.screens) <= place or not _is_same(x_screen, new.screens[place]):
                losses.append(
                    f"X would no longer show screen {place} on {box.other_at(x_screen.address) or x_screen.address}"
                )
        if old.layout and old.layout.option("allownvidiagpuscreens") and len(new.screens) > len(old.screens):
            losses.append(f"{old.layout.place}: the cards get X screens, so PRIME render offload to them ends")
        names = [x_screen.device.name for x_screen in new.screens if x_screen.device] + [
            device.name for device in new.gpu_devices
        ]
        for device in old.gpu_devices:
            if device.name not in names:
                losses.append(f'{device.place}: X would no longer use Device "{readable(device.name)}" as a GPUDevice')
    return losses


def _is_same(x_screen: XScreen, other: XScreen) -> bool:
    if other.fault is not None or x_screen.address != other.address:
        return False
    return x_screen.device is None or (other.device is not None and x_screen.device.name == other.device.name)


def _notes(configuration: Configuration, box: Box, wanted: Wanted) -> list[str]:
    """Return notes on what the plan leaves as it is."""
    notes = []
    for device in configuration.used("device"):
        if driver_of(device) == NVIDIA:
            name, address = readable(device.name), bus_address(device)
            if address is not None and address not in box.cards:
                notes.append(f'{device.place}: Device "{name}" names {address}, where there is no usable NVIDIA card')
    for server in make_servers(configuration, box, wanted.layout):
        for x_screen in server.screens:
            own = (
                _own_monitor(x_screen, x_screen.device, wanted)
                if x_screen.device and x_screen.address in box.cards
                else None
            )
            if own and x_screen.device:
                name = readable(x_screen.device.name)
                notes.append(
                    f'{x_screen.device.place}: Device "{name}" has a {own} of its own: no monitor is pretended there'
                )
    server = make_servers(configuration, box, wanted.layout)[0]
    if server.layout is not configuration.layout(server.seat):
        notes.append(f'X uses ServerLayout "{wanted.layout}" only if it is started with `-layout "{wanted.layout}"`')
    first = server.screens[0]
    other = box.other_at(primary(configuration, box))
    if other is not None and first.device is None and other.has_modesetting:
        notes.append(f"{other} drives the screen: it stays screen 0, now with the X driver modesetting")
    return notes


def _is_named(configuration: Configuration, card: PciAddress) -> bool:
    devices = [device for device in configuration.used("device") if driver_of(device) in (NVIDIA, "")]
    return any(bus_address(device) == card for device in devices)
