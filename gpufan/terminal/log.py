"""Writes log lines to the journal, a file or a pipe. Decides which changes of the cards are logged."""

import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from gpufan.core.news import News, news
from gpufan.core.reasons import Cause, Control
from gpufan.core.sentences import card_sentence, changed_settings_sentence, end_of_news_sentence, h_mm_ss, news_sentence
from gpufan.core.severity import Severity, severity
from gpufan.core.snapshot import GpuState, Snapshot
from gpufan.system.background import BackgroundWriter
from gpufan.system.own_command import with_own_command
from gpufan.system.printable import printable

LINE_EVERY_S = 60.0
"""The shortest time between two lines about one kind of news of one card, s."""

LONGEST_WAIT_S = 3600.0
"""The longest wait for the next line about news that begins and ends again and again, s."""

CALM_S = 600.0
"""If news comes back sooner than this after its end, s, it comes and goes with the load, as heat does.

Such news gets fewer and fewer lines. If it does not change for this time, its next line is due.
"""

FLICKER_S = 15.0
"""If news begins and ends again and again, it is logged as over only after it was absent for this time, s."""

_STATE_LEVELS = {Severity.FINE: logging.INFO, Severity.WARNING: logging.WARNING, Severity.PROBLEM: logging.ERROR}

_NEWS_LEVELS = {
    News.LOST: logging.ERROR,
    News.FAN_STILL: logging.ERROR,
    News.PAUSED: logging.INFO,
    News.GIVING_WAY: logging.INFO,
}
"""The level of each kind of news; any other kind is a warning."""

_PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
"""The priority for the journal of each log level. The journal reads it at the start of a line (sd-daemon(3))."""

_log = logging.getLogger("gpufan.cards")


class LogHandler(logging.Handler):
    """Writes log records to a stream, and never waits for the reader of the stream.

    In the journal, a line starts with its priority. In any other stream, a line starts with the time of day, or with
    the simulated time if the record has the attribute `simulated_s`.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._journal = _logs_to_journal(stream)
        self._writer = BackgroundWriter(self._write)
        self.write_line = self._writer.put
        """Writes a finished line. The live table replaces this function while the table is on the terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record as a line."""
        simulated_s = getattr(record, "simulated_s", None)
        if self._journal:
            start = f"<{_PRIORITIES[record.levelno]}>"
        elif simulated_s is not None:
            start = f"{h_mm_ss(simulated_s)} "
        else:
            start = time.strftime("%H:%M:%S ", time.localtime(record.created))
        self.write_line(start + _message_as_line(record))

    @property
    def write_error(self) -> OSError | ValueError | None:
        """The error of the first write that failed; None if no write has failed. After an error, nothing is written."""
        return self._writer.error

    def close(self) -> None:
        """Write the lines that still wait. This takes at most half a second."""
        self._writer.close(0.5)
        super().close()

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class _LineFormatter(logging.Formatter):
    """Makes a line of a record. A traceback is never a part of it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message of `record` as a line that begins with `gpufan: `."""
        return f"gpufan: {_message_as_line(record)}"


def _message_as_line(record: logging.LogRecord) -> str:
    """Return the message of `record` as one line, in which the commands can be copied."""
    return printable(with_own_command(record.getMessage()))


@contextmanager
def log_to(stream: TextIO) -> Iterator[LogHandler]:
    """Write the log of gpufan, from level INFO on, to `stream` during the block. Yields the handler that writes it."""
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
    """Write warnings and errors to standard error during the block. Each is a line that begins with `gpufan: `."""
    logger, handler = logging.getLogger("gpufan"), logging.StreamHandler()
    handler.setFormatter(_LineFormatter())
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@dataclass
class _LogTopic:
    """The state of one kind of news of one card in the log.

    Levels are those of `logging`. A level of 0 means that the news is absent.
    """

    level: int = 0
    present_level: int = 0
    """The last level that was not 0."""
    began_s: float = 0.0
    """The first time at which the news began after the last line about its end, s."""
    changed_s: float = 0.0
    """When the level changed last, s."""
    began_times: int = 0
    """How often the news has begun since the last line."""
    logged_level: int = 0
    """The level of the last line."""
    logged_s: float = -math.inf
    logged_end_s: float = -math.inf
    """The time of the last line about the end of the news, s."""
    wait_s: float = LINE_EVERY_S

    def note(self, now_s: float, level: int) -> None:
        """Remember that the news has the level `level` at `now_s`."""
        if level == self.level:
            return
        if self.level == 0:
            if self.logged_level == 0 and self.began_times == 0:
                self.began_s = now_s
            self.began_times += 1
        self.level, self.changed_s = level, now_s
        self.present_level = level or self.present_level

    def line_due(self, now_s: float) -> tuple[int, str] | None:
        """Return the level and the words of the line that is due at `now_s`; None if no line is due.

        The words, such as ` after 0:00:31`, say how long the news has lasted, or how often it has begun. The first line
        that says that the news is over is due at once. Each time that the news soon comes back, the wait for the next
        line doubles. The wait is short again when the news has not changed for a while: for a minute if it is an error,
        else for up to ten minutes.
        """
        if self.level == self.logged_level and self.began_times == 0:
            return None
        more = self.began_times - (self.level > 0 and self.logged_level == 0)
        calm_s = now_s - self.changed_s
        last_s = self.logged_end_s if self.level == 0 and more == 0 else self.logged_s
        enough_s = LINE_EVERY_S if self.level >= logging.ERROR else min(self.wait_s, CALM_S)
        if now_s - last_s < (LINE_EVERY_S if calm_s >= enough_s else self.wait_s):
            return None
        level, words = self.level, ""
        if more > 0:
            level = self.present_level if calm_s < FLICKER_S else level
            words = f" ({more} more {'time' if more == 1 else 'times'} in {h_mm_ss(now_s - self.logged_s)})"
        elif self.logged_level > 0:
            words = f" {'after' if level == 0 else 'for'} {h_mm_ss(self.changed_s - self.began_s)}"
        if more > 0 or (level and now_s - self.logged_end_s < CALM_S):
            self.wait_s = min(2 * self.wait_s, LONGEST_WAIT_S)
        elif level:
            self.wait_s = LINE_EVERY_S
        self.logged_level, self.logged_s, self.began_times = level, now_s, 0
        if level == 0:
            self.logged_end_s = now_s
        return level, words


class StateLog:
    """Logs the state of a card each time its duty, its control or its severity changes."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._last: dict[str, tuple[Control, int | None, int]] = {}

    def publish(self, snapshot: Snapshot) -> None:
        """Log the state of each card whose duty, control or severity has changed since its last line."""
        for gpu in snapshot.states:
            if gpu.reason.cause is Cause.START:
                continue
            level = _STATE_LEVELS[severity(gpu)]
            state = gpu.control, gpu.duty_percent, level
            if self._last.get(gpu.key) != state:
                self._last[gpu.key] = state
                self._logger.log(level, "%s", card_sentence(gpu), extra={"simulated_s": snapshot.simulated_s})


