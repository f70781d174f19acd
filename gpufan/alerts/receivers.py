"""The receivers of messages: URLs of Apprise, and scripts of the user. Each delivery has a time limit."""

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from gpufan.alerts import messages
from gpufan.alerts.deliver import MISSING, UNKNOWN, Answer, Request
from gpufan.alerts.messages import Message, Phase, Trouble
from gpufan.alerts.settings import AlertSettings
from gpufan.errors import GpufanError, InputError, MissingExtra

SCRIPT_S = 30.0
"""Time limit for a script, s."""
DELIVERY_S = 90.0
"""Time limit for the delivery to one URL, s."""

_NOBODY = 65534
_HOST_SCHEMES = re.compile(r"(mailto|json|xml|form|ntfy|gotify|matrix|mmost|rocket|xmpp|signal|mqtt|apprise)s?")
"""URL schemes that have a host name after `://`. Many other schemes, such as tgram, have a secret there."""
_HOST = re.compile(r"localhost|[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z]{2,12}|[0-9.]{7,15}|[0-9a-f:]{2,39}")

_KINDS = {Phase.OVER: "success", Phase.TEST: "info"}
_FAILURES = {Trouble.LOST, Trouble.FAN_STILL, Trouble.HOT, Trouble.NO_CONTROLLER}
"""The troubles that Apprise shows as a failure. It shows other troubles as a warning."""


class NotDelivered(GpufanError):
    """Raised if a receiver has not accepted a message. The text of this error has no secret."""


class Receiver(Protocol):
    """A receiver of messages."""

    @property
    def name(self) -> str:
        """The name of the receiver for people, without secrets."""

    def send(self, message: Message) -> None:
        """Deliver a message within the time limit of the receiver. Raises NotDelivered if that fails."""


@dataclass(frozen=True)
class UrlReceiver:
    """A receiver that Apprise reaches by a URL."""

    number: int
    """The position of the URL in the settings file, from 1 on."""
    url: str = field(repr=False)

    @property
    def name(self) -> str:
        """The position of the URL in the settings file, with its scheme and host: `urls 1 (ntfy://ntfy.sh)`."""
        return f"urls {self.number} ({masked_receiver_url(self.url)})"

    def send(self, message: Message) -> None:
        """Deliver a message with Apprise. Raises NotDelivered if that fails."""
        kind = _KINDS.get(message.phase) or ("failure" if message.trouble in _FAILURES else "warning")
        request = Request([self.url], messages.message_title(message), messages.message_text(message), kind)
        reason = _deliver_to_url_receivers(request).reason
        if reason:
            raise NotDelivered(reason)


@dataclass(frozen=True)
class ScriptReceiver:
    """A receiver that is a program of the user."""

    path: str

    @property
    def name(self) -> str:
        """The path of the program."""
        return self.path

    def send(self, message: Message) -> None:
        """Run the program, which gets the message as JSON and in its environment.

        Raises NotDelivered if the program cannot be run, fails, or lasts too long.
        """
        options = {"stdout": subprocess.DEVNULL, **_script_receiver_rights()}
        status, _ = _run_receiver_program(
            [self.path], messages.message_as_json(message), SCRIPT_S, messages.message_environment(message), options
        )
        if status != 0:
            raise NotDelivered(f"exit status {status}" if status > 0 else f"ended by signal {-status}")


def receivers(settings: AlertSettings) -> list[Receiver]:
    """Return all receivers in the settings: the URLs, then the scripts."""
    urls = [UrlReceiver(number, url) for number, url in enumerate(settings.urls, 1)]
    return [*urls, *map(ScriptReceiver, settings.scripts)]


def check_receivers(settings: AlertSettings, name: Path) -> None:
    """Check the receivers in the settings, and send no message. Raises InputError, which names each wrong receiver.

    `name` is the settings file, for the error. Raises MissingExtra or GpufanError if the URLs cannot be checked.
    """
    mistakes = [f"urls: entry {number}: {problem}" for number, problem in receiver_url_problems(settings.urls)]
    mistakes += [
        f"on_event: entry {number}: {problem}"
        for number, script in enumerate(settings.scripts, 1)
        if (problem := _script_receiver_problem(Path(script)))
    ]
    if mistakes:
        raise InputError(f"{name}: {'; '.join(mistakes)}")


