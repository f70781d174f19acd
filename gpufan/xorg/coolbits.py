"""The option Coolbits: read its number, find the option that decides for an X screen, and set bits in it. No I/O."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from gpufan.xorg.config import Option, Section
from gpufan.xorg.configuration import Configuration
from gpufan.xorg.editor import Edits

FANS_BIT = 4
"""The bit of Coolbits with which fans can be set."""

_INTEGER = re.compile(r"\s*(0[xX](?=[0-9a-fA-F])|0(?=[0-9])|)([0-9a-fA-F]{1,16})")
_BASES = {"": (10, "d"), "0": (8, "o"), "0x": (16, "x"), "0X": (16, "x")}


class Setting(NamedTuple):
    """A Coolbits option and its section."""

    section: Section
    option: Option


class DecidingCoolbits(NamedTuple):
    """The settings that decide for an X screen. The strongest section is Screen, then Monitor, Device, OutputClass."""

    setting: Setting | None
    """None if there is no Coolbits."""
    of_depths: Sequence[Setting]
    """Settings in Display subsections; each overrides `setting` for one colour depth."""

    @property
    def allow_fans(self) -> bool:
        """Whether fans can be set with every colour depth. Raises InputError."""
        if self.setting is None:
            return False
        return all(coolbits_of(setting) & FANS_BIT for setting in (self.setting, *self.of_depths))


def coolbits_number(text: str) -> int | None:
    """Return the value of a Coolbits, as the server reads it; None if `text` is not a whole number.

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
    """Return the number `text` with `bits` set, in the same base; None if `text` is not a number.

    >>> [with_coolbits(text, 4) for text in ("8", "0x18", "010", "28", "on")]
    ['12', '0x1c', '014', '28', None]
    """
    value, match = coolbits_number(text), _INTEGER.fullmatch(text)
    if value is None or match is None:
        return None
    return text if value & bits == bits else match[1] + format(value | bits, _BASES[match[1]][1])


def coolbits_of(setting: Setting) -> int:
    """Return the number in a setting; 0 if the setting has no value. Raises InputError if the driver cannot read it."""
    token = setting.option.value
    if token is None:
        return 0
    value = coolbits_number(token.text)
    if value is None:
        raise setting.section.file.error(token.start, "Coolbits is not a whole number here: correct it or remove it")
    return value


def deciding_coolbits(configuration: Configuration, screen: Section | None, device: Section | None) -> DecidingCoolbits:
    """Return the settings of Coolbits that decide for an X screen with these sections. A missing section is None."""
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
    """Return the Coolbits that OutputClass sections set for a card whose own sections set none; 0 if they set none."""
    for section in reversed(configuration.nvidia_output_classes()):
        if option := section.option("coolbits"):
            return coolbits_of(Setting(section, option))
    return 0


def set_coolbits(
    configuration: Configuration, edits: Edits, screen: Section | None, device: Section, bits: int
) -> None:
    """Set `bits` in the settings of Coolbits that decide for an X screen with these sections. Raises InputError."""
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
    """Return the section for a new Coolbits: the Device, or the Screen if only the Device belongs to a package."""
    return screen if screen and device.is_packaged and not screen.is_packaged else device


def _set_bits_in_coolbits(edits: Edits, setting: Setting, bits: int) -> None:
    """Set `bits` in an existing option. Raises InputError if its value is not a number."""
    coolbits_of(setting)
    token, editor = setting.option.value, edits.editor_of(setting.section.file)
    if token is None:
        end = setting.option.name.end
        editor.replace(end, end, f' "{bits}"')
    elif (text := with_coolbits(token.text, bits)) != token.text:
        editor.replace(token.start, token.end, f'"{text}"')
