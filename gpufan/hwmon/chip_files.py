"""Reads and writes single files of chips, each with a time limit, since a chip may hang.

The kernel's driver of a chip may wait for ever for its bus, and nothing can end such a call. `sysfs` knows which files
to use.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gpufan.errors import NoAnswer
from gpufan.system.background import BackgroundCall
from gpufan.system.files import read_text_or_empty
from gpufan.system.printable import printable

_T = TypeVar("_T")

ANSWER_S = 1.0
"""Time limit for one file, s. The slowest drivers, such as dell-smm, need half a second."""

_OTHER_FILES_S = 0.05
"""While a file of a chip hangs, the time limit for each of its other files, s."""

_LONGEST_BYTES = 4096
"""A file of the kernel is never longer."""


class ChipHangs(OSError):
    """A chip has not answered in time."""


class _Access(BackgroundCall[_T]):
    """A call that reads or writes one file."""

    def __init__(self, call: Callable[[], _T]) -> None:
        self.end_s = time.monotonic() + ANSWER_S
        """From this time of `time.monotonic` on, the call counts as one that hangs."""
        super().__init__(call)


_lock = threading.Lock()
_running: dict[Path, _Access[Any]] = {}
"""The calls that have not returned yet, by file. A file that hangs is not called again: each call needs a thread."""


def read_chip_file(path: Path) -> bytes:
    """Return the content of the file of a chip. Raises OSError, also for EAGAIN, where a file object returns None.

    Raises ChipHangs if the chip does not answer in time.
    """
    return _within_limit(path, partial(_read, path))


def read_chip_text(path: Path) -> str:
    """Return the text in the file of a chip, safe for a terminal; empty if it cannot be read in time."""
    with suppress(ChipHangs):
        return printable(_within_limit(path, partial(read_text_or_empty, path)).strip())
    return ""


def write_chip_file(path: Path, text: str) -> None:
    """Write `text` into the file of a chip, in one call. Raises OSError.

    Raises ChipHangs if the chip does not answer in time. The text may be written later then. Until the call returns,
    every other call with this file fails in the same way.
    """
    _within_limit(path, partial(_write, path, text))


def _within_limit(path: Path, call: Callable[[], _T]) -> _T:
    """Make the call `call`, which reads or writes the file `path`, and return its result.

    Raises the error of the call, or ChipHangs if this call, or an earlier one with this file, does not return in time.
    """
    access: _Access[_T] | None = None
    while access is None:
        with _lock:
            earlier = _running.get(path)
            if earlier is None or earlier.is_done:
                limit_s = _OTHER_FILES_S if _hangs(path.parent) else ANSWER_S
                access = _running[path] = _Access(call)
        if access is None and earlier is not None:
            earlier.wait(max(earlier.end_s - time.monotonic(), 0))
            if not earlier.is_done:
                raise ChipHangs(f"its chip does not answer: {path.name} hangs")
    try:
        result = access.result(limit_s)
    except NoAnswer:
        raise ChipHangs(f"its chip does not answer: {path.name} hangs") from None
    except BaseException:
        _forget(path, access)
        raise
    _forget(path, access)
    return result


def _hangs(folder: Path) -> bool:
    """Whether a file in `folder` hangs."""
    now_s = time.monotonic()
    return any(
        path.parent == folder and not access.is_done and now_s >= access.end_s for path, access in _running.items()
    )


def _forget(path: Path, access: _Access[_T]) -> None:
    """Forget the call `access` with the file `path`, since it has returned."""
    with _lock:
        if _running.get(path) is access:
            del _running[path]


def _read(path: Path) -> bytes:
    """Return the content of the file `path`. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, _LONGEST_BYTES)
    finally:
        os.close(descriptor)


def _write(path: Path, text: str) -> None:
    """Write `text` into the file `path`. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
