"""Read the number in the option Coolbits, find the Coolbits that decides for an X screen, and set bits in it.

No I/O.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from gpufan.xorg.config import Option, Section
from gpufan.xorg.configuration import Configuration
from gpufan.xorg.editor import Edits

FANS_BIT = 4
"""The bit of Coolbits that allows fans to be set."""

_INTEGER = re.compile(r"\s*(0[xX](?=[0-9a-fA-F])|0(?=[0-9])|)([0-9a-fA-F]{1,16})")
_BASES = {"": (10, "d"), "0": (8, "o"), "0x": (16, "x"), "0X": (16, "x")}


class Setting(NamedTuple):
    """A Coolbits option, and the section that contains the option."""

    section: Section
    option: Option


class DecidingCoolbits(NamedTuple):
    """The Coolbits settings that take effect for an X screen. A setting in a Screen overrides a setting in a Monitor.

    The Monitor overrides the Device, and the Device overrides an OutputClass.
    """

    setting: Setting | None
    """The setting that overrides all others; None if no section has Coolbits outside of Display subsections."""
    of_depths: Sequence[Setting]
    """The settings in Display subsections. Each of them overrides `setting` for one colour depth."""

    @property
    def allow_fans(self) -> bool:
        """Whether fans can be set at every colour depth. Raises InputError if a Coolbits is not a whole number."""
        if self.setting is None:
            return False
        return all(coolbits_of(setting) & FANS_BIT for setting in (self.setting, *self.of_depths))


def coolbits_number(text: str) -> int | None:
    """Convert `text`, the value of an option Coolbits, to a number, as the server does.

    Returns None if `text` is not a whole number.

    >>> [coolbits_number(text) for text in ("28", "0x1c", "034", "on", "08")]
    [28, 28, 28, None, None]
    """
    match = _INTEGER.fullmatch(text)
    if match is None:
        return None
    try:
        return int(match[2], _BASES[match[1]][0])
    except ValueError:
        return None


def with_coolbits(text: str, bits: int) -> str | None:
    """Set `bits` in the number `text`, and return the result as text in the same base.

    Returns None if `text` is not a whole number.

    >>> [with_coolbits(text, 4) for text in ("8", "0x18", "010", "28", "on")]
    ['12', '0x1c', '014', '28', None]
    """
    value, match = coolbits_number(text), _INTEGER.fullmatch(text)
    if value is None or match is None:
        return None
    return text if value & bits == bits else match[1] + format(value | bits, _BASES[match[1]][1])


def coolbits_of(setting: Setting) -> int:
    """Return the number in a setting; 0 if the option has no value.

    Raises InputError if the value is not a whole number.
    """
    token = setting.option.value
    if token is None:
        return 0
    value = coolbits_number(token.text)
    if value is None:
        raise setting.section.file.error(token.start, "Coolbits is not a whole number here: correct it or remove it")
    return value


def deciding_coolbits(configuration: Configuration, screen: Section | None, device: Section | None) -> DecidingCoolbits:
    """Return the Coolbits settings that take effect for an X screen.

    `screen` and `device` are the sections of the X screen. A section that does not exist is None.
    """
    sections = [section for section in (screen, device) if section is not None]
    if screen is not None:
        name = screen.value("monitor")
        monitor = configuration.named("monitor", name.text) if name else None
        sections[1:1] = [monitor] if monitor else []
    options = [Setting(screen, option) for option in screen.subsection_options("coolbits")] if screen else []
    for section in [*sections, *reversed(configuration.nvidia_output_classes())]:
        if option := section.option("coolbits"):
            return DecidingCoolbits(Setting(section, option), options)
    return DecidingCoolbits(None, options)


def output_class_coolbits(configuration: Configuration) -> int:
    """Return the Coolbits that OutputClass sections set for NVIDIA cards; 0 if they set no Coolbits.

    This Coolbits is valid for a card if the sections of the card set no Coolbits. Raises InputError if the Coolbits is
    not a whole number.
    """
    for section in reversed(configuration.nvidia_output_classes()):
        if option := section.option("coolbits"):
            return coolbits_of(Setting(section, option))
    return 0


def set_coolbits(
    configuration: Configuration, edits: Edits, screen: Section | None, device: Section, bits: int
) -> None:
    """Set `bits` in the Coolbits settings that take effect for an X screen. If there is none, add a new one.

    The changes are added to `edits`. `screen` and `device` are the sections of the X screen. Raises InputError if a
    Coolbits is not a whole number.
    """
    deciding = deciding_coolbits(configuration, screen, device)
    setting, own = deciding.setting, _section_for_coolbits(screen, device)
    value = coolbits_of(setting) if setting else 0
    # An OutputClass is for all cards, and a file of a package is not ours: a stronger section overrides both.
    if setting is None or setting.section.kind == "outputclass" or (setting.section.is_packaged and own is screen):
        if value & bits != bits:
            edits.add_entry(own, f'Option "Coolbits" "{value | bits}"')
    else:
        _set_bits_in_coolbits(edits, setting, bits)
    for setting in deciding.of_depths:
        _set_bits_in_coolbits(edits, setting, bits)


def _section_for_coolbits(screen: Section | None, device: Section) -> Section:
    """Return the section to which a new Coolbits is added: the Device or the Screen.

    If the file of the Device belongs to a package and the file of the Screen does not, this is the Screen. In all other
    cases, this is the Device.
    """
    return screen if screen and device.is_packaged and not screen.is_packaged else device


def _set_bits_in_coolbits(edits: Edits, setting: Setting, bits: int) -> None:
    """Set `bits` in an existing Coolbits option. The change is added to `edits`.

    Raises InputError if the value of the option is not a whole number.
    """
    coolbits_of(setting)
    token, editor = setting.option.value, edits.editor_of(setting.section.file)
    if token is None:
        end = setting.option.name.end
        editor.replace(end, end, f' "{bits}"')
    elif (text := with_coolbits(token.text, bits)) != token.text:
        editor.replace(token.start, token.end, f'"{text}"')
