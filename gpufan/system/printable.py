"""Make text from outside safe to show, so that the text cannot control the terminal."""

from typing import Any


def printable(text: str) -> str:
    r"""Return `text` as one line, without characters that control the terminal or change the writing direction.

    >>> printable("GTX\x1b[2J 1080\nTi")
    'GTX?[2J 1080 Ti'
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text)


def printable_values(value: Any) -> Any:
    """Return a copy of the JSON value `value`, in which every string is made printable. Keys stay unchanged."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {key: printable_values(item) for key, item in value.items()}
    return [printable_values(item) for item in value] if isinstance(value, list) else value
