"""PCI addresses, in the spellings of NVML, lspci and xorg.conf. This module does no I/O."""

import re
from dataclasses import dataclass

from gpufan.errors import InputError

_HEXADECIMAL = re.compile(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])", re.IGNORECASE)
_XORG = re.compile(r"(?:(?:pci|agp):)?([0-9]{1,10})(?:@([0-9]{1,10}))?:([0-9]{1,3})(?::([0-9]{1,3}))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, order=True)
class PciAddress:
    """The address of one function of a PCI device. Addresses sort in the order of lspci.

    The example shows one card in three spellings. Only the spelling of xorg.conf is decimal.

    >>> card = PciAddress.parse("00000000:0A:00.0")
    >>> card.nvml, card.lspci, card.xorg
    ('00000000:0A:00.0', '0000:0a:00.0', 'PCI:10:0:0')
    >>> PciAddress.parse("0a:00.0") == PciAddress.parse("PCI:10@0:0:0") == card
    True
    >>> PciAddress.parse("10000:E1:00.0").xorg
    'PCI:225@65536:0:0'
    """

    domain: int
    bus: int
    device: int
    function: int

    def __post_init__(self) -> None:
        if not (self.domain < 2**32 and self.bus < 2**8 and self.device < 2**5 and self.function < 2**3):
            raise InputError(
                f"no PCI device can have domain {self.domain}, bus {self.bus}, device {self.device}, function "
                f"{self.function}: the highest are 4294967295, 255, 31 and 7"
            )

    @classmethod
    def parse(cls, text: str) -> "PciAddress":
        """Convert `text` to an address. Raises InputError if `text` is not a PCI address.

        The spelling is that of NVML or lspci (hexadecimal, with a dot), or that of xorg.conf (decimal).

        >>> PciAddress.parse("10:0:0").lspci  # without a dot it is xorg.conf's; `PCI:` and the function are optional
        '0000:0a:00.0'
        >>> PciAddress.parse("GPU 0")
        Traceback (most recent call last):
        gpufan.errors.InputError: 'GPU 0' is not a PCI address: write it as lspci does, for example 0a:00.0
        """
        if match := _HEXADECIMAL.fullmatch(text.strip()):
            domain, bus, device, function = (int(part or "0", 16) for part in match.groups())
            return cls(domain, bus, device, function)
        if match := _XORG.fullmatch(text.strip()):
            bus, domain, device, function = (int(part or "0") for part in match.groups())
            # The X server numbers buses across domains: bus 256 is bus 0 of domain 1.
            return cls(domain + (bus >> 8), bus & 0xFF, device, function)
        raise InputError(f"{text!r} is not a PCI address: write it as lspci does, for example 0a:00.0")

    @property
    def nvml(self) -> str:
        """The address as NVML prints it: hexadecimal, upper case, eight digits of domain."""
        return f"{self.domain:08X}:{self.bus:02X}:{self.device:02X}.{self.function}"

    @property
    def lspci(self) -> str:
        """The address as `lspci -D` and sysfs print it: hexadecimal, lower case."""
        return f"{self.domain:04x}:{self.bus:02x}:{self.device:02x}.{self.function}"

    @property
    def xorg(self) -> str:
        """The address as a BusID of xorg.conf: decimal, with the domain only if it is not 0."""
        domain = f"@{self.domain}" if self.domain else ""
        return f"PCI:{self.bus}{domain}:{self.device}:{self.function}"

    def __str__(self) -> str:
        return self.lspci
