"""Deliver one message with Apprise, in a process of its own: `python -m gpufan.alerts.deliver`.

The parent can end it when a receiver hangs, and nothing that Apprise logs or raises, which may contain secrets, reaches
anybody: only phrases of this file do. Request and answer are JSON on standard input and output.
"""

import logging
import re
import sys

import msgspec

_PHRASES = (
    (
        r"name or service not known|name resolution|getaddrinfo|no address associated",
        "no such host, or no name service",
    ),
    (r"connection refused|errno 111\b", "the receiver refuses the connection"),
    (r"network is unreachable|no route to host|errno 10[01]\b|errno 113\b", "the network does not reach the receiver"),
    (r"timed? ?out|timeout", "the receiver is too slow"),
    (r"certificate|\bssl\b|\btls\b", "no secure connection: wrong certificate, or wrong port"),
    (r"\b(401|403|407|530|534|535)\b|authenti|unauthorized|invalid token", "the receiver refuses the user or password"),
    (r"\b404\b|not found", "the receiver does not know the address"),
    (r"\b429\b|rate limit", "the receiver gets too many messages"),
    (r"\b5\d\d\b", "the receiver has an error of its own"),
    (r"connection (aborted|reset)|remote end closed|unexpectedly closed", "the receiver closed the connection"),
)
"""What a line of Apprise's log looks like, and what it means. The first that fits is shown."""

UNKNOWN = "no reason is known"
MISSING = "apprise is not installed"


class Request(msgspec.Struct):
    """A task: send `text` to all `urls`. Without a text, only check the URLs."""

    urls: list[str]
    title: str = ""
    text: str = ""
    kind: str = "info"
    """A word of Apprise for the colour: info, success, warning or failure."""


class Answer(msgspec.Struct):
    """The result of a request."""

    bad: list[int] = []
    """Positions of the URLs that Apprise does not understand, or that failed."""
    reason: str = ""
    """Why sending failed; empty if it did not."""


class _AppriseLog(logging.Handler):
    """Stores the lines of Apprise's log in memory."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Store one line."""
        self.lines.append(record.getMessage())


def apprise_log_phrase(lines: list[str]) -> str:
    """Return the meaning of a log of Apprise. No word of the log is in it, since the log may have secrets."""
    log = "\n".join(lines).lower()
    return next((meaning for pattern, meaning in _PHRASES if re.search(pattern, log)), UNKNOWN)


def deliver_request(request: Request) -> Answer:
    """Check the URLs of `request` or send its text, and return the result. Never raises."""
    log = _AppriseLog()
    logger = logging.getLogger("apprise")
    logger.handlers, logger.propagate = [log], False
    logger.setLevel(logging.DEBUG)
    try:
        return _check_or_send_with_apprise(request, log)
    except Exception as error:  # of any kind: its text may have a secret
        if isinstance(error, ModuleNotFoundError) and error.name == "apprise":
            return Answer(reason=MISSING)
        return Answer(reason=apprise_log_phrase([*log.lines, str(error)]))


def _check_or_send_with_apprise(request: Request, log: _AppriseLog) -> Answer:
    """Check the URLs of `request` or send its text, with Apprise. Raises whatever Apprise raises."""
    import apprise

    asset = apprise.AppriseAsset(app_id="gpufan", app_desc="gpufan", async_mode=False, secure_logging=True)
    sender = apprise.Apprise(asset=asset)
    bad = [number for number, url in enumerate(request.urls) if not sender.add(url)]
    if not request.text or bad:
        return Answer(bad, "" if not bad else "apprise does not understand the URL")
    log.lines.clear()
    # The body is text: else a receiver of HTML or Markdown would interpret it.
    sent = sender.notify(request.text, title=request.title, notify_type=request.kind, body_format="text")
    return Answer(reason="" if sent else apprise_log_phrase(log.lines))


def deliver_from_stdin() -> None:
    """Read a request from standard input, carry it out, and write the answer to standard output."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    result = deliver_request(request)
    sys.stdout.buffer.write(msgspec.json.encode(result))


if __name__ == "__main__":
    deliver_from_stdin()
