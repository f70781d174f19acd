"""The process that serves a tree of /sys with hwmon chips over FUSE: `python -m tests.doubles.hwmon MOUNTPOINT`.

The file `control` at the top of the tree is not of the kernel. A write of JSON changes chips and channels; a read
returns their state.
"""

import errno
import json
import os
import re
import stat
import sys
import threading
import time
from typing import Any

import mfusepy

from gpufan.gpu.simulated_headers import AUTOMATIC, SimulatedChannel, SimulatedChip

STEP_S = 0.02


class Channel(SimulatedChannel):
    """A channel that can also fail, round and lie, as chips of the kernel do."""

    def __init__(self, **values: Any) -> None:
        super().__init__(ramp_percent_per_s=200.0)
        self.levels = 0
        """How many levels above 0 the chip has; 0 for all values. A value is rounded down to a level."""
        self.duty_error = self.mode_error = self.read_error = 0
        """The error of each write of the duty, of the mode, and of each read of the duty."""
        self.has_mode = self.mode_is_readable = self.has_tachometer = True
        self.ignores = False
        """Whether a write succeeds without effect."""
        self.flips_back_s = 0.0
        """After this time in manual mode the mode flips back, s; 0 for never."""
        self.manual_s = 0.0
        self.mask = 0xFF
        """The bits of the duty that the chip has: it87 has 7 bits, without the lowest."""
        self.fails_every = 0
        """Each access with this number fails with `busy_error`; 0 for none."""
        self.busy_error = errno.EIO
        self.accesses = 0
        self.refuses_automatic = False
        """Whether it cannot be switched to an automatic mode, since the curve of the BIOS has a mistake."""
        self.tachometer = 0
        """The number of its tachometer, if it is not the number of the channel."""
        self.late_rpm_s = self.turning_s = 0.0
        """The tachometer shows 0 rpm for this time after the fan has begun to turn, s."""
        self.file_mode = 0o644
        self.is_inverted = False
        """Whether a higher duty makes the fan slower."""
        self.hangs: list[str] = []
        """The accesses that hang: read or write, and the file: `read pwm`, `write mode`, `read rpm`."""
        self.least_percent = 0.0
        """A fan of the 4-pin kind may turn this fast at a duty of 0."""
        for name, value in values.items():
            if not hasattr(self, name):
                raise ValueError(name)
            setattr(self, name, value)

    def fail_if_busy(self) -> None:
        self.accesses += 1
        if self.fails_every and self.accesses % self.fails_every == 0:
            raise OSError(self.busy_error, os.strerror(self.busy_error))

    @property
    def shown_rpm(self) -> float:
        speed_percent = 100 - self.speed_percent if self.is_inverted else self.speed_percent
        return 0.0 if self.turning_s < self.late_rpm_s else self.full_rpm * speed_percent / 100

    def write_duty(self, raw: int) -> None:
        raw &= self.mask
        if self.duty_error:
            raise OSError(self.duty_error, os.strerror(self.duty_error))
        if self.levels:
            raw = raw * self.levels // 255 * 255 // self.levels
        if not self.ignores:
            super().write_duty(raw)

    def write_mode(self, mode: int) -> None:
        if self.refuses_automatic and mode > 1:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if self.mode_error:
            raise OSError(self.mode_error, os.strerror(self.mode_error))
        if not self.ignores:
            self.manual_s = 0.0
            super().write_mode(mode)

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.speed_percent = max(self.speed_percent, self.least_percent)
        self.manual_s += seconds
        self.turning_s = self.turning_s + seconds if self.speed_percent else 0.0
        if self.flips_back_s and self.mode == 1 and self.manual_s >= self.flips_back_s:
            self.mode = AUTOMATIC


