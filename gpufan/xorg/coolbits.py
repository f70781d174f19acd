"""Which Coolbits option decides for an X screen, and numbers with bits set. No I/O."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from gpufan.xorg.config import Option, Section
from gpufan.xorg.configuration import Configuration
from gpufan.xorg.tokens import same_name

FANS_BIT = 4
"""The bit of Coolbits with which fans can be set."""

_KERNEL_DRIVER = "nvidia-drm"
_INTEGER = re.compile(r"\s*(0[xX](?=[0-9a-fA-F])|0(?=[0-9])|)([0-9a-fA-F]{1,16})")
_BASES = {"": (10, "d"), "0": (8, "o"), "0x": (16, "x"), "0X": (16, "x")}


class Setting(NamedTuple):
    """A Coolbits option and the section that it stands in."""

    section: Section
    option: Option


class DecidingCoolbits(NamedTuple):
    """The settings that decide for an X screen: Screen over Monitor over Device over OutputClass."""

    setting: Setting | None
    """None if there is no Coolbits."""
    of_depths: Sequence[Setting]
    """Settings in Display subsections; each overrides `setting` for one colour depth."""

    @property
    def allow_fans(self) -> bool:
        """Whether fans can be set with every colour depth. Raises InputError."""
        if self.setting is None:
            return False
        return all(bits_of(setting) & FANS_BIT for setting in (self.setting, *self.of_depths))


def number(text: str) -> int | None:
    """Return the number in `text` as the server reads it; None if it is not a whole number.

    >>> number("28"), number("0x1c"), number("034"), number("on"), number("08")
    (28, 28, 28, None, None)
    """
    match = _INTEGER.fullmatch(text)
    if match is None:
        return None
    try:
        return int(match[2], _BASES[match[1]][0])
    except ValueError:
        return None


def with_bits(text: str, bits: int) -> str | None:
    """Return the number in `text` with `bits` set, in the same base; None if `text` is not a number.

    >>> with_bits("8", 4), with_bits("0x18", 4), with_bits("010", 4), with_bits("28", 4), with_bits("on", 4)
    ('12', '0x1c', '014', '28', None)
    """
    value, match = number(text), _INTEGER.fullmatch(text)
    if value is None or match is None:
        return None
    return text if value & bits == bits else match[1] + format(value | bits, _BASES[match[1]][1])


def bits_of(setting: Setting) -> int:
    """Return the value of a setting; 0 without a value. Raises InputError if the driver cannot read it."""
    token = setting.option.value
    if token is None:
        return 0
    value = number(token.text)
    if value is None:
        raise setting.section.file.error(token.start, "Coolbits is not a whole number here: correct it or remove it")
    return value


def deciding_coolbits(configuration: Configuration, screen: Section | None, device: Section | None) -> DecidingCoolbits:
    """Return the settings of Coolbits that decide for an X screen."""
    sections = [section for section in (screen, device) if section is not None]
    if screen is not None:
        name = screen.value("monitor")
        monitor = configuration.named("monitor", name.text) if name else None
        sections[1:1] = [monitor] if monitor else []
    options = [Setting(screen, option) for option in screen.subsection_options("coolbits")] if screen else []
    for section in [*sections, *reversed(output_classes(configuration))]:
        if option := section.option("coolbits"):
            return DecidingCoolbits(Setting(section, option), options)
    return DecidingCoolbits(None, options)


def output_classes(configuration: Configuration) -> list[Section]:
    """Return the OutputClass sections that apply to cards of NVIDIA's kernel driver, the strongest last."""
    return [section for section in configuration.of_kind("outputclass") if _matches(section)]


def output_class_bits(configuration: Configuration) -> int:
    """Return the Coolbits that OutputClass sections set for a card without a Coolbits of its own."""
    for section in reversed(output_classes(configuration)):
        if option := section.option("coolbits"):
            return bits_of(Setting(section, option))
    return 0


def _matches(section: Section) -> bool:
    return all(_KERNEL_DRIVER in entry.strings[0].text.split("|") for entry in section.entries("matchdriver"))


def chosen_driver(configuration: Configuration) -> str:
    """Return the X driver that OutputClass sections choose for a card without Driver; empty if none does."""
    drivers = [driver.text for section in output_classes(configuration) if (driver := section.value("driver"))]
    return same_name(drivers[0]) if drivers else ""
