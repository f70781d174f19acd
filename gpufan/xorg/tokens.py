"""Split the text of a configuration file of X into tokens and statements. Compare names, and read booleans. No I/O.

Bytes are decoded as Latin-1. So every byte is one character, and any file can be encoded again unchanged.

Some rules of the server are surprising. The server reads tokens, not lines, so a whole section may be on one line. A
carriage return ends a comment and a string, but not a line. When the server compares names, it ignores case, `_`,
spaces and tabs. After Option, it skips a word that is not in quotes.
"""

import re
from collections import deque
from collections.abc import Iterator
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
    | (?P<comma>,(?![A-Za-z]))
    | (?P<dash>-(?![A-Za-z]))
    | (?P<word>[^ \t\r\n\#]+)
    """,
    re.VERBOSE,
)
_SKIPPED_ZEROS = re.compile(r"^[ \t\r]*\0[\0 \t\r]*$|^[^\0\r\n]*\0+(?=\n\r?\n|\n?\Z)", re.MULTILINE)
"""Zero bytes that the server skips: in a line without text, or before an empty line or the end of the file."""
_SKIPPING = {"option", "rgbpath", "inputdevices"}
"""Keywords after which the server skips a word."""
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_FIRST_READ, _NEXT_READ = 1022, 1024
"""The numbers of characters that the server reads at once from a line: at first, and then each time."""
_NAME_FORM = str.maketrans(ascii_uppercase, ascii_lowercase, " \t_")
_BOOLEANS = dict.fromkeys(("", "1", "on", "true", "yes"), True) | dict.fromkeys(("0", "off", "false", "no"), False)


def normalized_name(text: str) -> str:
    """Return a name in the form in which the server compares names: lower case, without blanks and `_`.

    >>> normalized_name("Cool_Bits") == normalized_name("coolbits")
    True
    """
    # For the server, a name of blanks differs from an empty name.
    return text.translate(_NAME_FORM) or (text[:1] and "_")


def x_boolean(text: str) -> bool | None:
    """Return the boolean that the server reads in `text`; None if `text` is not a boolean."""
    return _BOOLEANS.get(normalized_name(text))


def latin1_as_utf8(text: str) -> str:
    """Return `text` for a message. `text` was decoded as Latin-1; the result is decoded as UTF-8."""
    return text.encode("latin-1").decode(errors="backslashreplace")


class Token(NamedTuple):
    """A token of the text. Offsets count characters. Comments and blanks are not tokens."""

    kind: str
    """The kind of token: `word`, `string`, `number`, `comma` or `dash`."""
    text: str
    """The text of the token. The text of a string has no quotes."""
    start: int
    end: int

    @property
    def shown(self) -> str:
        """Return the text for a message."""
        return latin1_as_utf8(self.text)


class Statement(NamedTuple):
    """A keyword and the tokens up to the next keyword."""

    word: Token
    keyword: str
    """The word, normalized by `normalized_name`."""
    arguments: tuple[Token, ...]
    block: int = -1
    """Offset of the SubSection or Mode block that contains the statement; -1 outside of blocks."""

    @property
    def start(self) -> int:
        """Return the offset of the keyword in the text of the file."""
        return self.word.start

    @property
    def strings(self) -> list[Token]:
        """Return those arguments of the statement that are strings."""
        return [token for token in self.arguments if token.kind == "string"]


class SourceText:
    """The text of one file, with its name for messages."""

    def __init__(self, data: bytes, name: str) -> None:
        self.text = data.decode("latin-1")
        self.name = name

    @property
    def data(self) -> bytes:
        """Return the content of the file as bytes."""
        return self.text.encode("latin-1")

    def error(self, offset: int, message: str) -> InputError:
        """Return an InputError with `message`. The file, line and column of `offset` stand before the message."""
        line_start = self.text.rfind("\n", 0, offset) + 1
        return InputError(f"{self.place(offset)}:{offset - line_start + 1}: {message}")

    def place(self, offset: int) -> str:
        """Return the name of the file and the line at `offset`, for messages."""
        return f"{self.name}:{self.line(offset)}"

    def line(self, offset: int) -> int:
        """Return the number of the line at `offset`. The first line has the number 1."""
        return self.text.count("\n", 0, offset) + 1

    def statements(self) -> Iterator[Statement]:
        """Return all statements of the file.

        Raises InputError if the text does not begin with a keyword, or has a wrong token.
        """
        tokens = list(self._tokens())
        words: list[int] = []
        for place, token in enumerate(tokens):
            is_skipped = words and words[-1] == place - 1 and normalized_name(tokens[place - 1].text) in _SKIPPING
            if token.kind == "word" and not is_skipped:
                words.append(place)
        if tokens and tokens[0].kind != "word":
            raise self.error(tokens[0].start, "expected Section")
        for place, end in pairwise([*words, len(tokens)]):
            yield Statement(tokens[place], normalized_name(tokens[place].text), tuple(tokens[place + 1 : end]))

    def _tokens(self) -> Iterator[Token]:
        """Return all tokens of the file.

        Raises InputError for a zero byte, for a quote within a word, and where the server would read past its buffer.
        """
        visible = _SKIPPED_ZEROS.sub(lambda match: match[0].replace("\0", " "), self.text)
        nul = visible.find("\0")
        if nul >= 0:
            raise self.error(nul, "a zero byte: this is not a text file")
        torn = deque(self._torn_places())
        for match in _TOKEN.finditer(visible):
            kind, text = str(match.lastgroup), match[0]
            if kind == "blank":
                continue
            while torn and torn[0] <= match.start():
                torn.popleft()
            is_open = kind == "comment" or (kind == "string" and not text[1:].endswith('"'))
            if torn and match.end() + is_open > torn[0]:
                problem = "X misreads this line, which has a carriage return: end lines with line feeds"
                raise self.error(match.start(), problem)
            if kind == "comment":
                continue
            if kind == "string":
                text = text[1:].removesuffix('"')
            elif kind == "word" and '"' in text:
                raise self.error(match.start() + text.index('"'), "a quote within a word: put a blank before it")
            yield Token(kind, text, match.start(), match.end())

    def _torn_places(self) -> Iterator[int]:
        """Return the offsets at which the server ends a line although there is no line feed.

        The server reads a line in parts. It ends the line after the first part that has a carriage return. A token
        across this place is torn, and after an open comment or string the server reads past the end of its buffer.
        """
        if "\r" not in self.text:
            return
        for match in _LINE.finditer(self.text):
            start = match.start()
            while (carriage_return := self.text.find("\r", start, match.end())) >= 0:
                missing = carriage_return + 1 - start - _FIRST_READ
                start += _FIRST_READ + _NEXT_READ * max(0, -(-missing // _NEXT_READ))
                if start < match.end() or not match[0].endswith("\n"):
                    yield min(start, match.end())
