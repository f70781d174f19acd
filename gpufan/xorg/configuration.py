"""All files of the X server as one configuration, in the order in which X reads them. No I/O.

References may cross files. If two sections of a kind have the same name, X uses the first one. Of a kind of section
that has no name, such as ServerFlags, X uses the last one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from gpufan.errors import InputError
from gpufan.xorg.config import ConfigFile, Section
from gpufan.xorg.tokens import Token, readable, same_name

DEFAULT_SEAT = "seat0"
"""The seat of an X server that is started without another one."""


_TITLES = {
    "screen": "Screen",
    "device": "Device",
    "inputdevice": "InputDevice",
    "modes": 'Section "Modes"',
    "videoadaptor": "VideoAdaptor",
}


@dataclass(frozen=True, slots=True)
class Configuration:
    """The files that one X server reads. Raises InputError for what the server refuses after it has parsed them."""

    files: tuple[ConfigFile, ...]
    main: str
    """Name of the file that new sections are added to; it is among `files`, perhaps empty."""

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
        """Return the sections of one kind, in the order of X."""
        return [section for file in self.files for section in file.of_kind(kind)]

    def named(self, kind: str, name: str) -> Section | None:
        """Return the section of this kind and name that X uses; None if there is none."""
        return next((section for section in self.of_kind(kind) if same_name(section.name) == same_name(name)), None)

    def used(self, kind: str) -> list[Section]:
        """Return the sections of one kind, without those that X ignores because an earlier one has their name."""
        first: dict[str, Section] = {}
        for section in self.of_kind(kind):
            first.setdefault(same_name(section.name), section)
        return list(first.values())

    def suitable(self, kind: str, seat: str) -> Iterator[Section]:
        """Return the sections of one kind from which a server on `seat` chooses where no name is given."""
        for section in self.of_kind(kind):
            wanted = section.value("matchseat")
            if wanted is None or same_name(wanted.text) == same_name(seat):
                yield section

    def seats(self) -> list[str]:
        """Return the seats for which there are sections, the default seat first."""
        seats = {DEFAULT_SEAT: DEFAULT_SEAT}
        for kind in ("serverlayout", "screen", "device"):
            for section in self.of_kind(kind):
                if wanted := section.value("matchseat"):
                    seats.setdefault(same_name(wanted.text), wanted.text)
        return list(seats.values())

    def default_layout(self) -> str | None:
        """Return the name of the ServerLayout that ServerFlags chooses; None if they choose none."""
        flags = self.of_kind("serverflags")[-1:]
        for section in flags:
            option, entry = section.option("defaultserverlayout"), section.value("defaultserverlayout")
            if entry is not None:
                return entry.text
            if option is not None and option.value is not None:
                return option.value.text
        return None

    def layout(self, seat: str, name: str | None = None) -> Section | None:
        """Return the ServerLayout of a server on `seat`; None if there is none, so that X shows the first Screen.

        `name` is that of its option -layout. Raises InputError if there is no layout of that name.
        """
        first = next(self.suitable("serverlayout", seat), None)
        chosen = name or self.default_layout()
        if first is None or chosen is None:
            return first
        layouts = self.of_kind("serverlayout")
        for layout in layouts[layouts.index(first) :]:
            if same_name(layout.name) == same_name(chosen):
                return layout
        if name is not None:
            names = ", ".join(f'"{readable(layout.name)}"' for layout in layouts)
            raise InputError(f'no ServerLayout is called "{name}": choose one of {names}')
        flags = self.of_kind("serverflags")[-1]
        raise InputError(f'{flags.place}: X refuses DefaultServerLayout "{readable(chosen)}": no ServerLayout has it')

    def with_content(self, contents: Mapping[str, bytes]) -> "Configuration":
        """Return the configuration with other content of the files that `contents` names."""
        return replace(
            self,
            files=tuple(
                ConfigFile(contents[file.name], file.name) if file.name in contents else file for file in self.files
            ),
        )

    def _check_screen(self, screen: Section, adaptors: dict[str, Section]) -> None:
        """Check the references of a Screen; `adaptors` maps each VideoAdaptor to the Screen that has it."""
        wanted = screen.value("monitor")
        monitor = self.named("monitor", wanted.text) if wanted else None
        for entry in monitor.entries("usemodes") if monitor else ():
            self._check_reference(monitor or screen, entry.strings[0], "modes")
        for entry in screen.entries("videoadaptor"):
            name = entry.strings[0]
            self._check_reference(screen, name, "videoadaptor")
            if adaptors.setdefault(same_name(name.text), screen) is not screen:
                place = f"{screen.file.name}:{screen.file.line(name.start)}"
                raise InputError(f'{place}: X refuses VideoAdaptor "{readable(name.text)}" in a second Screen')

    def _check_reference(self, section: Section, name: Token, kind: str) -> None:
        if self.named(kind, name.text) is None:
            place = f"{section.file.name}:{section.file.line(name.start)}"
            raise InputError(f'{place}: X refuses "{readable(name.text)}": no {_TITLES[kind]} has this name')