def receiver_url_problems(urls: Sequence[str]) -> list[tuple[int, str]]:
    """Ask Apprise about `urls`. Return the position and a sentence for each URL that it does not understand.

    Positions count from 1. Raises MissingExtra if Apprise is not installed, GpufanError if it does not answer.
    """
    if not urls:
        return []
    if find_spec("apprise") is None:
        raise MissingExtra("messages need", "apprise", "alerts")
    try:
        answer = _deliver_to_url_receivers(Request(list(urls)))
    except NotDelivered as error:
        raise GpufanError(f"the URLs cannot be checked: {error}") from None
    if answer.reason and not answer.bad:
        raise GpufanError(f"the URLs cannot be checked: {answer.reason}")
    return [
        (place + 1, f"{masked_receiver_url(urls[place])} is no URL that Apprise understands") for place in answer.bad
    ]


def masked_receiver_url(url: str) -> str:
    """Return the scheme and the host of a URL, without its secrets: `ntfy://ntfy.sh`.

    If the host may be a secret, `...` replaces it.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9+.-]{0,19}", scheme):
        return "..."
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    is_shown = _HOST_SCHEMES.fullmatch(scheme.lower()) and _HOST.fullmatch(host)
    return f"{scheme}://{host if is_shown else '...'}"


def _script_receiver_problem(script: Path) -> str | None:
    """Return why the program `script` cannot run or must not be run; None if it can be run."""
    hidden = "; the service sees no home folders and nothing in /tmp"
    try:
        status = script.stat()
    except OSError as error:
        return f"{script}: {error.strerror}{hidden}"
    if not script.is_file() or not status.st_mode & 0o111:
        return f"{script} is not a program: `chmod +x` makes it one"
    real = script.resolve()
    exposed = next((path for path in (real, *real.parents) if _others_can_replace_receiver_script(path)), None)
    if exposed:
        return f"{script}: others can write {exposed}: `sudo chown root: {exposed} && sudo chmod 755 {exposed}`"
    return None


def _others_can_replace_receiver_script(path: Path) -> bool:
    """Whether other users than root and this user can change `path`.

    For a file, this means to write it. For a folder, this means to replace files in it.
    """
    status = path.stat()
    is_shared = status.st_mode & 0o022 and not (path.is_dir() and status.st_mode & stat.S_ISVTX)
    return status.st_uid not in (0, os.geteuid()) or bool(is_shared)


def _deliver_to_url_receivers(request: Request) -> Answer:
    """Start a process that carries out `request` with Apprise. Return the answer of the process.

    Raises NotDelivered if the process gives no answer in time, MissingExtra if Apprise is not installed.
    """
    command = [sys.executable, "-I", "-m", "gpufan.alerts.deliver"]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    status, output = _run_receiver_program(command, msgspec.json.encode(request), DELIVERY_S, {}, quiet)
    try:
        answer = msgspec.json.decode(output or b"", type=Answer)
    except msgspec.DecodeError:
        raise NotDelivered(f"{UNKNOWN}; exit status {status}") from None
    if answer.reason == MISSING:
        raise MissingExtra("messages need", "apprise", "alerts")
    return answer


def _run_receiver_program(
    command: list[str], data: bytes, limit_s: float, environment: Mapping[str, str], options: Mapping[str, Any]
) -> tuple[int, bytes | None]:
    """Run a program. Return its exit status, and its standard output if `options` connect it to a pipe.

    The program gets `data` on its standard input. It gets the environment of this process, without variables that are
    only for a service, and the variables in `environment`. `options` are further arguments of Popen. Raises
    NotDelivered if the program cannot be run, or lasts longer than `limit_s`.
    """
    secret = ("CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET")
    inherited = {name: value for name, value in os.environ.items() if name not in secret}
    variables = {**inherited, **environment}
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, env=variables, cwd="/", start_new_session=True, **options
        )
    except OSError as error:
        raise NotDelivered(f"{command[0]} cannot be run: {error.strerror}") from None
    with process:
        try:
            output, _ = process.communicate(data, timeout=limit_s)
        except subprocess.TimeoutExpired:
            # All that it has started ends with it.
            os.killpg(process.pid, signal.SIGKILL)
            raise NotDelivered(f"no end within {limit_s:g} s") from None
    return process.returncode, output


def _script_receiver_rights() -> dict[str, Any]:
    """Return the arguments of Popen that take the rights of root away from a script.

    If this process is root, a script runs as the user who called sudo. If there is no such user, it runs as nobody. If
    this process is not root, there are no arguments.
    """
    if os.geteuid() != 0:
        return {}
    sudo = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    is_person = all(word.isdecimal() and word != "0" for word in sudo)
    user, group = (int(sudo[0]), int(sudo[1])) if is_person else (_NOBODY, _NOBODY)
    return {"user": user, "group": group, "extra_groups": []}
