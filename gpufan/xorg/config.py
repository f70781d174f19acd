"""xorg.conf as bytes: parsed as the X server parses it, and edited without changing anything else. No I/O.

Some rules of the server are surprising: it reads tokens, not lines, so that a section may be on one line; a carriage
return ends a comment; case, `_`, space and tab do not count in names; the last of repeated entries in a section is
valid, but the first of two sections with the same name.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
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
    """Return a name in the form in which the server compares names.

    >>> same_name(b"Cool_Bits") == same_name(b"coolbits")
    True
    """
    return _IGNORED_IN_NAMES.sub(b"", text).lower()


def with_bits(text: bytes, bits: int) -> bytes | None:
    """Return the number in `text` with `bits` set, in the same base; None if `text` is not a number.

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
    """A token of the file; offsets in bytes. Comments and blanks are not tokens."""

    kind: str
    """`word`, `string`, `number` or `mark`."""
    text: bytes
    """Without the quotes of a string."""
    start: int
    end: int


class Statement(NamedTuple):
    """A keyword and the tokens up to the next keyword."""

    keyword: bytes
    """In the form of `same_name`."""
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
    """In the form of `same_name`: `device`, `screen`."""
    statements: tuple[Statement, ...]
    start: int
    end: int
    """Offset of the word `EndSection`."""


class Config:
    """One file. Every method that reads an entry raises InputError if the server could not read it either."""

    def __init__(self, data: bytes, name: str) -> None:
        """Parse `data`; `name` is used in messages. Raises InputError with line and column."""
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
        """Return the string of each entry `keyword` of a section, without its subsections."""
        found = []
        for statement in section.statements:
            if statement.keyword == keyword and not statement.in_subsection:
                string = next((token for token in statement.arguments if token.kind == "string"), None)
                if string is None:
                    raise self.error(statement.start, f"{keyword.decode()} needs a value in quotes")
                found.append(string)
        return found

    def string(self, section: Section, keyword: bytes) -> Token | None:
        """Return the string of the valid entry `keyword`; None if there is none."""
        return next(reversed(self.strings(section, keyword)), None)

    def identifier(self, section: Section) -> bytes:
        """Return the Identifier of a section."""
        token = self.string(section, b"identifier")
        if token is None:
            raise self.error(section.start, "this Section needs an Identifier")
        return token.text

    def options(self, section: Section, name: bytes) -> list[Option]:
        """Return each option `name` of a section and its subsections."""
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
                # The server would read the rest of the line as the string, which is hardly intended.
                if len(text) == 1 or not text.endswith(b'"'):
                    raise self.error(match.start(), "this quote is not closed on its line")
                text = text[1:-1]
            elif kind == "word" and b'"' in text:
                raise self.error(match.start() + text.index(b'"'), "a quote within a word: put a blank before it")
            yield Token(kind, text, match.start(), match.end())

    def _statements(self) -> Iterator[Statement]:
        tokens = list(self._tokens())
        words = [place for place, token in enumerate(tokens) if token.kind == "word"]
        if tokens and tokens[0].kind != "word":
            raise self.error(tokens[0].start, "expected Section")
        for place, end in pairwise([*words, len(tokens)]):
            yield Statement(same_name(tokens[place].text), tuple(tokens[place + 1 : end]), tokens[place].start)

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
    """Changes to a file, collected and then made at once, with the file's own line ends and indentation."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._changes: dict[tuple[int, int], bytes] = {}
        self._entries: dict[int, list[bytes]] = {}
        self._indents = {section.end: self._indent(section) for section in config.sections}
        self._tail = b""
        first = config.data.find(b"\n")
        self._eol = b"\r\n" if first > 0 and config.data[first - 1 : first] == b"\r" else b"\n"

    def replace(self, start: int, end: int, text: bytes) -> None:
        """Replace the bytes from `start` to `end` by `text`."""
        self._changes[start, end] = text

    def add_entry(self, section: Section, entry: bytes) -> None:
        """Add an entry at the end of a section, unless it was added already."""
        entries = self._entries.setdefault(section.end, [])
        if entry not in entries:
            entries.append(entry)

    def append(self, text: bytes) -> None:
        """Add `text`, which consists of complete lines, at the end of the file."""
        self._tail += text

    def result(self) -> bytes:
        """Return the file with all changes made."""
        data = self._config.data
        changes = [self._insertion(end, entries) for end, entries in self._entries.items()]
        changes += [(start, end, text) for (start, end), text in self._changes.items()]
        # From the end, so that offsets stay valid.
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
        # There is something else before it on its line.
        return end, end, (b" " if start == end else b"") + b"".join(entry + b" " for entry in entries)

    def _indent(self, section: Section) -> bytes:
        """Return the blanks before the last entry that begins a line."""
        for statement in reversed(section.statements):
            before = self._config.data[: statement.start]
            indent = before[len(before.rstrip(b" \t")) :]
            if before.endswith(b"\n" + indent) and not statement.in_subsection:
                return indent
        return b"    "
