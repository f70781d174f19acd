"""Finds the channels of hwmon and their stable names, and reads and writes their files. `fan` decides what to write."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpufan.errors import InputError
from gpufan.system.files import read_text_or_empty
from gpufan.system.paths import sys_folder
from gpufan.system.printable import printable

NAME_EXAMPLE = "nct6798/pwm2"

NO_CHANNELS = (
    "the kernel shows no fans of the motherboard: load the module of its chip, such as `sudo modprobe nct6775`"
)

NO_TACHOMETER = "none"
"""The third part of a name that says that the fan has no tachometer."""

_NAME = re.compile(r"(?P<chip>[^/@]+)(?:@(?P<device>[^/]+))?/(?P<output>[^/]+?)(?:/(?P<tachometer>fan\d+|none))?")


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

    @property
    def name(self) -> str:
        """The name of the channel: `nct6798/pwm2`, or `nct6798@nct6775.656/pwm2` if two chips have the same name."""
        chip = self.chip if self.is_only_chip else f"{self.chip}@{self.home.parent.name}"
        return f"{chip}/pwm{self.number}"

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
    chips: list[tuple[str, Path]] = []
    with suppress(OSError):
        for entry in sorted((sys_folder() / "class/hwmon").iterdir()):
            if name := printable(read_text_or_empty(entry / "name").strip()):
                chips.append((name, entry.resolve()))
    names = [name for name, _ in chips]
    found = [channel for name, folder in chips for channel in _channels_of_chip(name, folder, names.count(name) == 1)]
    return sorted(found, key=lambda channel: (channel.chip, channel.home, channel.number))


def _channels_of_chip(chip: str, folder: Path, is_only_chip: bool) -> list[Channel]:
    """Return the channels of the chip with the name `chip` whose files are in `folder`."""
    found = []
    for path in folder.glob("pwm*"):
        if number := re.fullmatch(r"pwm(\d+)", path.name):
            n = int(number[1])
            tachometer = n if (folder / f"fan{n}_input").exists() else None
            label = printable(read_text_or_empty(folder / f"fan{n}_label").strip())
            found.append(Channel(chip, folder.parent, n, tachometer, label, is_only_chip))
    return found


def resolve_channel(name: str, channels: Sequence[Channel]) -> Channel:
    """Return the channel of `channels` that `name` stands for. Raises InputError if it names none, or several."""
    parts = _NAME.fullmatch(name)
    if parts is None:
        raise InputError(f"{name!r} is not the name of a fan: write chip and output, such as {NAME_EXAMPLE}")
    device, output = parts["device"], parts["output"].casefold()
    found = [
        channel
        for channel in channels
        if channel.chip == parts["chip"]
        and device in (None, channel.home.parent.name)
        and output in (f"pwm{channel.number}", channel.label.casefold())
    ]
    if len(found) > 1:
        raise InputError(f"{name} names several fans: write {' or '.join(each.name for each in found)}")
    if not found:
        if not channels:
            raise InputError(f"{name}: no such fan; {NO_CHANNELS}")
        raise InputError(f"{name}: no such fan; the fans that the kernel shows are {', '.join(map(str, channels))}")
    if parts["tachometer"] is None:
        return found[0]
    tachometer = None if parts["tachometer"] == NO_TACHOMETER else int(parts["tachometer"].removeprefix("fan"))
    return Channel(found[0].chip, found[0].home, found[0].number, tachometer, found[0].label, found[0].is_only_chip)


class SysfsChip:
    """The files of a chip below /sys. If the kernel has numbered the chip anew, its folder is looked for again."""

    def __init__(self, channel: Channel) -> None:
        self._chip, self._home = channel.chip, channel.home
        self._folder: Path | None = None

    def has(self, file: str) -> bool:
        """Whether the chip has the file `file`. Raises OSError if the chip is not there."""
        return (self._find() / file).exists()

    def read(self, file: str) -> int:
        """Return the number in `file`. Raises OSError, also if the content is not a number."""
        try:
            return int((self._find() / file).read_bytes())
        except ValueError as error:
            raise OSError(f"{file} has no number") from error
        except OSError:
            self._folder = None
            raise

    def write(self, file: str, number: int) -> None:
        """Write `number` into `file`. Raises OSError."""
        try:
            descriptor = os.open(self._find() / file, os.O_WRONLY | os.O_TRUNC)
            try:
                os.write(descriptor, str(number).encode())
            finally:
                os.close(descriptor)
        except OSError:
            self._folder = None
            raise

    def _find(self) -> Path:
        """Return the folder of the chip. Raises OSError if there is none."""
        if self._folder is None:
            folders = [path for path in self._home.glob("hwmon*") if _chip_in_folder(path) == self._chip]
            if not folders:
                raise FileNotFoundError(f"{self._chip} is gone: {self._home} does not have this chip")
            self._folder = folders[0]
        return self._folder


def _chip_in_folder(folder: Path) -> str:
    """Return the name of the chip whose files are in `folder`; empty if it cannot be read."""
    return printable(read_text_or_empty(folder / "name").strip())
