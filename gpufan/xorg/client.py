"""A small X client: it connects with a cookie, finds an extension, and makes requests that have a reply.

python-xlib is not used: it has no time limit, so that a server that hangs would block it for ever, and an exception
inside a call leaves its display locked. The layouts are those of the X Window System Protocol, X Version 11, chapter 8
and appendix B.
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
"""For one call, s. A server answers in well under a millisecond, and in tenths of a second while it sets a mode."""

_LONGEST_REPLY = 1 << 20
"""No answer to our requests comes near to so many bytes."""

_QUERY_EXTENSION = 98
_ERROR, _REPLY, _GENERIC_EVENT = 0, 1, 35
_ERROR_NAMES = {1: "BadRequest", 2: "BadValue", 8: "BadMatch", 10: "BadAccess", 11: "BadAlloc", 16: "BadLength"}


def socket_path(number: int) -> str:
    """Where the server of a display listens."""
    return f"/tmp/.X11-unix/X{number}"


class RequestRefused(Exception):
    """The server answered a request with an error; the connection goes on. Never reaches a person as it is."""


@dataclass(frozen=True, slots=True)
class Display:
    """An X server of this machine, and the file with the cookie it asks for."""

    number: int
    authority: Path | None = None

    @classmethod
    def parse(cls, name: str) -> "Display":
        """Read `:0` or `:0.0`; the cookie is looked for where XAUTHORITY says, or in ~/.Xauthority.

        Raises InputError.

        >>> str(Display.parse(":1.0"))
        ':1'
        >>> Display.parse("box:0")
        Traceback (most recent call last):
        gpufan.errors.InputError: display 'box:0': write it as :0; fans are set from the machine that they are in
        """
        match = re.fullmatch(r"(?:unix)?:(\d{1,5})(?:\.\d+)?", name.strip())
        if match is None:
            raise InputError(f"display {name!r}: write it as :0; fans are set from the machine that they are in")
        return cls(int(match[1]), Path(os.environ.get("XAUTHORITY") or Path("~/.Xauthority").expanduser()))

    def __str__(self) -> str:
        return f":{self.number}"


class Connection:
    """A connection to an X server. Each call ends within `limit_s` seconds.

    After a DriverError it is closed for good: whatever would still come in belongs to nobody.
    """

    def __init__(self, display: Display, limit_s: float = LIMIT_S) -> None:
        """Connect. Raises DriverError."""
        self.display = display
        self._limit_s = limit_s
        self._sequence = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with self._call():
            self._connect()
            self._introduce(_cookie(display))

    def extension(self, name: str) -> int | None:
        """Major opcode of an extension; None where the server lacks it. Raises DriverError."""
        text = name.encode()
        reply = self.request(_QUERY_EXTENSION, 0, struct.pack("=HH", len(text), 0) + text + _padding(text))
        present, opcode = reply[8], reply[9]
        return opcode if present else None

    def request(self, opcode: int, minor: int, body: bytes) -> bytes:
        """Make a request and wait for its reply, whose first 32 bytes are the fixed part.

        Raises RequestRefused or DriverError.
        """
        with self._call():
            self._sequence = (self._sequence + 1) % (1 << 16)
            self._socket.settimeout(self._left_s())
            self._socket.sendall(struct.pack("=BBH", opcode, minor, 1 + len(body) // 4) + body)
            return self._answer()

    def close(self) -> None:
        """Hang up; twice is harmless."""
        self._socket.close()

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        """Start the clock; hang up after any failure but an answer that says no."""
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
        left_s = self._ends_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        return left_s

    def _connect(self) -> None:
        """Connect to the socket in /tmp, or to the abstract one of that name where a private /tmp hides the first."""
        self._socket.settimeout(self._left_s())
        path = socket_path(self.display.number)
        try:
            self._socket.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            try:
                self._socket.connect("\0" + path)
            except ConnectionRefusedError:
                self.close()
                raise DriverError(
                    f"no X server runs on display {self.display}: `ls /tmp/.X11-unix` shows those that do"
                ) from None

    def _introduce(self, cookie: bytes) -> None:
        scheme = SCHEME if cookie else b""
        order = b"l" if sys.byteorder == "little" else b"B"
        self._socket.sendall(
            struct.pack("=cxHHHHxx", order, 11, 0, len(scheme), len(cookie))
            + scheme
            + _padding(scheme)
            + cookie
            + _padding(cookie)
        )
        head = self._receive(8)
        accepted, reason_length, words = struct.unpack("=BB4xH", head)
        rest = self._receive(4 * words)
        if accepted != 1:
            reason = printable(rest[:reason_length].decode(errors="replace")).strip() or "it wants to know who asks"
            raise DriverError(
                f"X server {self.display} turned us away ({reason}): set XAUTHORITY to its cookie file, which"
                " `ps -C Xorg -o args` shows after -auth"
            )

    def _answer(self) -> bytes:
        """Next reply or error; events, which nobody asked for, are passed over."""
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


def _cookie(display: Display) -> bytes:
    """Cookie for `display`; empty where there is none to be had, as many a server lets us in without."""
    if display.authority is None:
        return b""
    try:
        return find_cookie(display.authority, display.number)
    except OSError:
        return b""


def _padding(data: bytes) -> bytes:
    """Fills up to a multiple of four bytes."""
    return bytes(-len(data) % 4)
