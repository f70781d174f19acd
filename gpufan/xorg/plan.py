"""Plan the smallest change of a configuration with which X can set the fans of every NVIDIA card. No I/O.

After the change, each card has a Device with NVIDIA's driver and Coolbits, and an X screen in the layout. X still uses
all screens and GPUDevices that it used before the change. `ConfigurationPlan.losses` names each exception.
"""

from collections.abc import Sequence
from typing import NamedTuple

from gpufan.xorg.additions import add_sections_for_cards
from gpufan.xorg.box import Box
from gpufan.xorg.config import Section
from gpufan.xorg.configuration import DEFAULT_SEAT, Configuration
from gpufan.xorg.coolbits import FANS_BIT, set_coolbits
from gpufan.xorg.edid import MonitorOptions, monitor_options, pretend_monitor, users_monitor_option
from gpufan.xorg.editor import Edits
from gpufan.xorg.reach import Reach, reach_of_cards
from gpufan.xorg.screens import (
    NVIDIA,
    Fault,
    ServerScreens,
    XScreen,
    screens_of_seats,
    screens_of_servers,
    seat_option_matters,
)
from gpufan.xorg.tokens import latin1_as_utf8, normalized_name, x_boolean

_ROUNDS = 5
"""The largest number of planning rounds. The first round usually makes all changes.

A change can bring back an X screen that X dropped before; the next round then makes the changes for this X screen.
"""

_JOINING = "SLI", "MultiGPU", "BaseMosaic"
"""Options of NVIDIA's driver with which one X screen uses several cards."""


class PlanOptions(NamedTuple):
    """The options of the user: options for every NVIDIA Device, and the layout to complete."""

    coolbits: int = FANS_BIT
    """Bits to set in Coolbits. The bit with the value 4 allows X to set fans."""
    edid: str | None = None
    """Absolute path of the EDID file of the pretended monitor; None if no monitor is pretended."""
    layout: str | None = None
    """Name of the ServerLayout to complete. If it is None, the layout that X chooses is completed."""

    @property
    def monitor(self) -> MonitorOptions:
        """Return the options that make X pretend a monitor; empty if there is no EDID file."""
        return monitor_options(self.edid)


class ConfigurationPlan(NamedTuple):
    """A planned change: the configuration before and after, and the consequences."""

    before: Configuration
    after: Configuration
    reaches: Sequence[Reach]
    """For each card, whether X can set its fans after the change."""
    losses: Sequence[str]
    """A sentence for each screen, GPUDevice or PRIME render offload that X would stop using or use differently."""
    notes: Sequence[str]
    """Sentences about facts that the user should know and that the plan does not change."""

    @property
    def changes(self) -> list[tuple[str, bytes, bytes]]:
        """Return a tuple for each file that changes: a name, the content before and the content after the change."""
        pairs = zip(self.before.files, self.after.files, strict=True)
        changed = {old.path: (old.name, old.data, new.data) for old, new in pairs if old.text != new.text}
        return list(changed.values())


def make_plan(configuration: Configuration, box: Box, wanted: PlanOptions) -> ConfigurationPlan:
    """Plan the change with which X can set the fans of all cards of `box`.

    Raises InputError if X would refuse the configuration, or if no ServerLayout is called `wanted.layout`.
    """
    changed = configuration
    # Without the driver, a change would only be a risk.
    for _ in range(0 if box.lacks_x_driver else _ROUNDS):
        before = changed
        changed = _plan_device_entries(changed, box, wanted)
        changed = add_sections_for_cards(changed, box, wanted.coolbits, wanted.monitor, wanted.layout)
        changed = _plan_options(changed, box, wanted)
        if changed is before:
            break
    found = screens_of_servers(changed, box, wanted.layout)
    reaches = reach_of_cards(changed, box, found, wanted.layout is not None)
    old, new = (screens_of_seats(c, box, wanted.layout) for c in (configuration, changed))
    losses = _losses_by_plan(box, old, new)
    return ConfigurationPlan(configuration, changed, reaches, losses, _plan_notes(configuration, changed, box, wanted))


def _plan_device_entries(configuration: Configuration, box: Box, wanted: PlanOptions) -> Configuration:
    """Return the configuration with Driver and BusID added to Devices of X screens.

    An entry is added only where X needs the entry to use the Device for its card.
    """
    edits = Edits(configuration)
    found = screens_of_servers(configuration, box, wanted.layout)
    devices = [device for device in configuration.used("device") if device.driver in (NVIDIA, "", None)]
    free = [
        card
        for card in box.cards
        if not any(device.address == card for device in devices) and not any(server.on_card(card) for server in found)
    ]
    placed: list[Section] = []
    for server in found:
        for x_screen in server.screens:
            if x_screen.device is None:
                continue
            needs_driver = not x_screen.device.driver and x_screen.address in box.cards
            if needs_driver and (len(server.screens) > 1 or x_screen.driver != NVIDIA):
                edits.add_entry(x_screen.device, 'Driver "nvidia"')
            is_placed = x_screen.device.bus_id is not None or x_screen.device in placed
            if (
                free
                and not is_placed
                and x_screen.driver == NVIDIA
                and x_screen.fault in (Fault.NO_BUS_ID, Fault.TAKEN)
            ):
                edits.add_entry(x_screen.device, f'BusID "{free.pop(0).xorg}"')
                placed.append(x_screen.device)
    return edits.apply()


