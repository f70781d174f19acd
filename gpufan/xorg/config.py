"""One configuration file of the X server and its sections, as values. `parser` reads it, `editor` changes it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from gpufan.xorg.parser import parse
from gpufan.xorg.tokens import SourceText, Statement, Token, same_name


class Option(NamedTuple):
    """`Option "name" "value"`."""

    name: Token
    value: Token | None


@dataclass(frozen=True, slots=True, eq=False)
class Section:
    """From `Section` to `EndSection`."""

    file: "ConfigFile"
    kind: str
    """Normalized by `same_name`: `device`, `screen`."""
    statements: tuple[Statement, ...]
    start: int
    end: int
    """Offset of the word `EndSection`."""

    @property
    def place(self) -> str:
        """Return file and line, for messages."""
        return f"{self.file.name}:{self.file.line(self.start)}"

    def entries(self, keyword: str) -> list[Statement]:
        """Return the entries `keyword`, without those of subsections."""
        return [entry for entry in self.statements if entry.keyword == keyword and entry.block < 0]

    def value(self, keyword: str) -> Token | None:
        """Return the string of the last entry `keyword`, which is the valid one; None if there is none."""
        return next((entry.strings[0] for entry in reversed(self.entries(keyword)) if entry.strings), None)

    @property
    def name(self) -> str:
        """Return the Identifier; empty if the section has none."""
        # An old Screen may have its name in the entry Driver.
        token = self.value("identifier") or (self.value("driver") if self.kind == "screen" else None)
        return token.text if token else ""

    def option(self, name: str) -> Option | None:
        """Return the first Option `name`, which is the valid one; None if there is none outside of subsections."""
        return next(self._options(name, -1), None)

    def subsection_options(self, name: str) -> list[Option]:
        """Return the valid Option `name` of each subsection that has one."""
        blocks = dict.fromkeys(entry.block for entry in self.statements if entry.block >= 0)
        return [option for block in blocks for option in [next(self._options(name, block), None)] if option]

    def _options(self, name: str, block: int) -> Iterator[Option]:
        for entry in self.statements:
            if entry.keyword == "option" and entry.block == block and same_name(entry.arguments[0].text) == name:
                yield Option(entry.arguments[0], entry.arguments[1] if len(entry.arguments) > 1 else None)


class ConfigFile(SourceText):
    """One file, parsed."""

    def __init__(self, data: bytes, name: str) -> None:
        """Parse `data`; `name` is the path, for messages.

        Raises InputError, with line and column, for what the X server refuses.
        """
        super().__init__(data, name)
        self.sections = tuple(Section(self, *parsed) for parsed in parse(self))

    def of_kind(self, kind: str) -> list[Section]:
        """Return the sections of one kind, in order."""
        return [section for section in self.sections if section.kind == kind]
