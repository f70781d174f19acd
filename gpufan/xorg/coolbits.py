"""Read the number in the option Coolbits, find the Coolbits that decides for an X screen, and set bits in it.

No I/O.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from gpufan.xorg.config import Option, Section
from gpufan.xorg.configuration import Configuration
from gpufan.xorg.editor import Edits
from gpufan.xorg.values import option_number

FANS_BIT = 4
"""The bit of Coolbits that allows fans to be set."""

_PREFIX = re.compile("0[xX]|0(?=.)")
_FORMATS = {"0": "o", "0x": "x", "0X": "x"}


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
    def is_of_output_class(self) -> bool:
        """Whether `setting` is in an OutputClass."""
        return self.setting is not None and self.setting.section.kind == "outputclass"

    @property
    def without_fans(self) -> list[Setting]:
        """Return the settings with which fans cannot be set."""
        settings = [self.setting, *self.of_depths] if self.setting else self.of_depths
        return [setting for setting in settings if not coolbits_of(setting) & FANS_BIT]


def with_coolbits(text: str, bits: int) -> str:
    """Set `bits` in the number `text`, and return the result as text in the same base.

    If `text` is not a number, return `bits`: X ignores such a Coolbits.

    >>> [with_coolbits(text, 4) for text in ("8", "0x18", "010", "28", "on")]
    ['12', '0x1c', '014', '28', '4']
    """
    value = option_number(text)
    if value is None:
        return str(bits)
    if value & bits == bits:
        return text
    prefix = _PREFIX.match(text) if value >= 0 else None
    return f"{prefix[0]}{value | bits:{_FORMATS[prefix[0]]}}" if prefix else str(value | bits)


def coolbits_of(setting: Setting) -> int:
    """Return the number in a setting. Returns 0 if the option has no value, or if X ignores its value."""
    token = setting.option.value
    return option_number(token.text) or 0 if token else 0


def deciding_coolbits(configuration: Configuration, screen: Section | None, device: Section | None) -> DecidingCoolbits:
    """Return the Coolbits settings that take effect for an X screen.

    `screen` and `device` are the sections of the X screen. A section that does not exist is None.
    """
    monitor = configuration.monitor_of_screen(screen) if screen else None
    options = [Setting(screen, option) for option in screen.subsection_options("coolbits")] if screen else []
    for section in (screen, monitor, device, *reversed(configuration.output_classes())):
        if section and (option := section.option("coolbits")):
            return DecidingCoolbits(Setting(section, option), options)
    return DecidingCoolbits(None, options)


def output_class_coolbits(configuration: Configuration) -> int:
    """Return the Coolbits that OutputClass sections set for NVIDIA cards; 0 if they set no Coolbits.

    This Coolbits is valid for a card if the sections of the card set no Coolbits.
    """
    setting = deciding_coolbits(configuration, None, None).setting
    return coolbits_of(setting) if setting else 0


def set_coolbits(
    configuration: Configuration,
    edits: Edits,
    screen: Section | None,
    device: Section,
    bits: int,
    output_classes_apply: bool,
) -> None:
    """Set `bits` in the Coolbits settings that take effect for an X screen. If there is none, add a new one.

    The changes are added to `edits`. `screen` and `device` are the sections of the X screen. `output_classes_apply`
    says whether X uses OutputClass sections for the card.
    """
    deciding = deciding_coolbits(configuration, screen, device)
    setting, own = deciding.setting, _section_for_coolbits(screen, device)
    value = coolbits_of(setting) if setting else 0
    is_of_class = deciding.is_of_output_class
    # An OutputClass is for all cards, and a file of a package is not ours: a stronger section overrides both.
    if setting is None or is_of_class or (setting.section.is_packaged and own is screen):
        if value & bits != bits or (is_of_class and not output_classes_apply):
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
    """Set `bits` in an existing Coolbits option. The change is added to `edits`."""
    token, editor = setting.option.value, edits.editor_of(setting.section.file)
    if token is None:
        name = setting.option.name
        editor.replace(name.start, name.end, f'"{name.text}" "{bits}"')
    elif (text := with_coolbits(token.text, bits)) != token.text:
        editor.replace(token.start, token.end, f'"{text}"')
