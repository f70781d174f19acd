"""Finds the channels of hwmon and their stable names. `sysfs` reads and writes their files."""

import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from gpufan.errors import InputError
from gpufan.hwmon.chip_files import read_chip_text
from gpufan.system.files import read_text_or_empty
from gpufan.system.paths import sys_folder

NAME_EXAMPLE = "nct6798/pwm2"

NO_CHANNELS = (
    "the kernel shows no fans of the motherboard: load the module of its chip, such as `sudo modprobe nct6775`"
)

NO_TACHOMETER = "none"
"""The third part of a name that says that the fan has no tachometer."""

GRAPHICS_CHIPS = ("amdgpu", "i915", "nouveau", "radeon", "xe")
"""Names of chips that are on graphics cards. Their fans are never offered as fans of the motherboard."""

_GRAPHICS_CLASS = "0x03"
"""The beginning of the class of a graphics card on the PCI bus."""

_HID_DEVICE = re.compile(r"[0-9A-F]{4}:[0-9A-F]{4}:[0-9A-F]{4}\.[0-9A-F]{4}")
"""The name of a device on USB. Its last part changes each time that it is plugged in."""

_NAME = re.compile(r"(?P<chip>[^/@]+)(?:@(?P<device>[^/]+))?/(?P<output>.+?)(?:/(?P<tachometer>fan\d+|none))?")


@dataclass(frozen=True, slots=True)
class Channel:
    """A PWM output of a hwmon chip."""

    chip: str
    """The name of the chip: `nct6798`."""
    home: Path
    """The folder `hwmon` of the chip's device. The folder of the chip, such as `hwmon3`, is in it."""
    number: int
    tachometer: int | None
    """The number N of `fanN_input`; None if the fan has no tachometer."""
    label: str = ""
    """The kernel's label of the tachometer, such as `CPU Fan`; empty without a label."""
    is_only_chip: bool = True
    """Whether no other chip of this box has the same name."""
    is_settable: bool = True
    """Whether the driver of the chip lets anyone set the fan."""
    tachometers: tuple[int, ...] = ()
    """The numbers of all tachometers of the chip."""
    has_files_in_device: bool = False
    """Whether the files are in the folder of the device, as those of older drivers are, such as f71882fg."""

    @property
    def name(self) -> str:
        """The name of the channel: `nct6798/pwm2`, or `nct6798@nct6775.656/pwm2` if two chips have the same name."""
        chip = self.chip if self.is_only_chip else f"{self.chip}@{self.device.name}"
        return f"{chip}/pwm{self.number}"

    @property
    def place(self) -> tuple[str, str, int]:
        """Three values that are the same for all names of the channel: `home` as text, chip and number."""
        return str(self.home), self.chip, self.number

    @property
    def device(self) -> Path:
        """The folder of the device. It keeps its name at a boot, and for USB also when it is plugged in again."""
        device = self.home.parent
        return device.parent if _HID_DEVICE.fullmatch(device.name) else device

    @property
    def writable_folder(self) -> Path:
        """The smallest folder of a lasting name that has the files of the chip. The sandbox of the service opens it."""
        is_renamed = self.device != self.home.parent
        return self.device if is_renamed or self.has_files_in_device else self.home

    def __str__(self) -> str:
        return f"{self.name} ({self.label})" if self.label else self.name


def is_channel_name(text: str) -> bool:
    """Whether `text` can be the name of a channel.

    >>> is_channel_name("nct6798/pwm2"), is_channel_name("nct6798@nct6775.656/CPU Fan/fan1"), is_channel_name("pwm2")
    (True, True, False)
    """
    return _NAME.fullmatch(text) is not None


def are_names_of_same_channel(one: str, other: str) -> bool:
    """Whether two names surely stand for the same channel, whatever the chips of this box are.

    If only one of them has a device, the other stands for the same channel, or is ambiguous. The tachometer is no part
    of the channel.

    >>> are_names_of_same_channel("nct6798/pwm2", "nct6798@nct6775.656/PWM2/fan1")
    True
    >>> are_names_of_same_channel("nct6798/pwm2", "nct6798/CPU Fan")
    False
    """
    first, second = _NAME.fullmatch(one), _NAME.fullmatch(other)
    if first is None or second is None:
        return False
    is_same_device = first["device"] == second["device"] or None in (first["device"], second["device"])
    is_same_output = first["output"].casefold() == second["output"].casefold()
    return first["chip"] == second["chip"] and is_same_device and is_same_output