class ChangeLog:
    """Logs a line when news of `core/news.py` begins or ends, and when the settings of a card change.

    Each kind of news of a card gets at most one line a minute. It gets fewer lines if it begins and ends again and
    again; these lines say how often it has begun. In a dry run, each change of a duty is logged too.
    """

    every_tick = False

    def __init__(self) -> None:
        self._topics: dict[tuple[str, News], _LogTopic] = {}
        self._states = StateLog(_log)
        self._settings: dict[str, str] = {}
        """The last logged settings of each card, by the key of the card."""

    def publish(self, snapshot: Snapshot) -> None:
        """Log what has changed since the last snapshot: news and settings, and in a dry run the duties."""
        if snapshot.dry_run:
            self._states.publish(snapshot)
        self.publish_news(snapshot)

    def publish_news(self, snapshot: Snapshot) -> None:
        """Log news and changed settings, but no duties. This is for a view that shows the duties itself."""
        now_s = time.monotonic() if snapshot.simulated_s is None else snapshot.simulated_s

        def log(level: int, line: str) -> None:
            _log.log(level, "%s", line, extra={"simulated_s": snapshot.simulated_s})

        for gpu in snapshot.states:
            for kind, is_present in news(gpu).items():
                topic = self._topics.setdefault((gpu.pci or gpu.key, kind), _LogTopic())
                topic.note(now_s, _log_level(kind, gpu) if is_present else 0)
                if (due := topic.line_due(now_s)) is not None:
                    level, words = due
                    line = news_sentence(gpu, kind, words) if level else end_of_news_sentence(gpu, kind, words)
                    log(level or logging.INFO, line)
            if gpu.settings and gpu.settings != self._settings.setdefault(gpu.key, gpu.settings):
                log(logging.INFO, changed_settings_sentence(gpu, self._settings[gpu.key]))
                self._settings[gpu.key] = gpu.settings

    def close(self) -> None:
        """Do nothing, since `LogHandler` writes the last lines."""


def _log_level(kind: News, gpu: GpuState) -> int:
    """Return the log level for news of this kind while the news is present."""
    if kind is News.GIVEN_BACK and severity(gpu) is Severity.PROBLEM:
        return logging.ERROR
    return _NEWS_LEVELS.get(kind, logging.WARNING)


def _logs_to_journal(stream: TextIO) -> bool:
    """Whether systemd connected `stream` to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
