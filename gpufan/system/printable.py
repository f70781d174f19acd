"""Text from outside, before it is shown: a name or a line of somebody else's must not give orders to the terminal."""

from typing import Any


def printable(text: str) -> str:
    r"""`text` in one line, without characters that no terminal prints: controls, escapes, changes of direction.

    >>> printable("GTX\x1b[2J 1080\nTi")
    'GTX?[2J 1080 Ti'
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text)


def printable_values(value: Any) -> Any:
    """What JSON holds with every text in it made printable; its keys stay as they are."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {key: printable_values(held) for key, held in value.items()}
    return [printable_values(held) for held in value] if isinstance(value, list) else value
