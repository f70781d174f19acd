"""xorg.conf as bytes: read as the X server reads it, and edited so that all else stays as it was. No I/O.

The server's rules, which are not those of the eye: tokens count and lines do not, so a whole section may stand on one
line; a carriage return ends a comment; case, `_`, space and tab do not count within names; in a section that repeats
an entry the last one holds, and of two sections with one name the first.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from gpufan.errors import InputError

_TOKEN = re.compile(
    rb"""
      (?P<blank>[ \t\r\n]+)
    | (?P<comment>\#[^\r\n]*)
    | (?P<string>"[^"\r\n]*"?)
    | (?P<number>0[xX][0-9a-fA-FxX.]*|[0-9][0-9.xX]*)
    | (?P<mark>[,-](?![A-Za-z]))
    | (?P<word>[^ \t\r\n\#]+)
    """,
    re.VERBOSE,
)
_IGNORED_IN_NAMES = re.compile(rb"[ \t_]")
_INTEGER = re.compile(rb"\s*(0[xX](?=[0-9a-fA-F])|0(?=[0-9])|)([0-9a-fA-F]{1,16})")
_BASES = {b"": 10, b"0": 8, b"0x": 16, b"0X": 16}


def same_name(text: bytes) -> bytes:
    """Bring a name into the form in which the server compares it.

    >>> same_name(b"Cool_Bits") == same_name(b"coolbits")
    True
    """
    return _IGNORED_IN_NAMES.sub(b"", text).lower()


def with_bits(text: bytes, bits: int) -> bytes | None:
    """Return the number in `text` with `bits` set, in the base that it was written in; None where it is no number.

    >>> with_bits(b"8", 4), with_bits(b"0x18", 4), with_bits(b"010", 4), with_bits(b"28", 4), with_bits(b"on", 4)
    (b'12', b'0x1c', b'014', b'28', None)
    """
    match = _INTEGER.fullmatch(text)
    if match is None:
        return None
    prefix, digits = match.groups()
    try:
        value = int(digits, _BASES[prefix])
    except ValueError:
        return None
    if value & bits == bits:
        return text
    return prefix + format(value | bits, {10: "d", 8: "o", 16: "x"}[_BASES[prefix]]).encode()


class Token(NamedTuple):
    """A piece of the file that the server looks at; offsets in bytes."""

    kind: str
    """`word`, `string`, `number` or `mark`."""
    text: bytes
    """Without the quotes of a string."""
    start: int
    end: int


class Statement(NamedTuple):
    """A keyword and all that follows it up to the next one."""

    keyword: bytes
    """As `same_name` gives it."""
    arguments: tuple[Token, ...]
    start: int
    in_subsection: bool = False


class Option(NamedTuple):
    """`Option "name" "value"`."""

    name: Token
    value: Token | None


@dataclass(frozen=True, slots=True)
class Section:
    """From `Section` to `EndSection`."""

    kind: bytes
    """As `same_name` gives it: `device`, `screen`."""
    statements: tuple[Statement, ...]
    start: int
    end: int
    """Offset of the word `EndSection`."""


class Config:
    """One file. Every method that reads an entry raises InputError where the server could not read it either."""

    def __init__(self, data: bytes, name: str) -> None:
        """Read `data`; `name` stands in messages. Raises InputError with line and column."""
        self.data = data
        self.name = name
        self.sections = tuple(self._sections())

    def error(self, offset: int, message: str) -> InputError:
        """Make an error that names file, line and column."""
        line_start = self.data.rfind(b"\n", 0, offset) + 1
        return InputError(f"{self.name}:{self.line(offset)}:{offset - line_start + 1}: {message}")

    def line(self, offset: int) -> int:
        """Return the number of the line at `offset`, from 1."""
        return self.data.count(b"\n", 0, offset) + 1

    def of_kind(self, kind: bytes) -> list[Section]:
        """Return the sections of one kind, in order."""
        return [section for section in self.sections if section.kind == kind]

    def strings(self, section: Section, keyword: bytes) -> list[Token]:
        """Return the string of each entry `keyword` of a section, those of its subsections left out."""
        found = []
        for statement in section.statements:
            if statement.keyword == keyword and not statement.in_subsection:
                string = next((token for token in statement.arguments if token.kind == "string"), None)
                if string is None:
                    raise self.error(statement.start, f"{keyword.decode()} needs a value in quotes")
                found.append(string)
        return found

    def string(self, section: Section, keyword: bytes) -> Token | None:
        """Return the string that holds for `keyword`, if it is there."""
        return next(reversed(self.strings(section, keyword)), None)

    def identifier(self, section: Section) -> bytes:
        """Return the name of a section as it is written."""
        token = self.string(section, b"identifier")
        if token is None:
            raise self.error(section.start, "this Section needs an Identifier")
        return token.text

    def options(self, section: Section, name: bytes) -> list[Option]:
        """Return each option `name` of a section, those of its subsections included."""
        found = []
        for statement in section.statements:
            if statement.keyword != b"option":
                continue
            arguments = statement.arguments
            if not arguments:
                raise self.error(statement.start, "Option needs a name in quotes")
            for place, token in enumerate(arguments):
                if token.kind != "string" or place > 1:
                    raise self.error(token.start, "Option takes a name and at most one value, each in quotes")
            if same_name(arguments[0].text) == name:
                found.append(Option(arguments[0], arguments[1] if len(arguments) > 1 else None))
        return found

    def _tokens(self) -> Iterator[Token]:
        nul = self.data.find(b"\0")
        if nul >= 0:
            raise self.error(nul, "a zero byte: this is not a text file")
        for match in _TOKEN.finditer(self.data):
            kind, text = str(match.lastgroup), match[0]
            if kind in ("blank", "comment"):
                continue
            if kind == "string":
                # The server takes the rest of the line for the string; whoever wrote it hardly meant that.
                if len(text) == 1 or not text.endswith(b'"'):
                    raise self.error(match.start(), "this quote is not closed on its line")
                text = text[1:-1]
            elif kind == "word" and b'"' in text:
                raise self.error(match.start() + text.index(b'"'), "a quote within a word: put a blank before it")
            yield Token(kind, text, match.start(), match.end())

    def _statements(self) -> Iterator[Statement]:
        word: Token | None = None
        arguments: list[Token] = []
        for token in self._tokens():
            if token.kind != "word":
                if word is None:
                    raise self.error(token.start, "expected Section")
                arguments.append(token)
                continue
            if word is not None:
                yield Statement(same_name(word.text), tuple(arguments), word.start)
            word, arguments = token, []
        if word is not None:
            yield Statement(same_name(word.text), tuple(arguments), word.start)

    def _sections(self) -> Iterator[Section]:
        opened: Statement | None = None
        inner: Statement | None = None
        body: list[Statement] = []
        for statement in self._statements():
            keyword = statement.keyword
            if opened is None:
                if keyword != b"section":
                    raise self.error(statement.start, "expected Section")
                opened, body = self._named(statement), []
            elif keyword == b"section":
                raise self.error(
                    statement.start, f"Section within the one of line {self.line(opened.start)}: EndSection is missing"
                )
            elif keyword == b"endsection":
                self._bare(statement)
                if inner is not None:
                    raise self.error(inner.start, "this SubSection is not closed: EndSubSection is missing")
                yield Section(same_name(opened.arguments[0].text), tuple(body), opened.start, statement.start)
                opened = None
            elif keyword == b"subsection":
                if inner is not None:
                    raise self.error(statement.start, "SubSection within a SubSection: EndSubSection is missing")
                inner = self._named(statement)
            elif keyword == b"endsubsection":
                self._bare(statement)
                if inner is None:
                    raise self.error(statement.start, "EndSubSection without a SubSection")
                inner = None
            else:
                body.append(statement._replace(in_subsection=inner is not None))
        if opened is not None:
            raise self.error(opened.start, "this Section is not closed: EndSection is missing")

    def _named(self, statement: Statement) -> Statement:
        if not statement.arguments or statement.arguments[0].kind != "string":
            raise self.error(statement.start, f"{statement.keyword.decode()} needs a name in quotes")
        for token in statement.arguments[1:]:
            raise self.error(token.start, "expected a keyword")
        return statement

    def _bare(self, statement: Statement) -> None:
        for token in statement.arguments:
            raise self.error(token.start, f"expected nothing after {statement.keyword.decode()}")


class Editor:
    """Changes to a file, gathered and then made at once, in the line endings and the indentation that it has."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._changes: dict[tuple[int, int], bytes] = {}
        self._entries: dict[int, list[bytes]] = {}
        self._indents = {section.end: self._indent(section) for section in config.sections}
        self._tail = b""
        first = config.data.find(b"\n")
        self._eol = b"\r\n" if first > 0 and config.data[first - 1 : first] == b"\r" else b"\n"

    def put(self, start: int, end: int, text: bytes) -> None:
        """Put `text` in the place of the bytes from `start` to `end`."""
        self._changes[start, end] = text

    def add_entry(self, section: Section, entry: bytes) -> None:
        """Add one entry at the end of a section, once."""
        entries = self._entries.setdefault(section.end, [])
        if entry not in entries:
            entries.append(entry)

    def append(self, text: bytes) -> None:
        """Add `text`, whole lines that end in a newline, at the end of the file."""
        self._tail += text

    def result(self) -> bytes:
        """Return the file with all changes made."""
        data = self._config.data
        changes = [self._insertion(end, entries) for end, entries in self._entries.items()]
        changes += [(start, end, text) for (start, end), text in self._changes.items()]
        # From the end, so that offsets hold; at one place entries go in first and so come to stand behind.
        for start, end, text in sorted(changes, key=lambda change: change[:2], reverse=True):
            data = data[:start] + text + data[end:]
        if self._tail and data:
            data += (b"" if data.endswith(b"\n") else self._eol) + self._eol
        return data + self._tail.replace(b"\n", self._eol)

    def _insertion(self, end: int, entries: list[bytes]) -> tuple[int, int, bytes]:
        """Return the change that puts the entries before the `EndSection` at `end`."""
        data = self._config.data
        start = end
        while start > 0 and data[start - 1 : start] in (b" ", b"\t"):
            start -= 1
        if data[start - 1 : start] == b"\n":
            return start, start, b"".join(self._indents[end] + entry + self._eol for entry in entries)
        # Something else stands before it on its line.
        return end, end, (b" " if start == end else b"") + b"".join(entry + b" " for entry in entries)

    def _indent(self, section: Section) -> bytes:
        """Return the blanks before the last entry that begins a line."""
        for statement in reversed(section.statements):
            before = self._config.data[: statement.start]
            indent = before[len(before.rstrip(b" \t")) :]
            if before.endswith(b"\n" + indent) and not statement.in_subsection:
                return indent
        return b"    "
