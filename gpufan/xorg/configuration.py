"""All files of the X server as one configuration, in the order in which X reads the files. No I/O.

A section may refer to a section in another file. If two sections of the same kind have the same name, X uses the first
one. Sections of some kinds, such as ServerFlags, have no name: X uses the last section of such a kind.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from gpufan.errors import InputError
from gpufan.xorg.config import ConfigFile, Section
from gpufan.xorg.tokens import Statement, Token, latin1_as_utf8, normalized_name
from gpufan.xorg.values import leading_real

DEFAULT_SEAT = "seat0"
"""The seat of the first X server of a machine. Display managers start this server with the option -seat seat0.

A server that is started without the option -seat ignores every section with MatchSeat.
"""

_GAMMA_IGNORED, _GAMMA_MIN, _GAMMA_MAX = 0.001, 0.1, 10.0
"""X ignores a Gamma up to the first number, and refuses another one that is not between the two other numbers."""

NVIDIA_DRM = "nvidia-drm"
"""The module of NVIDIA's kernel driver which lets X see a card as a DRM device."""

_TITLES = {
    "screen": "Screen",
    "device": "Device",
    "inputdevice": "InputDevice",
    "modes": 'Section "Modes"',
    "videoadaptor": "VideoAdaptor",
}


@dataclass(frozen=True, slots=True)
class Configuration:
    """The files that one X server reads.

    The server refuses a wrong reference between sections, and an InputDevice without Driver. If the files contain one
    of these, making a Configuration raises InputError.
    """

    files: tuple[ConfigFile, ...]
    main: str
    """Name of the file to which new sections are added. This file is one of `files`, and may be empty."""

    def __post_init__(self) -> None:
        adaptors: dict[str, Section] = {}
        for section in self.of_kind("screen"):
            self._check_screen(section, adaptors)
        for section in self.of_kind("inputdevice"):
            if section.value("driver") is None:
                raise InputError(f"{section.place}: X refuses an InputDevice without Driver: add one")
        for section in self.of_kind("serverlayout"):
            for keyword, kind in (("screen", "screen"), ("inactive", "device"), ("inputdevice", "inputdevice")):
                for entry in section.entries(keyword):
                    self._check_reference(section, entry.strings[0], kind)

    def of_kind(self, kind: str) -> list[Section]:
        """Return the sections of one kind, in the order in which X reads them."""
        return [section for file in self.files for section in file.of_kind(kind)]

    def named(self, kind: str, name: str) -> Section | None:
        """Return the section of this kind with this name that X uses; None if there is no such section."""
        return next(
            (section for section in self.of_kind(kind) if normalized_name(section.name) == normalized_name(name)), None
        )

    def used(self, kind: str) -> list[Section]:
        """Return the sections of one kind that X uses. X ignores a section if an earlier section has the same name."""
        first: dict[str, Section] = {}
        for section in self.of_kind(kind):
            first.setdefault(normalized_name(section.name), section)
        return list(first.values())

    def suitable(self, kind: str, seat: str) -> Iterator[Section]:
        """Return the sections of one kind that are for `seat` or for all seats.

        If no section is named, a server on `seat` uses the first of these sections.
        """
        for section in self.of_kind(kind):
            wanted = section.value("matchseat")
            if wanted is None or normalized_name(wanted.text) == normalized_name(seat):
                yield section

    def device_of_screen(self, screen: Section | None, seat: str) -> Section | None:
        """Return the Device that `screen` names.

        If `screen` names no existing Device, return the first Device for `seat`. If there is no Device for `seat`
        either, return None.
        """
        name = screen.value("device") if screen else None
        named = self.named("device", name.text) if name else None
        return named or next(self.suitable("device", seat), None)

    def monitor_of_screen(self, screen: Section) -> Section | None:
        """Return the Monitor that `screen` names; None if it names no existing Monitor."""
        name = screen.value("monitor")
        return self.named("monitor", name.text) if name else None

    def check_gamma(self, screen: Section) -> None:
        """Raise InputError if X refuses the Gamma in the Monitor of `screen`. X checks only screens that it shows."""
        monitor = self.monitor_of_screen(screen)
        for entry in monitor.entries("gamma")[-1:] if monitor else ():
            for token in entry.arguments:
                if (
                    leading_real(token.text) > _GAMMA_IGNORED
                    and not _GAMMA_MIN <= leading_real(token.text) <= _GAMMA_MAX
                ):
                    problem = f"X refuses this Gamma: it must be {_GAMMA_MIN} to {_GAMMA_MAX}"
                    raise (monitor or screen).file.error(token.start, problem)

    def output_classes(self, drm_driver: str = NVIDIA_DRM) -> list[Section]:
        """Return the OutputClass sections that apply to DRM devices with the kernel driver `drm_driver`.

        If several of these sections set the same option, the last section is valid.
        """
        return [
            section
            for section in self.of_kind("outputclass")
            if all(drm_driver in entry.strings[0].text.split("|") for entry in section.entries("matchdriver"))
        ]

    def module_path(self) -> tuple[Section, list[Statement]] | None:
        """Return the section Files that counts, and its entries ModulePath. Returns None if it has no such entry.

        These entries replace the folders in which X looks for its drivers by itself.
        """
        for section in self.of_kind("files")[-1:]:
            if entries := section.entries("modulepath"):
                return section, entries
        return None

    def output_class_driver(self) -> str | None:
        """Return the X driver that OutputClass sections choose for an NVIDIA card whose Device has no Driver.

        Returns None if no OutputClass chooses a driver.
        """
        return next((section.driver for section in self.output_classes() if section.driver), None)

    def seats(self) -> list[str]:
        """Return the names of the default seat and of all other seats that sections name.

        The default seat comes first.
        """
        seats = {DEFAULT_SEAT: DEFAULT_SEAT}
        for _, wanted in self._seat_entries():
            seats.setdefault(normalized_name(wanted.text), wanted.text)
        return list(seats.values())

    def first_for_default_seat(self) -> Section | None:
        """Return the first section whose MatchSeat is the default seat; None if there is no such section."""
        found = (section for section, wanted in self._seat_entries() if normalized_name(wanted.text) == DEFAULT_SEAT)
        return next(found, None)

    def _seat_entries(self) -> Iterator[tuple[Section, Token]]:
        """Return each section that is for one seat, with the name of this seat."""
        for kind in ("serverlayout", "screen", "device"):
            for section in self.of_kind(kind):
                if wanted := section.value("matchseat"):
                    yield section, wanted

    def default_layout(self) -> str | None:
        """Return the name of the ServerLayout that ServerFlags chooses; None if ServerFlags chooses no ServerLayout."""
        flags = self.of_kind("serverflags")[-1:]
        for section in flags:
            option, entry = section.option("defaultserverlayout"), section.value("defaultserverlayout")
            chosen = entry or (option.value if option else None)
            return chosen.text or None if chosen else None
        return None

    def layout(self, seat: str, name: str | None = None) -> Section | None:
        """Return the ServerLayout of a server on `seat`; None if there is no ServerLayout for `seat`.

        Without a ServerLayout, X shows the first Screen. `name` is the value of the server's option -layout; None if
        the server is started without this option. Raises InputError if `name` or DefaultServerLayout names a
        ServerLayout that does not exist.
        """
        first = next(self.suitable("serverlayout", seat), None)
        chosen = self.default_layout() if name is None else name
        if first is None and name is not None:
            raise InputError(f'no ServerLayout is called "{name}", because X uses none here: leave out --layout')
        if first is None or chosen is None:
            return first
        layouts = self.of_kind("serverlayout")
        for layout in layouts[layouts.index(first) :]:
            if normalized_name(layout.name) == normalized_name(chosen):
                return layout
        if name is not None:
            names = ", ".join(f'"{layout.shown}"' for layout in layouts)
            raise InputError(f'no ServerLayout is called "{name}": choose one of {names}')
        flags = self.of_kind("serverflags")[-1]
        raise InputError(
            f'{flags.place}: X refuses DefaultServerLayout "{latin1_as_utf8(chosen)}": no ServerLayout has it'
        )

    def with_content(self, contents: Mapping[str, bytes]) -> "Configuration":
        """Return a copy of the configuration, with new content for some files.

        `contents` maps the path of a file, with symbolic links resolved, to its new content. Raises InputError if X
        would refuse the new content.
        """
        return replace(
            self,
            files=tuple(
                ConfigFile(contents[file.path], file.name, file.path) if file.path in contents else file
                for file in self.files
            ),
        )

    def _check_screen(self, screen: Section, adaptors: dict[str, Section]) -> None:
        """Raise InputError if `screen` refers to a VideoAdaptor that does not exist or that another Screen uses.

        Also raise InputError if the Monitor of `screen` refers to a Modes section that does not exist. `adaptors` maps
        the name of each VideoAdaptor to the Screen that uses the VideoAdaptor. The VideoAdaptors of `screen` are added
        to `adaptors`.
        """
        monitor = self.monitor_of_screen(screen)
        for entry in monitor.entries("usemodes") if monitor else ():
            self._check_reference(monitor or screen, entry.strings[0], "modes")
        for entry in screen.entries("videoadaptor"):
            name = entry.strings[0]
            self._check_reference(screen, name, "videoadaptor")
            if adaptors.setdefault(normalized_name(name.text), screen) is not screen:
                raise screen.file.error(name.start, f'X refuses VideoAdaptor "{name.shown}" in a second Screen')

    def _check_reference(self, section: Section, name: Token, kind: str) -> None:
        """Raise InputError if there is no section of the kind `kind` with the name `name`.

        `section` is the section that refers to this name.
        """
        if self.named(kind, name.text) is None:
            raise section.file.error(name.start, f'X refuses "{name.shown}": no {_TITLES[kind]} has this name')
