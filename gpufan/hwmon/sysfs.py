"""Reads and writes the files of a chip below /sys. `fan` decides what to write."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from gpufan.hwmon.channels import Channel, chip_in_folder
from gpufan.hwmon.chip_files import read_chip_file, write_chip_file

_T = TypeVar("_T")

_TRIES = 3
"""A read or a write is tried this many times if the chip is busy."""

_RETRY_S = 0.1
"""A read or a write that has failed after more than this time is not tried again, s."""

_BUSY = (errno.EIO, errno.EAGAIN, errno.ENODATA, errno.ETIMEDOUT)
"""Errors of a chip that is busy for a moment."""


class SysfsChip:
    """The files of a chip below /sys. If the kernel has numbered the chip anew, its folder is looked for again.

    If the chip is busy for a moment, a read or a write is tried again at once. Each has a time limit, since a chip may
    hang; then ChipHangs is raised, which is an OSError.
    """

    def __init__(self, channel: Channel) -> None:
        self._chip, self._home, self._output = channel.chip, channel.home, f"pwm{channel.number}"
        self._folder: Path | None = None

    def has(self, file: str) -> bool:
        """Whether the chip has the file `file`. Raises OSError if the chip is not there."""
        return (self._find() / file).exists()

    def read(self, file: str) -> int:
        """Return the number in `file`. Raises OSError, also if the content is not a number."""
        text = self._tried(read_chip_file, file)
        try:
            return int(text)
        except ValueError as error:
            raise OSError(f"{file} has no number") from error

    def write(self, file: str, number: int) -> None:
        """Write `number` into `file`. Raises OSError."""
        self._tried(lambda path: write_chip_file(path, str(number)), file)

    def is_in_sandbox(self) -> bool:
        """Whether the sandbox of this process forbids to write the files of the chip; False without a chip."""
        try:
            return bool(os.statvfs(self._find()).f_flag & os.ST_RDONLY)
        except OSError:
            return False

    def _tried(self, call: Callable[[Path], _T], file: str) -> _T:
        """Call `call` with the path of `file`, up to `_TRIES` times. Return its result. Raises OSError."""
        began_s = time.monotonic()
        for left in reversed(range(_TRIES)):
            try:
                return call(self._find() / file)
            except OSError as error:
                if error.errno not in _BUSY:
                    self._folder = None
                    raise
                if not left or time.monotonic() - began_s > _RETRY_S:
                    raise
        raise AssertionError  # the last try has returned or raised

    def _find(self) -> Path:
        """Return the folder with the files of the chip. Raises OSError if there is none."""
        if self._folder is None:
            folders = [*self._home.glob("hwmon*"), self._home.parent]
            with_output = [folder for folder in folders if (folder / self._output).exists()]
            found = [folder for folder in with_output if chip_in_folder(folder) == self._chip]
            if not found:
                raise FileNotFoundError(f"{self._chip} is gone: {self._home} does not have this chip")
            self._folder = found[0]
        return self._folder
