"""A small X client: it connects with a cookie, finds an extension, and makes requests that have a reply.

python-xlib is not used, because it has no time limit: a server that hangs would block gpufan for ever. Also, after an
exception inside a call, the display object of python-xlib stays locked. The byte layouts are those of the X Window
System Protocol, X Version 11, chapter 8 and appendix B.
"""

import contextlib
import os
import re
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpufan.errors import DriverError, InputError
from gpufan.system.printable import printable
from gpufan.xorg.authority import SCHEME, find_cookie

LIMIT_S = 3.0
"""Time limit for one call, s. A server usually answers within 1 ms, and within 1 s while it sets a display mode."""

_LONGEST_REPLY = 1 << 20
"""Limit for the length of a reply, bytes. Every reply to our requests is far shorter."""

_QUERY_EXTENSION = 98
_ERROR, _REPLY, _GENERIC_EVENT = 0, 1, 35
_ERROR_NAMES = {1: "BadRequest", 2: "BadValue", 8: "BadMatch", 10: "BadAccess", 11: "BadAlloc", 16: "BadLength"}


def display_socket_path(number: int) -> str:
    """Return the path of the socket of the X server on the display `number`."""
    return f"/tmp/.X11-unix/X{number}"


class RequestRefused(Exception):
    """The server answered a request with an error.

    The connection can still be used. gpufan catches every RequestRefused.
    """


@dataclass(frozen=True, slots=True)
class Display:
    """A display of an X server on this machine, and the path of its cookie file. Without a path, no cookie is used."""

    number: int
    authority: Path | None = None

    @classmethod
    def parse(cls, name: str) -> "Display":
        """Parse a display name, for example `:0` or `:0.0`. Raises InputError if the name has another form.

        The cookie file is $XAUTHORITY. If this variable is not set, the cookie file is ~/.Xauthority.

        >>> str(Display.parse(":1.0"))
        ':1'
        >>> Display.parse("box:0")
        Traceback (most recent call last):
        gpufan.errors.InputError: display 'box:0': write it as :0; an X server of another machine cannot be used
        """
        match = re.fullmatch(r"(?:unix)?:([0-9]{1,5})(?:\.[0-9]+)?", name.strip())
        if match is None:
            raise InputError(f"display {name!r}: write it as :0; an X server of another machine cannot be used")
        return cls(int(match[1]), Path(os.environ.get("XAUTHORITY") or Path("~/.Xauthority").expanduser()))

    def __str__(self) -> str:
        return f":{self.number}"


