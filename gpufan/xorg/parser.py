"""Parse the statements of a configuration file into sections, and refuse what the X server refuses. No I/O.

The module `keywords` has the rules. The module `configuration` checks the references between sections.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from gpufan.errors import InputError
from gpufan.xorg import keywords
from gpufan.xorg.tokens import SourceText, Statement, normalized_name, x_boolean
from gpufan.xorg.values import leading_number, leading_real

_EXPECTED = {"s": "a value in quotes", "n": "a number"}
_TITLES = {"section": "Section", "subsection": "SubSection", "mode": "Mode"}


@dataclass(frozen=True, slots=True, eq=False)
class ParsedSection:
    """A section: everything from `Section` to `EndSection`. `start` is the offset of the word `Section`."""

    kind: str
    """The kind of section, normalized by `normalized_name`, for example `device` or `screen`."""
    statements: tuple[Statement, ...]
    start: int
    end: int
    """Offset of the word `EndSection`."""


def parse_sections(source: SourceText) -> Iterator[ParsedSection]:
    """Return the sections of a file. Raises InputError, with line and column, if X would refuse the file."""
    statements = source.statements()
    for opened in statements:
        if opened.keyword != "section":
            raise source.error(opened.start, "expected Section")
        _check_arguments(source, opened, "s")
        kind = normalized_name(opened.arguments[0].text)
        if kind not in keywords.SECTIONS:
            name = opened.arguments[0].shown
            problem = f'X knows no Section "{name}"{_parse_error_hint(kind, keywords.SECTIONS)}'
            raise source.error(opened.arguments[0].start, problem)
        yield _SectionParser(source, opened, kind).read(statements)


class _SectionParser:
    """Parses one section of the kind `kind`. `opened` is the statement that opens the section."""

    def __init__(self, source: SourceText, opened: Statement, kind: str) -> None:
        self.source = source
        self.opened = opened
        self.kind = kind
        self.block: Statement | None = None
        """The statement that opened the current SubSection or Mode block; None outside of such a block."""
        self.body: list[Statement] = []
        self.followers: Mapping[str, str] = {}
        """The keywords that are valid only directly after the last entry, with the pattern of their arguments."""

    def read(self, statements: Iterator[Statement]) -> ParsedSection:
        """Parse the statements up to EndSection, and return the section.

        Raises InputError if X would refuse the section.
        """
        for entry in statements:
            if entry.keyword != normalized_name(self._closing):
                self._add(entry)
                continue
            _check_arguments(self.source, entry, "")
            if self.block is None:
                self._check_identifier()
                return ParsedSection(self.kind, tuple(self.body), self.opened.start, entry.start)
            if self.block.keyword == "mode":
                self._check_mode(self.block)
            self.block = None
        raise self._unclosed()

    def _add(self, entry: Statement) -> None:
        """Check one entry, and add the entry to the section. If the entry opens a block, open the block.

        Raises InputError if X would refuse the entry.
        """
        allowed = self._allowed()
        if entry.keyword in self.followers:
            _check_arguments(self.source, entry, self.followers[entry.keyword])
            if self.kind == "serverlayout":
                self.followers = {}
                self.body.append(entry)
        elif entry.keyword == "subsection" and self.block is None and self.kind in keywords.SUBSECTIONS:
            _check_arguments(self.source, entry, "s")
            self.block = entry
        elif entry.keyword in allowed:
            _check_arguments(self.source, entry, allowed[entry.keyword])
            self._check_value(entry)
            self.body.append(entry._replace(block=-1 if self.block is None else self.block.start))
            self.followers = self._followers_of(entry)
            if entry.keyword == "mode" and self.kind in ("monitor", "modes"):
                self.block = entry
        elif entry.keyword in ("section", "endsection", "subsection"):
            raise self._unclosed()
        else:
            raise self._unknown(entry, [*allowed, normalized_name(self._closing)])

    def _allowed(self) -> Mapping[str, str]:
        """Return the keywords that are valid in the open block, with the pattern of their arguments.

        If no block is open, return the keywords of the section.
        """
        if self.block is None:
            return keywords.SECTIONS[self.kind]
        return keywords.MODE if self.block.keyword == "mode" else keywords.SUBSECTIONS[self.kind]

    def _followers_of(self, entry: Statement) -> Mapping[str, str]:
        """Return the keywords that are valid only directly after `entry`, with the pattern of their arguments."""
        if entry.keyword == "screen" and (len(entry.strings) > 1 or entry.arguments[-1].kind != "string"):
            return {}  # it has a position already
        return keywords.FOLLOWERS.get((self.kind, entry.keyword), {}) if self.block is None else {}

    @property
    def _closing(self) -> str:
        """The keyword that closes the open block. If no block is open, the keyword that closes the section."""
        return f"End{_TITLES[(self.block or self.opened).keyword]}"

    def _unclosed(self) -> InputError:
        """Return the error which says that the open block, or else the section, is not closed."""
        opened = self.block or self.opened
        return self.source.error(
            opened.start, f"this {_TITLES[opened.keyword]} is not closed: {self._closing} is missing"
        )

    def _unknown(self, entry: Statement, known: Iterable[str]) -> InputError:
        """Return the error which says that X does not know the keyword of `entry` here.

        `known` are the keywords that X knows here.
        """
        title = _TITLES[(self.block or self.opened).keyword]
        name = (self.block or self.opened).arguments[0].shown
        return self.source.error(
            entry.start,
            f'X knows no keyword {entry.word.shown} in {title} "{name}"' + _parse_error_hint(entry.keyword, known),
        )

    def _check_value(self, entry: Statement) -> None:
        """Raise InputError if X refuses a value of an entry, although the value is a string or number as it must be."""
        word, values = entry.word.shown, entry.arguments
        if entry.keyword in keywords.BOOLEANS and x_boolean(values[0].text) is None:
            raise self.source.error(values[0].start, f"{word} must be on or off")
        if self.kind == "dri" and entry.keyword == "mode" and not re.match("0(?![xX])", values[0].text):
            raise self.source.error(values[0].start, f"{word} must be octal, for example 0666")
        for token in values if self.kind == "pointer" else ():
            if token.kind == "number" and leading_number(token.text)[0] < 0:
                raise self.source.error(token.start, f"this number of {word} is too large")
        for flag in values if entry.keyword == "flags" else ():
            if normalized_name(flag.text) not in keywords.FLAGS:
                problem = f'X knows no flag "{flag.shown}"'
                raise self.source.error(
                    flag.start, problem + _parse_error_hint(normalized_name(flag.text), keywords.FLAGS)
                )
        if entry.keyword in ("horizsync", "vertrefresh"):
            self._check_sync_ranges(entry)

    def _check_sync_ranges(self, entry: Statement) -> None:
        """Raise InputError if a range of HorizSync or VertRefresh is empty, or if the Monitor has too many ranges."""
        word, values = entry.word.shown, entry.arguments
        for low, dash, high in zip(values, values[1:], values[2:], strict=False):
            if dash.kind == "dash" and leading_real(high.text) < leading_real(low.text):
                raise self.source.error(low.start, f"this range of {word} must begin with the lower number")
        same = [*(e for e in self.body if e.keyword == entry.keyword), entry]
        numbers = sum(token.kind == "number" for e in same for token in e.arguments)
        dashes = sum(token.kind == "dash" for e in same for token in e.arguments)
        if numbers - dashes > keywords.MAX_SYNC_RANGES:
            raise self.source.error(entry.start, f"more than {keywords.MAX_SYNC_RANGES} ranges of {word} in a Monitor")

    def _check_mode(self, block: Statement) -> None:
        """Raise InputError if one of DotClock, HTimings and VTimings is missing in a Mode block.

        `block` is the statement that opens the block.
        """
        present = {entry.keyword for entry in self.body if entry.block == block.start}
        for keyword in ("dotclock", "htimings", "vtimings"):
            if keyword not in present:
                raise self.source.error(block.start, f"this Mode needs {keyword}")

    def _check_identifier(self) -> None:
        """Raise InputError if the section does not have exactly one name, or has more GPUDevices than X allows.

        Sections of the kinds in `keywords.UNNAMED` are not checked.
        """
        if self.kind in keywords.UNNAMED:
            return
        # An old Screen may have its name in the entry Driver.
        words = ("identifier", "driver") if self.kind == "screen" else ("identifier",)
        names = [entry for entry in self.body if entry.keyword in words and entry.block < 0]
        if not names:
            raise self.source.error(self.opened.start, "this Section needs an Identifier")
        if len(names) > 1:
            raise self.source.error(names[1].start, "this Section has an Identifier already")
        gpu_devices = [entry for entry in self.body if entry.keyword == "gpudevice"]
        if len(gpu_devices) > keywords.MAX_GPU_DEVICES:
            raise self.source.error(gpu_devices[-1].start, f"more than {keywords.MAX_GPU_DEVICES} GPUDevices")


def _check_arguments(source: SourceText, entry: Statement, pattern: str) -> None:
    """Raise InputError if the arguments of `entry` do not match `pattern`.

    The module `keywords` explains the patterns.
    """
    kinds = "".join(token.kind[0] for token in entry.arguments)
    if re.fullmatch(pattern, kinds):
        return
    word = entry.word.shown
    # The longest valid beginning shows where the fault is.
    valid = next((end for end in reversed(range(len(kinds))) if re.fullmatch(pattern, kinds[:end])), None)
    if valid is None or (pattern[:1] == "s" and kinds[:1] != "s"):
        raise source.error(entry.start, f"{word} needs {_EXPECTED.get(pattern[0], 'other values')}")
    raise source.error(entry.arguments[valid].start, f"expected a keyword after the values of {word}")


def _parse_error_hint(word: str, known: Iterable[str]) -> str:
    """Return a hint for the end of an error message: which word in `known` is most similar to `word`.

    Returns an empty string if no word is similar.
    """
    close = get_close_matches(word, known, 1)
    return f": did you mean {close[0]}?" if close else ""
