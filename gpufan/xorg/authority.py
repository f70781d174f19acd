"""Cookie files of X, such as `~/.Xauthority` (see Xau(3)).

With a cookie, a client proves that it may connect to an X server. An entry consists of family (16 bits), address,
display number, scheme and cookie. The length of each of the last four fields (16 bits) comes before the field. All
numbers are big-endian.
"""

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

SCHEME = b"MIT-MAGIC-COOKIE-1"
_LOCAL = 256
_WILD = 65535
"""The family of an entry that is valid for every address."""


def write_cookie(path: Path, cookie: bytes) -> None:
    """Write the cookie file `path`, in which `cookie` is valid for every display. Only the owner can read the file.

    Raises OSError.
    """
    fields = (b"", b"", SCHEME, cookie)
    entry = struct.pack(">H", _WILD) + b"".join(struct.pack(">H", len(field)) + field for field in fields)
    path.unlink(missing_ok=True)  # an existing file would keep its mode
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(entry)


def find_cookie(path: Path, display_number: int) -> bytes:
    """Find the cookie for a display of this machine in the cookie file `path`.

    Returns the cookie; empty if the file has no cookie for the display. Raises OSError if the file cannot be read.
    """
    here = socket.gethostname().encode()
    found = b""
    for family, address, number, scheme, cookie in _cookie_entries(path.read_bytes()):
        if family in (_LOCAL, _WILD) and number in (b"", b"%d" % display_number) and scheme == SCHEME:
            if family == _WILD or address == here:
                return cookie
            found = found or cookie  # perhaps this machine had that name before
    return found


def _cookie_entries(data: bytes) -> Iterator[tuple[int, bytes, bytes, bytes, bytes]]:
    """Return the entries in `data`, the content of a cookie file, up to the first incomplete entry.

    An entry is a tuple of family, address, display number, scheme and cookie.
    """
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