def find_channels() -> list[Channel]:
    """Return all channels of this box, sorted by chip and number. Chips that cannot be read are left out."""
    chips: list[tuple[str, Path, Path]] = []
    with suppress(OSError):
        for entry in sorted((sys_folder() / "class/hwmon").iterdir()):
            folder = entry.resolve()
            for files in (folder, folder.parent.parent):
                if name := chip_in_folder(files):
                    chips.append((name, files, folder.parent))
                    break
    names = [name for name, _, _ in chips]
    found = [
        channel
        for name, files, home in chips
        if name not in GRAPHICS_CHIPS and not _is_on_graphics_card(home)
        for channel in _channels_of_chip(name, files, home, names.count(name) == 1)
    ]
    return sorted(found, key=lambda channel: (channel.chip, channel.home, channel.number))


def _is_on_graphics_card(home: Path) -> bool:
    """Whether the chip with the folder `home` is on a graphics card: the card itself, or a chip behind it."""
    return any(read_text_or_empty(folder / "class").startswith(_GRAPHICS_CLASS) for folder in home.parents)


def _channels_of_chip(chip: str, files: Path, home: Path, is_only_chip: bool) -> list[Channel]:
    """Return the channels of the chip with the name `chip` whose files are in the folder `files`."""
    tachometers = _numbers_of_files(files, "fan", "_input")
    found = []
    for number in _numbers_of_files(files, "pwm", ""):
        label = read_chip_text(files / f"fan{number}_label")
        channel = Channel(
            chip,
            home,
            number,
            number if number in tachometers else None,
            label,
            is_only_chip,
            # Some drivers, such as f71805f, let the duty be written only after the mode was.
            is_settable=any(_is_writable_file(files / f"pwm{number}{end}") for end in ("", "_enable")),
            tachometers=tachometers,
            has_files_in_device=files != home and files.parent != home,
        )
        found.append(channel)
    return found


def _numbers_of_files(folder: Path, start: str, end: str) -> tuple[int, ...]:
    """Return the numbers N of the files in `folder` with the name `start`, N, `end`, in rising order."""
    names = (re.fullmatch(rf"{start}(\d+){end}", path.name) for path in folder.glob(f"{start}*{end}"))
    return tuple(sorted(int(name[1]) for name in names if name is not None))


def _is_writable_file(path: Path) -> bool:
    """Whether the owner of the file may write it."""
    try:
        return bool(path.stat().st_mode & stat.S_IWUSR)
    except OSError:
        return False


def resolve_channel(name: str, channels: Sequence[Channel]) -> Channel:
    """Return the channel of `channels` that `name` stands for. Raises InputError if it names none, or several."""
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise InputError(f"{name!r} is not the name of a fan: write chip and output, such as {NAME_EXAMPLE}")
    if parts["chip"] in GRAPHICS_CHIPS:
        raise InputError(f"{name}: this is the fan of a graphics card, and no fan of the motherboard")
    device, output = parts["device"], parts["output"].casefold()
    of_chip = [
        channel
        for channel in channels
        if channel.chip == parts["chip"] and device in (None, channel.device.name, channel.home.parent.name)
    ]
    # A label may be the name of another output.
    found = [channel for channel in of_chip if output == f"pwm{channel.number}"]
    found = found or [channel for channel in of_chip if output == channel.label.casefold()]
    if len({channel.place for channel in found}) < len(found):
        raise InputError(f"{name}: its device has several chips of this name, which gpufan cannot tell apart")
    if len(found) > 1:
        raise InputError(f"{name} names several fans: write {' or '.join(each.name for each in found)}")
    if not found:
        if not channels:
            raise InputError(f"{name}: no such fan; {NO_CHANNELS}")
        raise InputError(f"{name}: no such fan; the fans that the kernel shows are {', '.join(map(str, channels))}")
    (channel,) = found
    if not channel.is_settable:
        raise InputError(f"{name}: the kernel's driver lets nobody set this fan")
    if parts["tachometer"] is None:
        return channel
    if parts["tachometer"] == NO_TACHOMETER:
        return replace(channel, tachometer=None)
    tachometer = int(parts["tachometer"].removeprefix("fan"))
    if tachometer not in channel.tachometers:
        known = ", ".join(f"fan{number}" for number in channel.tachometers) or "none"
        raise InputError(f"{name}: {channel.chip} has no fan{tachometer}_input; its tachometers are {known}")
    return replace(channel, tachometer=tachometer)


def chip_in_folder(folder: Path) -> str:
    """Return the name of the chip whose files are in `folder`; empty if it cannot be read.

    Letters that have a meaning in the names of channels are replaced.
    """
    return re.sub("[/@]", "?", read_chip_text(folder / "name"))
