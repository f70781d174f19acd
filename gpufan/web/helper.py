"""The apply helper: the part of `sudo gpufan web` that has rights, and its client in the process that speaks HTTP.

Both ends of a socket pair exchange lines of JSON. The helper accepts three requests: `diff`, `apply` and `undo`. It
does not trust the data that it receives: the settings are read into types, the helper itself makes the text of the file
from them, and the path of the file is fixed at the start. So the other process can change only the settings of fans.
"""

import socket
import threading
from typing import Any, Protocol

import msgspec

from gpufan.errors import GpufanError, InputError
from gpufan.web.apply import Applier
from gpufan.web.page_settings import PageSettings

LINE_BYTES = 262144
"""A request or an answer may have this many bytes at most."""
_ANSWER_S = 140.0
"""Time limit for an answer of the helper, s. A reload of the service may need most of it."""


class DiffRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="diff"):
    """A request to show what would change."""

    settings: PageSettings


class ApplyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="apply"):
    """A request to make a change that was shown."""

    id: str


class UndoRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="undo"):
    """A request to undo a change."""

    undo_id: str


HelperRequest = DiffRequest | ApplyRequest | UndoRequest
_REQUEST: msgspec.json.Decoder[HelperRequest] = msgspec.json.Decoder(HelperRequest)


class Appliers(Protocol):
    """Answers requests to change the settings."""

    def answer(self, request: HelperRequest) -> dict[str, Any]:
        """Return the answer to `request`. Raises GpufanError with the reason if it is refused."""


class DirectApplier:
    """Changes the settings in this process, which may do so."""

    def __init__(self, applier: Applier) -> None:
        self._applier = applier
        self._lock = threading.Lock()

    def answer(self, request: HelperRequest) -> dict[str, Any]:
        """Return the answer to `request`. Raises GpufanError with the reason if it is refused."""
        with self._lock:
            if isinstance(request, DiffRequest):
                request.settings.chosen_curve()
                return self._applier.diff(request.settings)
            if isinstance(request, ApplyRequest):
                return self._applier.apply(request.id)
            return self._applier.undo(request.undo_id)


class HelperClient:
    """Sends requests to the helper. Threads may share it; they wait for each other."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._connection.settimeout(_ANSWER_S)
        self._lines = LineReader(connection)
        self._lock = threading.Lock()

    def answer(self, request: HelperRequest) -> dict[str, Any]:
        """Return the answer to `request`. Raises GpufanError with the reason if it is refused."""
        with self._lock:
            try:
                self._connection.sendall(msgspec.json.encode(request) + b"\n")
                line = self._lines.read()
            except OSError as error:
                raise GpufanError(f"the settings cannot be changed any more: {error.strerror or error}") from error
        if line is None:
            raise GpufanError("the settings cannot be changed any more: run `sudo gpufan web` again")
        answer: dict[str, Any] = msgspec.json.decode(line)
        if "refused" in answer:
            raise (InputError if answer.get("is_input") else GpufanError)(str(answer["refused"]))
        return answer


class LineReader:
    """Reads lines from a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""

    def read(self) -> bytes | None:
        """Wait for a line, and return it; None at the end. Raises OSError, also if a line is too long."""
        while b"\n" not in self._rest:
            if len(self._rest) > LINE_BYTES:
                raise OSError("a line is too long")
            received = self._connection.recv(65536)
            if not received:
                return None
            self._rest += received
        line, _, self._rest = self._rest.partition(b"\n")
        return line


def helper_answer(line: bytes, applier: DirectApplier | None) -> bytes:
    """Return the answer to the request `line`, as a line. If the line is wrong, the answer has an error.

    `applier` changes the settings; None refuses every request.
    """
    try:
        if applier is None:
            raise GpufanError("the settings cannot be changed from this page")
        answer = applier.answer(_REQUEST.decode(line))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        answer = {"refused": "the helper does not know this request", "is_input": True}
    except GpufanError as error:
        answer = {"refused": str(error), "is_input": isinstance(error, InputError)}
    except Exception as error:  # it must not end the page, which still shows the cards
        answer = {"refused": f"{type(error).__name__}: {error} (this is a bug)", "is_input": False}
    return msgspec.json.encode(answer) + b"\n"
