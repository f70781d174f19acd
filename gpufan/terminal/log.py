"""One line per change, for a pipe, a file or the journal."""

import os
import time
from typing import TextIO

from gpufan.core.reasons import Cause, Group
from gpufan.core.sentences import card_line, clock
from gpufan.core.snapshot import Snapshot
from gpufan.system.background import BackgroundWriter

_PRIORITY = {Group.FAIL_SAFE: 4, Group.FAULT: 4, Group.LOST: 3, Group.HANG: 3}
"""By kind, as in syslog: 3 error, 4 warning; all else is 6, information."""


class LogReport:
    """Writes a line whenever a card's duty, its control or the gravity of its reason changes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._journal = _is_journal(stream)
        self._last: dict[int, tuple[object, ...]] = {}
        self._lines = BackgroundWriter(self._write)

    def publish(self, snapshot: Snapshot) -> None:
        """Take the next snapshot."""
        for gpu in snapshot.gpus:
            priority = _PRIORITY.get(gpu.reason.cause.group, 6)
            key = (gpu.control, gpu.duty_percent, priority)
            if gpu.reason.cause is Cause.START:
                continue
            if self._last.get(gpu.index) != key:
                self._last[gpu.index] = key
                self._put(priority, card_line(gpu), snapshot.simulated_s)

    def warn(self, text: str) -> None:
        """Write a warning."""
        self._put(4, text)

    def note(self, text: str) -> None:
        """Write that something went as it should."""
        self._put(6, text)

    @property
    def is_read(self) -> bool:
        """Whether somebody still reads what is written, as far as that is known."""
        return self._lines.busy

    def close(self) -> None:
        """Write what is left."""
        self._lines.close(0.5)

    def _put(self, priority: int, text: str, simulated_s: float | None = None) -> None:
        if self._journal:
            self._lines.put(f"<{priority}>{text}")
        elif simulated_s is not None:
            self._lines.put(f"{clock(simulated_s)} {text}")
        else:
            self._lines.put(f"{time.strftime('%H:%M:%S')} {text}")

    def _write(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


def _is_journal(stream: TextIO) -> bool:
    """Whether systemd connected `stream` to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