def _plan_options(configuration: Configuration, box: Box, wanted: PlanOptions) -> Configuration:
    """Return the configuration with the wanted Coolbits set for every X screen of a card.

    If the user wants a pretended monitor, also add the options for this monitor to the Device of each such X screen.
    """
    edits = Edits(configuration)
    for server in screens_of_servers(configuration, box, wanted.layout):
        for x_screen in [x_screen for card in box.cards for x_screen in server.on_card(card)]:
            if x_screen.device is not None:
                applies = x_screen.address not in box.without_drm
                set_coolbits(configuration, edits, x_screen.screen, x_screen.device, wanted.coolbits, applies)
                pretend_monitor(edits, x_screen.screen, x_screen.device, wanted.monitor)
    return edits.apply()


def _losses_by_plan(box: Box, before: Sequence[ServerScreens], after: Sequence[ServerScreens]) -> list[str]:
    """Compare what X uses on each seat before and after the plan. Return a sentence for each loss.

    A loss is a screen or GPUDevice that X would stop using, or would use differently. The end of PRIME render offload
    is a loss too.
    """
    losses = []
    for old, new in zip(before, after, strict=True):
        x = "X" if new.seat == DEFAULT_SEAT else f'X on seat "{latin1_as_utf8(new.seat)}"'
        others = [server for server in after if server is not new and server.has_own_layout]
        of_other_seats = {x_screen.address for server in others for x_screen in server.screens}
        for place, x_screen in enumerate(old.screens):
            if x_screen.fault is not None or x_screen.address in of_other_seats:
                continue
            if len(new.screens) <= place or _loses_screen(x_screen, new.screens[place]):
                shown = box.other_at(x_screen.address) or x_screen.address or "no graphics card"
                losses.append(f"{x} would no longer show screen {place} on {shown}")
        if old.layout and _is_on(old.layout, "AllowNVIDIAGPUScreens") and len(new.screens) > len(old.screens):
            losses.append(f"{old.layout.place}: the cards get X screens, so PRIME render offload to them ends")
        if len(new.screens) > len(old.screens):
            losses += [
                f'{section.place}: {word} of "{section.shown}" ends, because each card gets an X screen of its own'
                for x_screen in old.screens
                for section in (x_screen.screen, x_screen.device)
                for word in _JOINING
                if section and _is_on(section, word)
            ]
        in_use = of_other_seats | {x_screen.address for x_screen in new.screens if x_screen.fault is None}
        names = [x_screen.device.name for x_screen in new.screens if x_screen.device] + [
            device.name for device in new.gpu_devices
        ]
        for device in old.gpu_devices:
            # X finds no driver for a GPUDevice by itself.
            if device.driver and device.name not in names and device.address not in in_use:
                losses.append(f'{device.place}: {x} would no longer use Device "{device.shown}" as a GPUDevice')
    return list(dict.fromkeys(losses))


def _is_on(section: Section, word: str) -> bool:
    """Whether `section` has the option `word`, and does not turn it off."""
    option = section.option(normalized_name(word))
    return option is not None and x_boolean(option.value.text if option.value else "") is not False


def _loses_screen(before: XScreen, after: XScreen) -> bool:
    """Whether the plan takes the graphics device or the Device from an X screen.

    `before` and `after` are the same X screen before and after the plan.
    """
    if after.fault is not None or before.address != after.address:
        return True
    return before.device is not None and (after.device is None or before.device.name != after.device.name)


def _plan_notes(configuration: Configuration, after: Configuration, box: Box, wanted: PlanOptions) -> list[str]:
    """Return sentences about facts that the user should know and that the plan does not change.

    `configuration` and `after` are the configuration before and after the plan.
    """
    notes = []
    for device in configuration.used("device"):
        if device.driver == NVIDIA:
            who, bus_id = f'{device.place}: Device "{device.shown}"', device.bus_id
            if bus_id and device.address is None:
                notes.append(
                    f'{who} is for no card: X finds no PCI address in its BusID "{bus_id.shown}"'
                    " (addresses are decimal: 0a:00.0 of lspci is PCI:10:0:0)"
                )
            elif device.address and device.address not in box.cards:
                # As lspci prints it, such as 10 for the bus 16.
                meant = [card for card in box.cards if f"{card.bus:x}" == str(device.address.bus)][:1]
                hint = "".join(f" (a BusID is decimal: {card} is {card.xorg})" for card in meant)
                notes.append(f"{who} names {device.address}, where there is no usable NVIDIA card{hint}")
    servers = screens_of_servers(configuration, box, wanted.layout)
    for server in servers:
        for x_screen in server.screens:
            used = x_screen.device
            if used is None or x_screen.address not in box.cards:
                continue
            if own := users_monitor_option(x_screen.screen, used, wanted.monitor):
                who = f'{used.place}: Device "{used.shown}"'
                notes.append(f"{who} has a {own} of its own: no monitor is pretended there")
    server = servers[0]
    if server.layout is not configuration.layout(server.seat):
        notes.append(f'X uses ServerLayout "{wanted.layout}" only if it is started with `-layout "{wanted.layout}"`')
    section = configuration.first_for_default_seat()
    if section and seat_option_matters(after, box, wanted.layout):
        notes.append(
            f"{section.place}: X uses this section only if it is started with `-seat {DEFAULT_SEAT}`, as display"
            " managers do"
        )
    first = screens_of_servers(after, box, wanted.layout)[0].screens[0]
    other = box.other_at(first.address)
    if other is not None and server.screens[0].device is None and first.device is not None:
        notes.append(f"{other} drives the screen: it stays screen 0, now with the X driver modesetting")
    return notes