class Device:
    """A chip at a place in the tree."""

    def __init__(
        self,
        name: str,
        device: str,
        number: int,
        channels: dict[str, dict[str, Any]],
        has_files_in_device: bool = False,
        files: dict[str, str] | None = None,
    ) -> None:
        """`files` are further files in the folder of the device, with their texts."""
        self.name, self.device, self.number = name, device, number
        self.has_files_in_device = has_files_in_device
        self.more = files or {}
        self.place = device
        """The folder of the device below /sys/devices/platform. USB devices get another one when plugged in again."""
        self.is_present = True
        self.channels = {int(key): Channel(**values) for key, values in channels.items()}
        self.chip = SimulatedChip(self.channels)

    def files(self) -> list[str]:
        """The files in the chip's folder."""
        found = ["name"]
        for number, channel in self.channels.items():
            found.append(f"pwm{number}")
            found += [f"pwm{number}_enable"] * channel.has_mode
            found += [f"fan{channel.tachometer or number}_input"] * channel.has_tachometer
            found += [f"fan{number}_label"] * bool(channel.label)
        return found

    def channel_of(self, file: str) -> Channel:
        """The channel that a file of the chip belongs to."""
        number = int("".join(filter(str.isdigit, file)))
        if file.endswith("_input"):
            return next(each for key, each in self.channels.items() if (each.tachometer or key) == number)
        return self.channels[number]

    def folders(self) -> dict[str, list[str]]:
        """The folders below /devices/platform, and what is in each."""
        home = f"/devices/platform/{self.place}"
        found: dict[str, list[str]] = {}
        while home != "/devices/platform":
            above, _, name = home.rpartition("/")
            found.setdefault(above, []).append(name)
            home = above
        home = f"/devices/platform/{self.place}"
        chip = f"{home}/hwmon/hwmon{self.number}"
        found[home] = ["hwmon", *self.more, *(self.files() if self.has_files_in_device else [])]
        found[f"{home}/hwmon"] = [f"hwmon{self.number}"]
        found[chip] = [] if self.has_files_in_device else self.files()
        return found


