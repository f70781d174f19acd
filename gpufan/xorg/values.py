"""Convert values of a configuration file to numbers and PCI addresses, as the X server does. No I/O."""

import re

from gpufan.core.pci import PciAddress
from gpufan.errors import InputError
from gpufan.xorg.tokens import normalized_name

_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?)(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))")
_REAL = re.compile(r"(?!0[xX])[0-9]+(\.[0-9]*)?")
_DIGITS = re.compile("[0-9]*")
_DRM_FOLDER = re.compile("/sys/devices/pci.*/([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}[.][0-7])/drm/card[0-9]+")
_MOST_DIGITS = 25
"""A decimal number with more digits is above the largest number of the server."""


def leading_number(text: str) -> tuple[int, str]:
    """Return the number at the beginning of `text`, and the text after the number.

    `0x` begins a hexadecimal number, `0` an octal number. The server keeps 32 bits of the number, the highest of which
    is the sign. If `text` begins with no number, return 0 and `text`.

    >>> leading_number("0x1c"), leading_number("034"), leading_number("1.5"), leading_number("-4")
    ((28, ''), (28, ''), (1, '.5'), (-4, ''))
    """
    match = _INTEGER.match(text)
    if match is None:
        return 0, text
    sign, hexadecimal, octal, decimal = match.groups()
    value = int(decimal[:_MOST_DIGITS]) if decimal else int(hexadecimal or octal, 16 if hexadecimal else 8)
    value = 2**64 - 1 if value >= 2**64 else -value if sign == "-" else value
    return (value + 2**31) % 2**32 - 2**31, text[match.end() :]


def leading_real(text: str) -> float:
    """Return the real number at the beginning of `text`, which begins with a digit.

    >>> leading_real("30.5.1"), leading_real("0x1F")
    (30.5, 31.0)
    """
    match = _REAL.match(text)
    return float(match[0]) if match else float(leading_number(text)[0])


def option_number(text: str) -> int | None:
    """Return the number in `text`, the value of an option. None if `text` is not a number: X then ignores the option.

    >>> [option_number(text) for text in ("28", "+28", "0x1c", "034", "on", "08", "4 ", "")]
    [28, 28, 28, 28, None, None, None, None]
    """
    value, rest = leading_number(text)
    return None if rest or not text else value


def bus_id_address(text: str) -> PciAddress | None:
    """Return the PCI address in `text`, the value of a BusID. Returns None if X finds no PCI device with this value.

    The numbers are decimal. A bus above 255 is in a higher domain. `platform:` is followed by a folder of sysfs.

    >>> bus_id_address("PCI:10@1:0:0") == bus_id_address("266:0") == PciAddress.parse("1:0a:00.0")
    True
    >>> bus_id_address("PCI:0x0a:0:0"), bus_id_address("0a:00.0")
    (None, None)
    """
    if not re.match("[0-9]", text):
        kind = next((part for part in text.split(":") if part), "")
        text = text[len(kind) + 1 :]
        if normalized_name(kind) == "platform" and (match := _DRM_FOLDER.fullmatch(text)):
            return PciAddress.parse(match[1])
        if normalized_name(kind) not in ("pci", "agp"):
            return None
    place, *rest = [part for part in text.split(":") if part] or [""]
    bus, _, domain = place.partition("@")
    fields = [bus, domain, *rest[:2]]
    if not rest or not all(_DIGITS.fullmatch(field) for field in fields):
        return None
    numbers = [_decimal(field) for field in fields]
    number = (numbers[0] + (numbers[1] << 8)) % 2**32
    try:
        return PciAddress(number >> 8, number & 0xFF, numbers[2], numbers[3] if len(numbers) > 3 else 0)
    except InputError:
        return None


def _decimal(digits: str) -> int:
    """Convert decimal digits to a number. The server keeps 32 bits of the number. No digits give 0."""
    return min(int(digits.lstrip("0")[:_MOST_DIGITS] or "0"), 2**63 - 1) % 2**32
