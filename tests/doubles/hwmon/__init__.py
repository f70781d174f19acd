"""hwmon without a motherboard: a FUSE tree in place of /sys, whose chips behave as those of the kernel.

Above it everything is real: files, errors, links, and every process that reads or writes them.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.doubles import without_coverage

DEVICE = "nct6775.656"
CHIP = "nct6798"
CHANNELS: dict[str, dict[str, Any]] = {"1": {"label": "CPU Fan"}, "2": {"label": "Case Fan"}, "3": {"full_rpm": 4800}}


class State(NamedTuple):
    """The state of a channel: number in `pwmN_enable`, number in `pwmN`, rpm."""

    mode: int
    pwm: int
    rpm: int


class HwmonDouble:
    """A tree at `folder` with one chip, nct6798 with three channels, until a test changes that."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._control = folder / "control"

    def environment(self) -> dict[str, str]:
        """Environment variables with which a process uses this tree in place of /sys."""
        return {"GPUFAN_SYS_FOLDER": str(self.folder)}

    def add_chip(self, device: str, name: str, number: int, channels: dict[str, dict[str, Any]], **values: Any) -> None:
        """Let a chip appear as hwmon`number`. `values` are further arguments of the double's `Device`."""
        self._write({device: {"name": name, "number": number, "channels": channels, **values}})

    def change(self, channel: int, *, device: str = DEVICE, **values: Any) -> None:
        """Change a channel: its errors, its rounding, its rotor."""
        self._write({f"{device}:{channel}": values})

    def change_chip(self, *, device: str = DEVICE, **values: Any) -> None:
        """Change a chip: `is_present`, its `number`, or its `place` below /sys/devices/platform."""
        self._write({device: values})

    def state(self, channel: int, device: str = DEVICE) -> State:
        """The state of a channel now."""
        return State(**self._read()["channels"][f"{device}:{channel}"])

    def writes(self) -> list[tuple[str, int]]:
        """Every write by any process, in order: file and number."""
        return [(file, number) for _, _, file, number in self._read()["writes"]]

    def file(self, name: str, device: str = DEVICE) -> Path:
        """A file of a chip."""
        return next((self.folder / "devices/platform" / device / "hwmon").glob(f"hwmon*/{name}"))

    def _read(self) -> Any:
        return json.loads(self._control.read_bytes())

    def _write(self, values: dict[str, Any]) -> None:
        self._control.write_text(json.dumps(values))


def _missing() -> str:
    """What this machine lacks for FUSE; empty if nothing."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be opened"
    try:
        import mfusepy  # noqa: F401 - it loads libfuse
    except (ImportError, OSError, AttributeError) as error:
        return f"no libfuse ({error}); install it with: apt-get install fuse3"
    return ""


@contextmanager
def hwmon_double(folder: Path) -> Iterator[HwmonDouble]:
    """Mount a tree at `folder` during the block. Without FUSE the test is skipped, and fails in CI."""
    if missing := _missing():
        import pytest  # not above: the program that serves the tree starts faster without

        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    folder.mkdir()

    def die_with_parent() -> None:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)

    command = [sys.executable, "-m", "tests.doubles.hwmon", str(folder)]
    log = folder.with_name(f"{folder.name}.log")  # libfuse 3.14 writes a warning without meaning
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=Path(__file__).parents[3], env=without_coverage(), preexec_fn=die_with_parent, stderr=output
        )
    try:
        _wait_for(lambda: (folder / "control").exists() or process.poll() is not None)
        assert process.poll() is None, f"the tree cannot be mounted: {log.read_text()}"
        double = HwmonDouble(folder)
        double.add_chip(DEVICE, CHIP, 3, CHANNELS)
        yield double
    finally:
        subprocess.run(["fusermount3", "-u", "-z", str(folder)], check=False, timeout=10)
        process.kill()
        process.wait()


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def make_plain_chip(folder: Path, name: str) -> Path:
    """Make the files of a chip with one channel below `folder`, as in /sys. Returns the folder of the chip."""
    chip = folder / "devices" / name / "hwmon" / f"hwmon-{name}"
    chip.mkdir(parents=True)
    for file, text in (("name", name), ("pwm1_enable", "2"), ("pwm1", "90"), ("fan1_input", "900")):
        (chip / file).write_text(text)
    (folder / "class/hwmon").mkdir(parents=True, exist_ok=True)
    (folder / "class/hwmon" / chip.name).symlink_to(chip)
    return chip


def make_hanging_chip(folder: Path, name: str, file: str = "pwm1") -> Path:
    """Make a chip that hangs when `file` is read or written. Returns this file; a writer ends the hang of a reader."""
    path = make_plain_chip(folder, name) / file
    let_hang(path)
    return path


def let_hang(path: Path) -> None:
    """Let the file of a plain chip hang from now on, whether it is read or written."""
    path.unlink()
    os.mkfifo(path)
