"""Log lines for the journal, a file or a pipe: a handler for `logging`, and a line for each change of a card."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from gpufan.core.reasons import Cause, Control
from gpufan.core.sentences import card_line, h_mm_ss
from gpufan.core.severity import Severity, severity
from gpufan.core.snapshot import Snapshot
from gpufan.system.background import BackgroundWriter

_LEVELS = {Severity.FINE: logging.INFO, Severity.WARNING: logging.WARNING, Severity.PROBLEM: logging.ERROR}

_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
"""Levels as in syslog, which the journal reads at the start of a line (sd-daemon(3))."""


class LogHandler(logging.Handler):
    """Writes records to a stream, and never waits for its reader.

    A line starts with its priority in the journal, and with the time elsewhere: the time of day, or the simulated time
    that a record has as `simulated_s`.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._journal = _is_journal(stream)
        self._writer = BackgroundWriter(self._write)
        self.write_line = self._writer.put
        """Takes the finished lines; the live table replaces it while it is on the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        """Format the record and hand it over."""
        simulated_s = getattr(record, "simulated_s", None)
        if self._journal:
            start = f"<{_PRIORITIES[record.levelno]}>"
        elif simulated_s is not None:
            start = f"{h_mm_ss(simulated_s)} "
        else:
            start = time.strftime("%H:%M:%S ", time.localtime(record.created))
        self.write_line(start + record.getMessage())

    @property
    def is_read(self) -> bool:
        """False once a write has failed because nobody reads the stream any more."""
        return not self._writer.is_broken

    def close(self) -> None:
        """Write the rest, for half a second at most."""
        self._writer.close(0.5)
        super().close()

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


@contextmanager
def log_to(stream: TextIO) -> Iterator[LogHandler]:
    """Write the log of gpufan to `stream` in this block, from level INFO on."""
    logger, handler = logging.getLogger("gpufan"), LogHandler(stream)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        handler.close()


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Write warnings and errors of a command to standard error in this block, each as one line after `gpufan:`."""
    logger, handler = logging.getLogger("gpufan"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("gpufan: %(message)s"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class ChangeLog:
    """Logs a line when a card's duty, its control or its severity changes."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("gpufan.cards")
        self._last: dict[str, tuple[Control, int | None, int]] = {}

    every_tick = False

    def publish(self, snapshot: Snapshot) -> None:
        """Log what has changed since the snapshot before."""
        for gpu in snapshot.gpus:
            if gpu.reason.cause is Cause.START:
                continue
            level = _LEVELS[severity(gpu)]
            key = (gpu.control, gpu.duty_percent, level)
            if self._last.get(gpu.key) != key:
                self._last[gpu.key] = key
                self._logger.log(level, "%s", card_line(gpu), extra={"simulated_s": snapshot.simulated_s})

    def close(self) -> None:
        """Do nothing: the handler has the stream."""


def _is_journal(stream: TextIO) -> bool:
    """Whether systemd connected `stream` to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
