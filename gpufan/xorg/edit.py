"""Make the smallest change of an xorg.conf with which X can set the fans of every NVIDIA card.

Each card then has a Device with Coolbits, a Screen, and a place in the layout. `setup` writes the file.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gpufan.core.pci import PciAddress
from gpufan.errors import InputError
from gpufan.system.resources import template
from gpufan.xorg.config import Config, Editor, Section, Token, readable, same_name, with_bits


class Wanted(NamedTuple):
    """The options that every NVIDIA Device needs."""

    coolbits: int = 4
    """Bits to set; 4 is control of fans."""
    edid: str | None = None
    """Absolute path of the EDID file of a pretended monitor; None for no such monitor."""

    @property
    def monitor(self) -> tuple[tuple[str, str], ...]:
        """Names and values of the options of the pretended monitor."""
        if self.edid is None:
            return ()
        return ("ConnectedMonitor", "DFP-0"), ("CustomEDID", f"DFP-0:{self.edid}")


class Edited(NamedTuple):
    """The changed file, and notes for the user."""

    data: bytes
    notes: tuple[str, ...]


class NewScreen(NamedTuple):
    """A Screen to add."""

    identifier: str
    device: str
    nvidia: bool


def edit(config: Config, cards: Iterable[PciAddress], wanted: Wanted) -> Edited:
    """Change `config` so that X can set the fans of all `cards`. An empty file becomes a complete one.

    Raises InputError, with line and column, for what the X server could not read.
    """
    return _Edit(config, sorted(cards), wanted).run()


class _Edit:
    def __init__(self, config: Config, cards: Sequence[PciAddress], wanted: Wanted) -> None:
        self.config = config
        self.cards = cards
        self.wanted = wanted
        self.editor = Editor(config)
        self.notes: list[str] = []
        self.devices = config.of_kind("device")
        self.screens = config.of_kind("screen")
        self.layout = active_layout(config)
        self.nvidia: list[Section] = []
        self.unplaced: list[Section] = []
        """NVIDIA Devices without a BusID; X gives each of them the first free card."""
        self.serving: dict[PciAddress, list[str]] = {card: [] for card in cards}
        """Identifiers of the Devices of each card."""
        self.new_devices: dict[str, str] = {}
        """BusID of each new Device, by its identifier."""
        self.new_screens: list[NewScreen] = []

    def run(self) -> Edited:
        self.assign()
        self.add_devices()
        for device in self.nvidia:
            self.set_coolbits(device)
            self.pretend_monitor(device)
        # A Screen that names no Device uses a new one if there was none before.
        for screen in self.screens_of(self.new_devices):
            self.raise_coolbits(screen)
        layout = self.add_screens()
        if self.new_devices or self.new_screens or layout:
            text = template("templates/xorg.conf.j2").render(
                new=not self.config.text,
                devices=self.new_devices,
                screens=self.new_screens,
                layout=layout,
                coolbits=self.wanted.coolbits,
                monitor=self.wanted.monitor,
            )
            self.editor.append(text)
        return Edited(self.editor.result(), tuple(self.notes))

    def assign(self) -> None:
        """Find the Devices of each card."""
        for device in self.devices:
            driver = self.config.string(device, "driver")
            is_nvidia = driver is not None and same_name(driver.text) == "nvidia"
            address = self.address(device, is_nvidia)
            if is_nvidia or (driver is None and address in self.serving):
                self.nvidia.append(device)
            elif driver is not None and address in self.serving:
                self.note(device, f"gives card {address} to the driver {readable(driver.text)}: X cannot set its fans")
            if is_nvidia and address is None:
                self.unplaced.append(device)
            elif address in self.serving:
                self.serving[address].append(self.config.identifier(device))
            elif is_nvidia:
                self.note(device, f"names {address}, where there is no NVIDIA card")
        for device, card in zip(self.unplaced, self.unserved(), strict=False):
            self.serving[card].append(self.config.identifier(device))

    def unserved(self) -> list[PciAddress]:
        """Return the cards that have no Device."""
        return [card for card, devices in self.serving.items() if not devices]

    def address(self, device: Section, is_nvidia: bool) -> PciAddress | None:
        """Return the address in the BusID of a Device; None without a valid BusID.

        Raises InputError if the BusID of an NVIDIA Device is not valid.
        """
        token = self.config.string(device, "busid")
        if token is None:
            return None
        try:
            return PciAddress.from_bus_id(token.text)
        except InputError as error:
            if is_nvidia:
                raise self.config.error(token.start, str(error)) from None
            return None

    def set_coolbits(self, device: Section) -> None:
        """Set the wanted bits in every Coolbits that is for this Device. If there is none, add one to the Device."""
        screens = self.screens_of([self.config.identifier(device)])
        in_device = self.raise_coolbits(device)
        in_screens = [self.raise_coolbits(screen) for screen in screens]
        if not in_device and not (in_screens and all(in_screens)):
            self.editor.add_entry(device, f'Option "Coolbits" "{self.wanted.coolbits}"')

    def raise_coolbits(self, section: Section) -> bool:
        """Set the wanted bits in every Coolbits of a section and its Monitors.

        Return whether the section itself has Coolbits.
        """
        # An option of the Monitor overrides that of the Device.
        for place in (section, *self.monitors_of(section)):
            for name, value in self.config.options(place, "coolbits"):
                if value is None:
                    self.editor.replace(name.end, name.end, f' "{self.wanted.coolbits}"')
                    continue
                text = with_bits(value.text, self.wanted.coolbits)
                if text is None:
                    raise self.config.error(value.start, "Coolbits is not a whole number here: correct it or remove it")
                if text != value.text:
                    self.editor.replace(value.start, value.end, f'"{text}"')
        return bool(self.config.options(section, "coolbits"))

    def pretend_monitor(self, device: Section) -> None:
        """Add the pretended monitor to a Device, unless it names another monitor."""
        sections = (device, *self.screens_of([self.config.identifier(device)]))
        missing = []
        for name, value in self.wanted.monitor:
            found = [o for section in sections for o in self.config.options(section, same_name(name))]
            if any(option.value is None or option.value.text != value for option in found):
                self.note(device, f"has a {name} of its own: no monitor is pretended there")
                return
            if not found:
                missing.append(f'Option "{name}" "{value}"')
        for entry in missing:
            self.editor.add_entry(device, entry)

    def add_devices(self) -> None:
        """Add a Device for each card that has none."""
        taken = {same_name(self.config.identifier(device)) for device in self.devices}
        for card in self.unserved():
            identifier = _free_name(f"NVIDIA {card}", taken)
            self.new_devices[identifier] = card.xorg
            self.serving[card].append(identifier)
        if self.new_devices:
            # With more than one Device, X requires a BusID in each.
            for device in self.unplaced:
                name = self.config.identifier(device)
                for card in [card for card, devices in self.serving.items() if name in devices]:
                    self.editor.add_entry(device, f'BusID "{card.xorg}"')

    def add_screens(self) -> list[str]:
        """Add a Screen for each card that has none, and add these Screens to the layout.

        If there is no layout, return the identifiers of the Screens for a new one; else return an empty list.
        """
        names, devices = self.placed()
        taken = {same_name(self.config.identifier(screen)) for screen in self.screens}
        missing = []
        for card, own in self.serving.items():
            if not devices.isdisjoint(map(same_name, own)):
                continue
            screens = self.screens_of(own)
            if screens:
                missing.append(self.config.identifier(screens[0]))
            else:
                missing.append(_free_name(f"Screen {card}", taken))
                self.new_screens.append(NewScreen(missing[-1], own[0], nvidia=True))
        if not missing:
            return []
        if not names:
            missing = self.implied_screen(taken) + missing
        if self.layout is None:
            return missing
        self.add_to_layout(self.layout, names, missing)
        return []

    def placed(self) -> tuple[list[str], set[str]]:
        """Return the Screens in the layout, and the Devices that X uses or that are declared inactive, by name."""
        names = self.config.strings(self.layout, "screen") if self.layout else []
        screens = [screen for name in names for screen in self.named(self.screens, name.text)[:1]]
        if not names:
            # X uses the first Screen, and if there is no Screen the first Device.
            screens = self.screens[:1]
        devices = {device for screen in screens for device in self.devices_of(screen)}
        if not names and not screens:
            devices |= {same_name(self.config.identifier(device)) for device in self.devices[:1]}
        if self.layout:
            devices |= {same_name(token.text) for token in self.config.strings(self.layout, "inactive")}
        return [name.text for name in names], devices

    def implied_screen(self, taken: set[str]) -> list[str]:
        """Return the Screen that X uses without a layout, so that the new layout keeps it. Add it if there is none."""
        if self.screens:
            return [self.config.identifier(self.screens[0])]
        if not self.devices:
            return []
        device = self.devices[0]
        identifier = _free_name("Screen 0", taken)
        self.new_screens.insert(0, NewScreen(identifier, self.config.identifier(device), nvidia=device in self.nvidia))
        return [identifier]

    def add_to_layout(self, layout: Section, names: list[str], missing: list[str]) -> None:
        """Add the Screens `missing` to a layout, to the right of `names`, with numbers if those have numbers."""
        entries = [statement for statement in layout.statements if statement.keyword == "screen"]
        numbers = [int(entry.arguments[0].text) for entry in entries if _is_number(entry.arguments[0])]
        number = max([*numbers, len(names) - 1]) + 1
        previous = names[-1] if names else None
        for name in missing:
            entry = f'Screen {number} "{name}"' if numbers or not names else f'Screen "{name}"'
            if previous is not None:
                entry += f' RightOf "{previous}"'
            self.editor.add_entry(layout, entry)
            number, previous = number + 1, name

    def screens_of(self, devices: Iterable[str]) -> list[Section]:
        """Return the Screens that use one of these Devices."""
        wanted = set(map(same_name, devices))
        return [screen for screen in self.screens if not wanted.isdisjoint(self.devices_of(screen))]

    def devices_of(self, screen: Section) -> set[str]:
        """Return the names of the Devices that a Screen uses. If it names none, it uses the first in the file."""
        named = [token.text for token in self.config.strings(screen, "device")]
        if not named:
            named = [*(self.config.identifier(device) for device in self.devices[:1]), *self.new_devices][:1]
        return {same_name(name) for name in (*named, *(t.text for t in self.config.strings(screen, "gpudevice")))}

    def monitors_of(self, screen: Section) -> list[Section]:
        """Return the Monitors of a Screen."""
        monitors = self.config.of_kind("monitor")
        return [m for name in self.config.strings(screen, "monitor") for m in self.named(monitors, name.text)]

    def named(self, sections: Sequence[Section], name: str) -> list[Section]:
        """Return the sections whose Identifier is `name`."""
        return [section for section in sections if same_name(self.config.identifier(section)) == same_name(name)]

    def note(self, section: Section, text: str) -> None:
        """Add a note about a section."""
        name = readable(self.config.identifier(section))
        self.notes.append(f'{self.config.name}:{self.config.line(section.start)}: Device "{name}" {text}')


def active_layout(config: Config) -> Section | None:
    """Return the ServerLayout that X uses: the one that ServerFlags names, else the first."""
    layouts = config.of_kind("serverlayout")
    for flags in config.of_kind("serverflags"):
        for _, value in config.options(flags, "defaultserverlayout"):
            for layout in layouts:
                if value and same_name(config.identifier(layout)) == same_name(value.text):
                    return layout
    return next(iter(layouts), None)


def _free_name(name: str, taken: set[str]) -> str:
    """Return `name`, with a number if `taken` contains it, and add the result to `taken`."""
    free, number = name, 1
    while same_name(free) in taken:
        number += 1
        free = f"{name} #{number}"
    taken.add(same_name(free))
    return free


def _is_number(token: Token) -> bool:
    return token.kind == "number" and token.text.isdigit() and len(token.text) < 10