class Tree(mfusepy.Operations):
    """The tree, with a log of all writes."""

    use_ns = True

    def __init__(self) -> None:
        self.devices: dict[str, Device] = {}
        self.writes: list[list[Any]] = []
        self._opened = 0
        self._texts: dict[int, str] = {}
        self._lock = threading.RLock()
        threading.Thread(target=self._tick, daemon=True).start()

    def _tick(self) -> None:
        while True:
            time.sleep(STEP_S)
            with self._lock:
                for device in self.devices.values():
                    for channel in device.channels.values():
                        channel.advance(STEP_S)

    def _node(self, path: str) -> tuple[str, Any]:
        """Kind and content of a path: a folder and its names, a link and its target, a file and its place."""
        with self._lock:
            present = [device for device in self.devices.values() if device.is_present]
            folders: dict[str, list[str]] = {"/": ["class", "devices", "control"], "/class": ["hwmon"]}
            folders |= {"/class/hwmon": [f"hwmon{device.number}" for device in present]}
            folders |= {"/devices": ["platform"], "/devices/platform": []}
            for device in present:
                home = f"/devices/platform/{device.place}"
                chip = f"{home}/hwmon/hwmon{device.number}"
                for folder, names in device.folders().items():
                    folders[folder] = [*dict.fromkeys([*folders.get(folder, []), *names])]
                if path == f"/class/hwmon/hwmon{device.number}":
                    return "link", f"../..{chip}"
                folder, _, file = path.rpartition("/")
                if folder == (home if device.has_files_in_device else chip) and file in device.files():
                    return "file", (device, file)
                if folder == home and file in device.more:
                    return "file", (device, file)
            if path in folders:
                return "folder", folders[path]
            if path == "/control":
                return "file", (None, "control")
        raise mfusepy.FuseOSError(errno.ENOENT)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        kind, content = self._node(path)
        mode = {"folder": stat.S_IFDIR | 0o755, "link": stat.S_IFLNK | 0o777, "file": stat.S_IFREG | 0o644}[kind]
        size = 4096 if kind == "file" else 0
        if kind == "file" and content[0] is not None:
            device, file = content
            if file.startswith("pwm"):
                mode = stat.S_IFREG | device.channel_of(file).file_mode
            if file.endswith("_enable") and not device.channel_of(file).mode_is_readable:
                mode = stat.S_IFREG | 0o200
        return {"st_mode": mode, "st_nlink": 1, "st_size": size, "st_uid": 0, "st_gid": 0}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *self._node(path)[1]]

    def readlink(self, path: str) -> str:
        return str(self._node(path)[1])

    def open(self, path: str, flags: int) -> int:
        self._node(path)
        with self._lock:
            self._opened += 1
            return self._opened

    def release(self, path: str, fh: int) -> int:
        self._texts.pop(fh, None)
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        self._node(path)
        return 0

    def _hang(self, device: Device | None, access: str, file: str) -> None:
        """Wait while `access` of the file hangs: `read` or `write`."""
        if device is None or (found := re.fullmatch(r"(pwm|fan)\d+(_enable|_input)?", file)) is None:
            return
        kind = {"_enable": "mode", "_input": "rpm"}.get(found[2] or "", "pwm")
        while f"{access} {kind}" in device.channel_of(file).hangs:
            time.sleep(STEP_S)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        device, file = self._node(path)[1]
        self._hang(device, "read", file)
        with self._lock:
            if offset == 0:  # later reads of the same opening go on in the same text, as in the kernel
                self._texts[fh] = json.dumps(self._state()) if device is None else self._text(device, file)
            return f"{self._texts[fh]}\n".encode()[offset : offset + size]

    def _text(self, device: Device, file: str) -> str:
        if file == "name":
            return device.name
        if file.endswith("_label"):
            return device.channels[int(file[3:-6])].label
        if file in device.more:
            return device.more[file]
        channel = device.channel_of(file)
        try:
            channel.fail_if_busy()
        except OSError as error:
            raise mfusepy.FuseOSError(error.errno or errno.EIO) from error
        if file.endswith("_input"):
            return str(round(channel.shown_rpm))
        if re.fullmatch(r"pwm\d+", file) and channel.read_error:
            raise mfusepy.FuseOSError(channel.read_error)
        if file.endswith("_enable") and not channel.mode_is_readable:
            raise mfusepy.FuseOSError(errno.EIO)
        return str(device.chip.read(file))

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        device, file = self._node(path)[1]
        self._hang(device, "write", file)
        with self._lock:
            if device is None:
                for key, values in json.loads(data).items():
                    self._change(key, values)
                return len(data)
            try:
                number = int(data)
            except ValueError:
                raise mfusepy.FuseOSError(errno.EINVAL) from None
            self.writes.append([time.monotonic(), device.device, file, number])
            try:
                device.channel_of(file).fail_if_busy()
                device.chip.write(file, number)
            except OSError as error:
                raise mfusepy.FuseOSError(error.errno or errno.EIO) from error
        return len(data)

    def _change(self, key: str, values: dict[str, Any]) -> None:
        """Add the device `key`, change it (`platform/device`), or change one of its channels (`device:number`)."""
        if key in self.devices:
            for name, value in values.items():
                setattr(self.devices[key], name, value)
        elif "channels" in values:
            self.devices[key] = Device(device=key, **values)
        else:
            device, number = key.rsplit(":", 1)
            for name, value in values.items():
                setattr(self.devices[device].channels[int(number)], name, value)

    def _state(self) -> dict[str, Any]:
        return {
            "writes": self.writes,
            "channels": {
                f"{key}:{number}": {
                    "mode": channel.shown_mode,
                    "pwm": channel.shown_raw,
                    "rpm": round(channel.speed_rpm),
                }
                for key, device in self.devices.items()
                for number, channel in device.channels.items()
            },
        }


if __name__ == "__main__":
    # No cache: the kernel must ask for each value. `direct_io` also lets a file be longer or shorter than it says.
    options = {"direct_io": True, "attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0}
    if os.geteuid() == 0:  # else a line in /etc/fuse.conf is necessary
        options["allow_other"] = True
    mfusepy.FUSE(Tree(), sys.argv[1], foreground=True, nothreads=False, fsname="hwmon-double", **options)