class Connection:
    """A connection to an X server. Each call ends within `limit_s` seconds.

    A call that raises DriverError closes the connection: a late reply must not be read as the reply to a later request.
    """

    def __init__(self, display: Display, limit_s: float = LIMIT_S) -> None:
        """Connect to the X server on `display`. Raises DriverError if this fails."""
        self.display = display
        self._limit_s = limit_s
        self._sequence = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with self._call():
            self._connect()
            self._set_up(self._cookie())

    def extension(self, name: str) -> int | None:
        """Return the major opcode of the extension `name`; None if the server does not have it. Raises DriverError."""
        text = name.encode()
        reply = self.request(_QUERY_EXTENSION, 0, struct.pack("=HH", len(text), 0) + text + self._padding(text))
        present, opcode = reply[8], reply[9]
        return opcode if present else None

    def request(self, opcode: int, minor: int, body: bytes) -> bytes:
        """Send a request, and return the whole reply. The first 32 bytes of a reply are its fixed part.

        `opcode` and `minor` are the major and the minor opcode. `body` is the rest of the request; its length must be a
        multiple of four. Raises RequestRefused if the server answers with an error, and DriverError if the connection
        fails.
        """
        with self._call():
            self._sequence = (self._sequence + 1) % (1 << 16)
            self._socket.settimeout(self._left_s())
            self._socket.sendall(struct.pack("=BBH", opcode, minor, 1 + len(body) // 4) + body)
            return self._answer()

    def close(self) -> None:
        """Close the connection; a second call is harmless."""
        self._socket.close()

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        """Start the time limit for the `with` block. Raises DriverError if the time is over or the connection fails.

        If the block raises an exception other than RequestRefused, close the connection.
        """
        self._ends_s = time.monotonic() + self._limit_s
        try:
            yield
        except RequestRefused:
            raise
        except BaseException as error:
            self.close()
            if isinstance(error, TimeoutError):
                raise DriverError(f"X server {self.display} has not answered for {self._limit_s:g} s") from error
            if isinstance(error, (OSError, struct.error)):
                raise DriverError(f"X server {self.display} has gone: {error.args[-1]}") from error
            raise

    def _left_s(self) -> float:
        """Return how many seconds are left for the call. Raises TimeoutError if no time is left."""
        left_s = self._ends_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s

    @staticmethod
    def _padding(data: bytes) -> bytes:
        """Return the zero bytes to add after `data`, so that the length becomes a multiple of four."""
        return bytes(-len(data) % 4)

    def _cookie(self) -> bytes:
        """Return the cookie for the display; empty if there is no cookie, or if the cookie file cannot be read.

        Some servers need no cookie.
        """
        if self.display.authority is None:
            return b""
        try:
            return find_cookie(self.display.authority, self.display.number)
        except OSError:
            return b""

    def _connect(self) -> None:
        """Connect to the server's socket in /tmp. If this fails, connect to the abstract socket of the same name.

        The abstract socket is needed if gpufan has a private /tmp. Raises DriverError if no server runs on the display.
        """
        path = display_socket_path(self.display.number)
        for address in (path, "\0" + path):
            self._socket.settimeout(self._left_s())
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                self._socket.connect(address)
                return
        raise DriverError(f"no X server runs on display {self.display}: `ls /tmp/.X11-unix` shows those that do")

    def _set_up(self, cookie: bytes) -> None:
        """Send the connection setup with `cookie`, which may be empty.

        Raises DriverError if the server refuses the connection.
        """
        scheme = SCHEME if cookie else b""
        order = b"l" if sys.byteorder == "little" else b"B"
        self._socket.sendall(
            struct.pack("=cxHHHHxx", order, 11, 0, len(scheme), len(cookie))
            + scheme
            + self._padding(scheme)
            + cookie
            + self._padding(cookie)
        )
        head = self._receive(8)
        accepted, reason_length, words = struct.unpack("=BB4xH", head)
        rest = self._receive(4 * words)
        if accepted != 1:
            reason = printable(rest[:reason_length].decode(errors="replace")).strip() or "it gives no reason"
            raise DriverError(
                f"X server {self.display} refused the connection ({reason}): set XAUTHORITY to its cookie file, which"
                " `ps -C Xorg -o args` shows after -auth"
            )

    def _answer(self) -> bytes:
        """Wait for the reply to the last request, and return the reply. Events are ignored.

        Raises RequestRefused if the server answers with an error, and OSError if the connection fails.
        """
        while True:
            head = self._receive(32)
            kind, detail, sequence, words = struct.unpack_from("=BBHI", head)
            kind &= 0x7F
            rest = self._receive(4 * words) if kind in (_REPLY, _GENERIC_EVENT) else b""
            if kind not in (_ERROR, _REPLY):
                continue
            if sequence != self._sequence:
                raise ConnectionAbortedError("it answered a request that was not made")
            if kind == _ERROR:
                raise RequestRefused(_ERROR_NAMES.get(detail, f"error {detail}"))
            return head + rest

    def _receive(self, count: int) -> bytes:
        """Wait for exactly `count` bytes, and return them.

        Raises OSError if the server closes the connection, if the time is over, or if `count` is too large.
        """
        if count > _LONGEST_REPLY:
            raise ConnectionAbortedError(f"it announced an answer of {count} bytes")
        data = bytearray()
        while len(data) < count:
            self._socket.settimeout(self._left_s())
            part = self._socket.recv(count - len(data))
            if not part:
                raise ConnectionResetError("it closed the connection")
            data += part
        return bytes(data)
