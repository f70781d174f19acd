"""Cookie files (`~/.Xauthority`, Xau(3)): the cookies with which clients prove to an X server that they may connect.

An entry is a family (16 bits), then address, display number, scheme and cookie, each preceded by its length (16 bits).
All numbers are big-endian.
"""

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

SCHEME = b"MIT-MAGIC-COOKIE-1"
_LOCAL = 256
_WILD = 65535
"""Family of an entry for every address."""


def write_cookie(path: Path, cookie: bytes) -> None:
    """Write a cookie file with `cookie` for every display. Only its owner can read it. Raises OSError."""
    fields = (b"", b"", SCHEME, cookie)
    entry = struct.pack(">H", _WILD) + b"".join(struct.pack(">H", len(field)) + field for field in fields)
    path.unlink(missing_ok=True)  # an existing file would keep its mode
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(entry)


def find_cookie(path: Path, display_number: int) -> bytes:
    """Return the cookie in a cookie file for a display of this machine; empty if there is none. Raises OSError."""
    here = socket.gethostname().encode()
    found = b""
    for family, address, number, scheme, cookie in _cookie_entries(path.read_bytes()):
        if family in (_LOCAL, _WILD) and number in (b"", b"%d" % display_number) and scheme == SCHEME:
            if family == _WILD or address == here:
                return cookie
            found = found or cookie  # perhaps this machine had that name before
    return found


def _cookie_entries(data: bytes) -> Iterator[tuple[int, bytes, bytes, bytes, bytes]]:
    """Return family, address, display number, scheme and cookie of each entry, up to the first incomplete entry."""
    start = 0
    try:
        while start < len(data):
            (family,) = struct.unpack_from(">H", data, start)
            start += 2
            fields = []
            for _ in range(4):
                (length,) = struct.unpack_from(">H", data, start)
                fields.append(struct.unpack_from(f"{length}s", data, start + 2)[0])
                start += 2 + length
            yield family, fields[0], fields[1], fields[2], fields[3]
    except struct.error:
        return
