"""Delivers one message with Apprise, in a process of its own: `python -m gpufan.alerts.deliver`.

If a receiver hangs, the parent process can end this process. What Apprise logs or raises may contain secrets. So this
process never passes it on; it answers with a phrase of this file instead. The request is JSON on standard input, and
the answer is JSON on standard output.
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
"""Patterns of the log of Apprise, each with its meaning for people. The first pattern that matches counts."""

UNKNOWN = "no reason is known"
MISSING = "apprise is not installed"


class Request(msgspec.Struct):
    """A task: send `text` to all `urls`. If `text` is empty, only check the URLs."""

    urls: list[str]
    title: str = ""
    text: str = ""
    kind: str = "info"
    """The kind of the message, which decides its colour in Apprise: info, success, warning or failure."""


class Answer(msgspec.Struct):
    """The result of a request."""

    bad: list[int] = []
    """The positions, from 0 on, of the URLs that Apprise does not understand."""
    reason: str = ""
    """Why the request failed; empty if it did not fail."""


class _AppriseLog(logging.Handler):
    """Keeps the lines of the log of Apprise in memory."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Store one line."""
        self.lines.append(record.getMessage())


def apprise_log_phrase(lines: list[str]) -> str:
    """Return the meaning of `lines`, the log of Apprise, as a phrase for people.

    The phrase repeats no word of the log, since the log may contain secrets.
    """
    log = "\n".join(lines).lower()
    return next((meaning for pattern, meaning in _PHRASES if re.search(pattern, log)), UNKNOWN)


def deliver_request(request: Request) -> Answer:
    """Send the text of `request` to its URLs, or only check the URLs if there is no text. Return the result.

    This function raises no error.
    """
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
    """Check the URLs of `request` with Apprise. If all are right, send its text, if it has one. Return the result.

    `log` is the handler that keeps the log of Apprise. Raises any error that Apprise raises.
    """
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
