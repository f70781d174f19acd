"""xorg.conf as text: parse it as the X server does, and edit it without changing anything else. No I/O.

Bytes are decoded as Latin-1, so that every byte is one character, and any file can be encoded again unchanged.

Some rules of the server are surprising:

* It reads tokens, not lines, so a whole section may be on one line.
* A carriage return ends a comment.
* Case, `_`, space and tab do not count in names.
* If a section repeats an entry, the last one is valid. If two sections have the same name, the first one is valid.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from string import ascii_lowercase, ascii_uppercase
from typing import NamedTuple

from gpufan.errors import InputError

_TOKEN = re.compile(
    r"""
      (?P<blank>[ \t\r\n]+)
    | (?P<comment>\#[^\r\n]*)
    | (?P<string>"[^"\r\n]*"?)
    | (?P<number>0[xX][0-9a-fA-FxX.]*|[0-9][0-9.xX]*)
    | (?P<mark>[,-](?![A-Za-z]))
    | (?P<word>[^ \t\r\n\#]+)
    """,
    re.VERBOSE,
)
_NAME_FORM = str.maketrans(ascii_uppercase, ascii_lowercase, " \t_")
_INTEGER = re.compile(r"\s*(0[xX](?=[0-9a-fA-F])|0(?=[0-9])|)([0-9a-fA-F]{1,16})")
_BASES = {"": (10, "d"), "0": (8, "o"), "0x": (16, "x"), "0X": (16, "x")}


def same_name(text: str) -> str:
    """Normalize a name as the server does: two names are the same if their results are equal.

    >>> same_name("Cool_Bits") == same_name("coolbits")
    True
    """
    return text.translate(_NAME_FORM)


def readable(text: str) -> str:
    """Decode a part of the file as UTF-8, for messages."""
    return text.encode("latin-1").decode(errors="backslashreplace")


def with_bits(text: str, bits: int) -> str | None:
    """Return the number in `text` with `bits` set, in the same base; None if `text` is not a number.

    >>> with_bits("8", 4), with_bits("0x18", 4), with_bits("010", 4), with_bits("28", 4), with_bits("on", 4)
    ('12', '0x1c', '014', '28', None)
    """
    match = _INTEGER.fullmatch(text)
    if match is None:
        return None
    prefix, digits = match.groups()
    base, form = _BASES[prefix]
    try:
        value = int(digits, base)
    except ValueError:
        return None
    if value & bits == bits:
        return text
    return prefix + format(value | bits, form)


class Token(NamedTuple):
    """A token of the file; offsets in characters. Comments and blanks are not tokens."""

    kind: str
    """`word`, `string`, `number` or `mark`."""
    text: str
    """The text, for a string without its quotes."""
    start: int
    end: int


class Statement(NamedTuple):
    """A keyword and the tokens up to the next keyword."""

    keyword: str
    """Normalized by `same_name`."""
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

    kind: str
    """Normalized by `same_name`: `device`, `screen`."""
    statements: tuple[Statement, ...]
    start: int
    end: int
    """Offset of the word `EndSection`."""


class Config:
    """One file. Every method that reads an entry raises InputError if the server could not read that entry."""

    def __init__(self, data: bytes, name: str) -> None:
        """Parse `data`; `name` is used in messages. Raises InputError with line and column."""
        self.text = data.decode("latin-1")
        self.name = name
        self.sections = tuple(self._sections())

    def error(self, offset: int, message: str) -> InputError:
        """Make an error that names file, line and column."""
        line_start = self.text.rfind("\n", 0, offset) + 1
        return InputError(f"{self.name}:{self.line(offset)}:{offset - line_start + 1}: {message}")

    def line(self, offset: int) -> int:
        """Return the number of the line at `offset`, from 1."""
        return self.text.count("\n", 0, offset) + 1

    def of_kind(self, kind: str) -> list[Section]:
        """Return the sections of one kind, in order."""
        return [section for section in self.sections if section.kind == kind]

    def strings(self, section: Section, keyword: str) -> list[Token]:
        """Return the string of each entry `keyword` of a section, without its subsections."""
        found = []
        for statement in section.statements:
            if statement.keyword == keyword and not statement.in_subsection:
                string = next((token for token in statement.arguments if token.kind == "string"), None)
                if string is None:
                    raise self.error(statement.start, f"{keyword} needs a value in quotes")
                found.append(string)
        return found

    def string(self, section: Section, keyword: str) -> Token | None:
        """Return the string of the last entry `keyword`, which is the valid one; None if there is none."""
        return next(reversed(self.strings(section, keyword)), None)

    def identifier(self, section: Section) -> str:
        """Return the Identifier of a section."""
        token = self.string(section, "identifier")
        if token is None:
            raise self.error(section.start, "this Section needs an Identifier")
        return token.text

    def options(self, section: Section, name: str) -> list[Option]:
        """Return each option `name` of a section and its subsections."""
        found = []
        for statement in section.statements:
            if statement.keyword != "option":
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
        nul = self.text.find("\0")
        if nul >= 0:
            raise self.error(nul, "a zero byte: this is not a text file")
        for match in _TOKEN.finditer(self.text):
            kind, text = str(match.lastgroup), match[0]
            if kind in ("blank", "comment"):
                continue
            if kind == "string":
                # The server would take the rest of the line as the string. That is hardly intended.
                if len(text) == 1 or not text.endswith('"'):
                    raise self.error(match.start(), "this quote is not closed on its line")
                text = text[1:-1]
            elif kind == "word" and '"' in text:
                raise self.error(match.start() + text.index('"'), "a quote within a word: put a blank before it")
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
                if keyword != "section":
                    raise self.error(statement.start, "expected Section")
                opened, body = self._named(statement), []
            elif keyword == "section":
                raise self.error(
                    statement.start, f"Section within the one of line {self.line(opened.start)}: EndSection is missing"
                )
            elif keyword == "endsection":
                self._bare(statement)
                if inner is not None:
                    raise self.error(inner.start, "this SubSection is not closed: EndSubSection is missing")
                yield Section(same_name(opened.arguments[0].text), tuple(body), opened.start, statement.start)
                opened = None
            elif keyword == "subsection":
                if inner is not None:
                    raise self.error(statement.start, "SubSection within a SubSection: EndSubSection is missing")
                inner = self._named(statement)
            elif keyword == "endsubsection":
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
            raise self.error(statement.start, f"{statement.keyword} needs a name in quotes")
        for token in statement.arguments[1:]:
            raise self.error(token.start, "expected a keyword")
        return statement

    def _bare(self, statement: Statement) -> None:
        for token in statement.arguments:
            raise self.error(token.start, f"expected nothing after {statement.keyword}")


class Editor:
    """Collects changes to a file, and then makes all of them, with the line ends and indentation of the file."""

    def __init__(self, config: Config) -> None:
        self._text = config.text
        self._changes: dict[tuple[int, int], str] = {}
        self._entries: dict[int, list[str]] = {}
        self._indents = {section.end: self._indent(section) for section in config.sections}
        self._tail = ""
        line_end = re.search(r"\r?\n", self._text)
        self._line_end = line_end[0] if line_end else "\n"

    def replace(self, start: int, end: int, text: str) -> None:
        """Replace the characters from `start` to `end` by `text`."""
        self._changes[start, end] = text

    def add_entry(self, section: Section, entry: str) -> None:
        """Add an entry at the end of a section, unless the same entry was added already."""
        entries = self._entries.setdefault(section.end, [])
        if entry not in entries:
            entries.append(entry)

    def append(self, text: str) -> None:
        """Add `text`, which consists of complete lines, at the end of the file."""
        self._tail += text

    def result(self) -> bytes:
        """Return the file with all changes made."""
        result = self._text
        changes = [self._insertion(end, entries) for end, entries in self._entries.items()]
        changes += [(start, end, text) for (start, end), text in self._changes.items()]
        # From the end, so that offsets stay valid.
        for start, end, text in sorted(changes, key=lambda change: change[:2], reverse=True):
            result = result[:start] + text + result[end:]
        if self._tail and result:
            result += ("" if result.endswith("\n") else self._line_end) + self._line_end
        return (result + self._tail.replace("\n", self._line_end)).encode("latin-1")

    def _insertion(self, end: int, entries: list[str]) -> tuple[int, int, str]:
        """Return the change that puts the entries before the `EndSection` at `end`."""
        start = len(self._text[:end].rstrip(" \t"))
        if self._text[:start].endswith("\n"):
            return start, start, "".join(self._indents[end] + entry + self._line_end for entry in entries)
        # Other text is before `EndSection` on its line.
        return end, end, (" " if start == end else "") + "".join(entry + " " for entry in entries)

    def _indent(self, section: Section) -> str:
        """Return the indentation of the last entry of the section that begins a line."""
        for statement in reversed(section.statements):
            before = self._text[: statement.start]
            indent = before[len(before.rstrip(" \t")) :]
            if before.endswith("\n" + indent) and not statement.in_subsection:
                return indent
        return "    "
