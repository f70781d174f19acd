"""A simulated hwmon chip with fans on its channels. Its files behave as those of the kernel.

The chip follows the facts in `hwmon/README.md`: it refuses a duty in an automatic mode, and shows mode 0 for a manual
duty of 255, as nct6775 does.
"""

import errno
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from gpufan.hwmon.channels import Channel, resolve_channel
from gpufan.hwmon.fan import FULL_RAW, MANUAL, ChannelFan

AUTOMATIC = 5
"""The automatic mode of the simulated chip. nct6775 calls it Smart Fan IV."""

CHIP = "nct6798"
_HOME = Path("/sys/devices/platform/nct6775.656/hwmon")


class SimulatedChannel:
    """One PWM output, and the fan on it."""

    def __init__(
        self,
        label: str = "",
        *,
        full_rpm: float = 2000.0,
        bios_raw: int = 102,
        start_raw: int = 51,
        stop_raw: int = 36,
        ramp_percent_per_s: float = 30.0,
    ) -> None:
        """`bios_raw` is the duty in the automatic mode. Below `stop_raw` the fan stops; at `start_raw` it starts."""
        self.label = label
        self.full_rpm = full_rpm
        self.bios_raw = self.raw = bios_raw
        self.start_raw, self.stop_raw = start_raw, stop_raw
        self.mode = AUTOMATIC
        self.speed_percent = bios_raw * 100 / FULL_RAW
        self.is_blocked = False
        """Whether something blocks the fan, so that it stands still."""
        self._ramp_percent_per_s = ramp_percent_per_s

    @property
    def shown_raw(self) -> int:
        """The duty that `pwmN` shows."""
        if self.mode == 0:
            return FULL_RAW
        return self.raw if self.mode == MANUAL else self.bios_raw

    @property
    def shown_mode(self) -> int:
        """The mode that `pwmN_enable` shows."""
        return 0 if self.mode == MANUAL and self.raw == FULL_RAW else self.mode

    @property
    def speed_rpm(self) -> float:
        """The speed of the fan, rpm."""
        return self.full_rpm * self.speed_percent / 100

    def write_duty(self, raw: int) -> None:
        """Set the manual duty. Raises OSError in an automatic mode, and for a value that no duty can have."""
        if not 0 <= raw <= FULL_RAW:
            raise OSError(errno.EINVAL, "Invalid argument")
        if self.mode > MANUAL:
            raise OSError(errno.EBUSY, "Device or resource busy")
        self.raw = raw

    def write_mode(self, mode: int) -> None:
        """Set the mode. Raises OSError for a mode that the chip does not have."""
        if not 0 <= mode <= AUTOMATIC:
            raise OSError(errno.EINVAL, "Invalid argument")
        if mode == MANUAL and self.mode != MANUAL:
            self.raw = self.shown_raw
        self.mode = mode

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass: the fan follows its duty, starts or stops."""
        raw = self.shown_raw
        stands = self.speed_percent == 0
        target = 0.0 if self.is_blocked or raw < (self.start_raw if stands else self.stop_raw) else raw * 100 / FULL_RAW
        ramp = self._ramp_percent_per_s * seconds
        self.speed_percent += min(max(target - self.speed_percent, -ramp), ramp)


class SimulatedChip:
    """The files of a chip with `channels`, by number. Implements `hwmon.fan.Chip`."""

    def __init__(self, channels: Mapping[int, SimulatedChannel]) -> None:
        self.channels = channels

    def has(self, file: str) -> bool:
        """Whether the chip has the file `file`."""
        number, kind = _parts_of_file(file)
        return number in self.channels and kind != ""

    def read(self, file: str) -> int:
        """Return the number in `file`. Raises OSError if there is no such file."""
        number, kind = _parts_of_file(file)
        if number not in self.channels or not kind:
            raise OSError(errno.ENOENT, "No such file or directory")
        channel = self.channels[number]
        shown: dict[str, Callable[[], int]] = {
            "pwm": lambda: channel.shown_raw,
            "mode": lambda: channel.shown_mode,
            "rpm": lambda: round(channel.speed_rpm),
        }
        return shown[kind]()

    def write(self, file: str, number: int) -> None:
        """Write `number` into `file`. Raises OSError."""
        channel, kind = _parts_of_file(file)
        if channel not in self.channels or kind not in ("pwm", "mode"):
            raise OSError(errno.EACCES, "Permission denied")
        if kind == "pwm":
            self.channels[channel].write_duty(number)
        else:
            self.channels[channel].write_mode(number)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass for every fan."""
        for channel in self.channels.values():
            channel.advance(seconds)

    def mean_speed_percent(self, names: Sequence[str]) -> float:
        """Return the mean speed of the fans on the channels `names`, percent."""
        numbers = [resolve_channel(name, self.find_channels()).number for name in names]
        return fmean(self.channels[number].speed_percent for number in numbers)

    def find_channels(self) -> list[Channel]:
        """Return the channels of this chip, as `hwmon.channels.find_channels` does for the kernel's chips."""
        numbers = tuple(sorted(self.channels))
        return [Channel(CHIP, _HOME, each, each, self.channels[each].label, tachometers=numbers) for each in numbers]

    def open_fan(self, name: str) -> ChannelFan:
        """Return the fan on the channel `name`. Raises InputError if there is no such channel."""
        return ChannelFan(resolve_channel(name, self.find_channels()), self)


def _parts_of_file(file: str) -> tuple[int, str]:
    """Return the number of the channel of `file` and its kind: pwm, mode or rpm; an empty kind for any other file."""
    found = re.fullmatch(r"(pwm|fan)(\d+)(_enable|_input)?", file)
    if found is None:
        return 0, ""
    kind = {("pwm", None): "pwm", ("pwm", "_enable"): "mode", ("fan", "_input"): "rpm"}.get((found[1], found[3]), "")
    return int(found[2]), kind
