"""Edit the text of configuration files: replace words, add entries, append sections. No I/O."""

import re

from gpufan.xorg.config import ConfigFile, Section
from gpufan.xorg.configuration import Configuration


class Editor:
    """Collects the changes of one file. `result` makes all of these changes.

    New lines get the line ends and the indentation of the file.
    """

    def __init__(self, file: ConfigFile) -> None:
        self._text = file.text
        self._changes: dict[tuple[int, int], str] = {}
        self._entries: dict[int, list[str]] = {}
        self._indents = {section.end: self._indent(section) for section in file.sections}
        self._tail = ""
        line_end = re.search(r"\r?\n", self._text)
        self._line_end = line_end[0] if line_end else "\n"

    def replace(self, start: int, end: int, text: str) -> None:
        """Replace the text from the offset `start` up to the offset `end` by `text`. The character at `end` stays."""
        self._changes[start, end] = text

    def add_entry(self, section: Section, entry: str) -> None:
        """Add the line `entry` at the end of a section. If this line was added already, do nothing."""
        entries = self._entries.setdefault(section.end, [])
        if entry not in entries:
            entries.append(entry)

    def append(self, text: str) -> None:
        """Add `text`, which consists of complete lines, at the end of the file."""
        self._tail += text

    def result(self) -> bytes:
        """Return the content of the file with all changes made."""
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
        """Return the change that adds `entries` before `EndSection`, as start, end and new text.

        `end` is the offset of the word `EndSection`.
        """
        start = len(self._text[:end].rstrip(" \t"))
        if self._text[:start].endswith("\n"):
            return start, start, "".join(self._indents[end] + entry + self._line_end for entry in entries)
        # Other text is before `EndSection` on its line.
        return end, end, (" " if start == end else "") + "".join(entry + " " for entry in entries)

    def _indent(self, section: Section) -> str:
        """Return the indentation for new entries of a section.

        This is the indentation of the last entry that begins a line and is outside of subsections. If there is no such
        entry, return four spaces.
        """
        for statement in reversed(section.statements):
            before = self._text[: statement.start]
            indent = before[len(before.rstrip(" \t")) :]
            if before.endswith("\n" + indent) and statement.block < 0:
                return indent
        return "    "


class Edits:
    """Collects changes of several files of a configuration. A file with several names has one editor."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._editors: dict[str, Editor] = {}

    def editor_of(self, file: ConfigFile) -> Editor:
        """Return the editor of one file."""
        return self._editors.setdefault(file.path, Editor(file))

    def add_entry(self, section: Section, entry: str) -> None:
        """Add an entry at the end of a section."""
        self.editor_of(section.file).add_entry(section, entry)

    def apply(self) -> Configuration:
        """Return the configuration with all changes made. If no file changes, return the same object.

        Raises InputError if X would refuse a changed file.
        """
        before = {file.path: file.data for file in self._configuration.files}
        after = {path: editor.result() for path, editor in self._editors.items()}
        changed = {path: data for path, data in after.items() if data != before[path]}
        return self._configuration.with_content(changed) if changed else self._configuration
