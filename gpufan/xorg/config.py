"""One configuration file of the X server and its sections, as values. `parser` reads it, `editor` changes it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from gpufan.core.pci import PciAddress
from gpufan.errors import InputError
from gpufan.xorg.parser import parse_sections
from gpufan.xorg.tokens import SourceText, Statement, Token, normalized_name


class Option(NamedTuple):
    """`Option "name" "value"`."""

    name: Token
    value: Token | None


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """A section: everything from `Section` to `EndSection`."""

    file: "ConfigFile"
    kind: str
    """Normalized by `normalized_name`: `device`, `screen`."""
    statements: tuple[Statement, ...]
    start: int
    end: int
    """Offset of the word `EndSection`."""

    @property
    def place(self) -> str:
        """Return file and line of the section, for messages."""
        return f"{self.file.name}:{self.file.line(self.start)}"

    @property
    def is_packaged(self) -> bool:
        """Whether the file of the section belongs to a package of the distribution."""
        return self.file.name.startswith("/usr/")

    def entries(self, keyword: str) -> list[Statement]:
        """Return the entries `keyword`, without those of subsections."""
        return [entry for entry in self.statements if entry.keyword == keyword and entry.block < 0]

    def value(self, keyword: str) -> Token | None:
        """Return the string of the last entry `keyword`, which is the valid entry; None if there is no such entry."""
        return next((entry.strings[0] for entry in reversed(self.entries(keyword)) if entry.strings), None)

    @property
    def name(self) -> str:
        """Return the Identifier of the section; empty if the section has none."""
        # An old Screen may have its name in the entry Driver.
        token = self.value("identifier") or (self.value("driver") if self.kind == "screen" else None)
        return token.text if token else ""

    @property
    def driver(self) -> str:
        """Return the name of the X driver of a Device, normalized; empty if it has no Driver."""
        token = self.value("driver")
        return normalized_name(token.text) if token else ""

    def bus_id_address(self) -> PciAddress | None:
        """Return the address in the BusID of a Device; None without a BusID. Raises InputError if it is no address."""
        token = self.value("busid")
        if token is None or not token.text:
            return None
        try:
            return PciAddress.from_bus_id(token.text)
        except InputError as error:
            raise self.file.error(token.start, str(error)) from None

    def is_at(self, address: PciAddress) -> bool:
        """Whether the BusID of a Device is `address`; False also if the BusID is not an address."""
        try:
            return self.bus_id_address() == address
        except InputError:
            return False

    def entry_naming(self, keyword: str, name: str) -> Statement | None:
        """Return the first entry with this keyword whose first string is `name`; None if there is none."""
        return next(
            (e for e in self.entries(keyword) if normalized_name(e.strings[0].text) == normalized_name(name)), None
        )

    def option(self, name: str) -> Option | None:
        """Return the first Option `name` outside of subsections, which is the valid one; None if there is none."""
        return next(self._options(name, -1), None)

    def subsection_options(self, name: str) -> list[Option]:
        """Return the valid Option `name` of each subsection that has one."""
        blocks = dict.fromkeys(entry.block for entry in self.statements if entry.block >= 0)
        return [option for block in blocks for option in [next(self._options(name, block), None)] if option]

    def _options(self, name: str, block: int) -> Iterator[Option]:
        """Return each Option `name` of the subsection that begins at `block`; -1 means outside of subsections."""
        for entry in self.statements:
            if entry.keyword == "option" and entry.block == block and normalized_name(entry.arguments[0].text) == name:
                yield Option(entry.arguments[0], entry.arguments[1] if len(entry.arguments) > 1 else None)


class ConfigFile(SourceText):
    """One parsed file."""

    def __init__(self, data: bytes, name: str) -> None:
        """Parse `data`; `name` is the path, for messages.

        Raises InputError, with line and column, for what the X server refuses.
        """
        super().__init__(data, name)
        self.sections = tuple(Section(self, *parsed) for parsed in parse_sections(self))

    def of_kind(self, kind: str) -> list[Section]:
        """Return the sections of one kind, in the order of the file."""
        return [section for section in self.sections if section.kind == kind]
