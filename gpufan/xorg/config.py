"""One configuration file of the X server, with its sections, entries and options.

The module `parser` parses the text of a file. The module `editor` changes the text.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from gpufan.core.pci import PciAddress
from gpufan.xorg.parser import ParsedSection, parse_sections
from gpufan.xorg.tokens import SourceText, Statement, Token, latin1_as_utf8, normalized_name
from gpufan.xorg.values import bus_id_address


class Option(NamedTuple):
    """The entry `Option "name" "value"` in a section. `value` is None if the entry has no value."""

    name: Token
    value: Token | None


@dataclass(frozen=True, slots=True, eq=False)
class Section(ParsedSection):
    """A section with its file."""

    file: "ConfigFile"

    @property
    def place(self) -> str:
        """Return file and line of the section, for messages."""
        return self.file.place(self.start)

    @property
    def is_packaged(self) -> bool:
        """Whether the file of the section belongs to a package of the distribution."""
        return self.file.path.startswith("/usr/")

    def entries(self, keyword: str) -> list[Statement]:
        """Return the entries with this keyword, but not the entries in subsections."""
        return [entry for entry in self.statements if entry.keyword == keyword and entry.block < 0]

    def value(self, keyword: str) -> Token | None:
        """Return the first string of the last entry with this keyword; None if there is no such entry.

        If there are several entries, the last entry is valid.
        """
        return next((entry.strings[0] for entry in reversed(self.entries(keyword)) if entry.strings), None)

    @property
    def name(self) -> str:
        """Return the Identifier of the section; empty if the section has no Identifier."""
        # An old Screen may have its name in the entry Driver.
        token = self.value("identifier") or (self.value("driver") if self.kind == "screen" else None)
        return token.text if token else ""

    @property
    def shown(self) -> str:
        """Return the name for a message."""
        return latin1_as_utf8(self.name)

    @property
    def driver(self) -> str | None:
        """Return the name of the X driver of a Device, normalized; None if the Device has no Driver.

        The name can be empty. X then loads no driver for the Device.
        """
        token = self.value("driver")
        return normalized_name(token.text) if token else None

    @property
    def bus_id(self) -> Token | None:
        """Return the BusID of a Device; None if the Device has no BusID. An empty BusID is none for X."""
        token = self.value("busid")
        return token if token and token.text else None

    @property
    def address(self) -> PciAddress | None:
        """Return the address in the BusID of a Device.

        Returns None if the Device has no BusID, or if X finds no PCI device with the BusID.
        """
        token = self.bus_id
        return bus_id_address(token.text) if token else None

    def entry_naming(self, keyword: str, name: str) -> Statement | None:
        """Return the first entry with this keyword whose first string is `name`; None if there is no such entry."""
        return next(
            (e for e in self.entries(keyword) if normalized_name(e.strings[0].text) == normalized_name(name)), None
        )

    def option(self, name: str) -> Option | None:
        """Return the first Option with this name outside of subsections; None if there is no such Option.

        If there are several such Options, the first one is valid. `name` must be normalized by `normalized_name`.
        """
        return next(self._options(name, -1), None)

    def subsection_options(self, name: str) -> list[Option]:
        """Return the first Option with this name of each subsection that has such an Option.

        If a subsection has several such Options, the first one is valid. `name` must be normalized by
        `normalized_name`.
        """
        blocks = dict.fromkeys(entry.block for entry in self.statements if entry.block >= 0)
        return [option for block in blocks for option in [next(self._options(name, block), None)] if option]

    def _options(self, name: str, block: int) -> Iterator[Option]:
        """Return all Options with this name in the subsection that begins at the offset `block`.

        If `block` is -1, return those outside of subsections.
        """
        for entry in self.statements:
            if entry.keyword == "option" and entry.block == block and entry.strings:
                option = Option(entry.strings[0], entry.strings[1] if len(entry.strings) > 1 else None)
                if normalized_name(option.name.text) == name:
                    yield option


class ConfigFile(SourceText):
    """One parsed configuration file."""

    def __init__(self, data: bytes, name: str, path: str | None = None) -> None:
        """Parse `data`, the content of the file. `name` is the path of the file, for messages.

        `path` is this path with all symbolic links resolved; if it is None, `name` has no symbolic links. Raises
        InputError, with line and column, if the X server would refuse the file.
        """
        super().__init__(data, name)
        self.path = name if path is None else path
        """The same for all names of one file. X reads a file once for each of its names."""
        self.sections = tuple(
            Section(found.kind, found.statements, found.start, found.end, self) for found in parse_sections(self)
        )

    def of_kind(self, kind: str) -> list[Section]:
        """Return the sections of one kind, in the order of the file."""
        return [section for section in self.sections if section.kind == kind]
