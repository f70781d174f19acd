"""An X server that has only NV-CONTROL, for the cards of a simulated box.

It listens at /tmp/.X11-unix/X<number>, with a high number that is free, and implements as much of the core protocol as
a real client library needs: setup with a cookie, QueryExtension, ListExtensions, GetKeyboardMapping,
GetInputFocus. Layouts are those of the X protocol, appendix B, and of NVIDIA's nv_control.h; they are written down here
a second time, independently of gpufan, so that a mistake in one of them is found.
"""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from gpufan.gpu.simulated import SimulatedBox, SimulatedGpu

NAME = b"NV-CONTROL"
OPCODE = 157
COOKIE = bytes(range(16))

GPU, COOLER = 1, 5
TEMPERATURE, SLOWDOWN = 60, 61
PCI_BUS, PCI_DEVICE, PCI_FUNCTION, PCI_DOMAIN = 239, 240, 241, 306
MANUAL, LEVEL, RPM, CURRENT_LEVEL = 319, 320, 405, 417
PRODUCT, UUID = 0, 52
COOLERS_OF_GPU = 10

QUERY, SET_ONLY, QUERY_STRING, QUERY_RANGE, SET, QUERY_BINARY, COUNT = 2, 3, 4, 5, 19, 20, 24
BAD_REQUEST, BAD_VALUE, BAD_MATCH = 1, 2, 8
ABSENT = 0
"""In `failures`: the target does not have the attribute, or refuses to set it."""


class _Error(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


class NvControlServer:
    """Serves `box` until closed. Everything public may be changed while it runs.

    `box` may be anything whose cards are used like simulated ones. The display is the first of `numbers` that is free,
    and `folder` gets a file with its cookie. `order` are the indices of the cards that are the server's GPU 0, 1, ...
    Coolers are numbered from the last of them to the first, so that neither numbering is like NVML's.
    """

    def __init__(
        self,
        box: SimulatedBox,
        folder: Path,
        order: Sequence[int] | None = None,
        numbers: Iterable[int] | None = None,
        cookie: bytes = COOKIE,
    ) -> None:
        self.cards: list[SimulatedGpu] = [box.gpus[i] for i in (order or range(len(box.gpus)))]
        self.coolers: list[SimulatedGpu] = [c for c in reversed(self.cards) for _ in range(c.plant.fan_count)]
        self.levels: dict[int, int] = {}
        self.coolbits = True
        self.refusal = b"Authorization required, but no authorization protocol specified\n"
        """The answer to a client without the cookie."""
        self.extension = True
        self.uuids = True
        self.sets: list[tuple[int, int, int, int]] = []
        """Each request to set an attribute: target type, target, attribute, value."""
        self.failures: dict[tuple[int, int], int] = {}
        """The X error, or ABSENT, for an attribute and the number of its target."""
        self.before_reply: Callable[[], Iterable[bytes]] = lambda: ()
        """Called for each request of NV-CONTROL; what it yields is sent before the reply."""
        self.hanging = threading.Event()
        """While set, requests of NV-CONTROL are not answered."""
        self.connections = 0
        self._clients: list[socket.socket] = []
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._cookie = cookie
        # Each process has its own numbers: another test must not take a number that was just freed.
        own = 1000 + os.getpid() % 500 * 100
        self._listener, self.number = _listen(range(own, own + 100) if numbers is None else numbers)
        self.name = f":{self.number}"
        self.authority = folder / f"Xauthority{self.number}"
        _write_authority(self.authority, self.number, cookie)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "NvControlServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End: break every connection and free the display."""
        self._closed.set()
        with contextlib.suppress(OSError):
            Path(self._listener.getsockname()).unlink(missing_ok=True)
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """Break every connection; new ones are accepted."""
        with self._lock:
            for client in self._clients:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
            self._clients.clear()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._clients.append(client)
                self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(EOFError, OSError):
            if not self._setup(client):
                return
            sequence = 0
            while True:
                opcode, detail, words = struct.unpack("=BBH", _exactly(client, 4))
                body = _exactly(client, 4 * words - 4)
                sequence = (sequence + 1) & 0xFFFF
                if opcode == OPCODE:
                    while self.hanging.is_set() and not self._closed.wait(0.01):
                        pass
                    for part in self.before_reply():
                        client.sendall(part)
                try:
                    with self._lock:
                        data, fixed, rest = self._answer(opcode, detail, body)
                    reply = struct.pack("=BBHI", 1, data, sequence, len(rest) // 4) + fixed.ljust(24, b"\0") + rest
                except _Error as error:
                    reply = struct.pack("=BBHIHB21x", 0, error.code, sequence, 0, detail, opcode)
                client.sendall(reply)

    def _setup(self, client: socket.socket) -> bool:
        order, major, name_length, data_length = struct.unpack("=cxHxxHHxx", _exactly(client, 12))
        assert (order, major) == (b"l" if struct.pack("=H", 1)[0] else b"B", 11)
        name = _exactly(client, _round(name_length))[:name_length]
        cookie = _exactly(client, _round(data_length))[:data_length]
        if (name, cookie) != (b"MIT-MAGIC-COOKIE-1", self._cookie):
            text = self.refusal.ljust(_round(len(self.refusal)), b"\0")
            client.sendall(struct.pack("=BBHHH", 0, len(self.refusal), 11, 0, len(text) // 4) + text)
            return False
        vendor = b"gpufan double"
        screen = struct.pack("=5I6HI4B", 1, 2, 0, 1, 0, 640, 480, 160, 120, 1, 1, 3, 0, 0, 24, 0)
        body = struct.pack("=4IHH8B4x", 1, 0x400000, 0x3FFFFF, 0, len(vendor), 0xFFFF, 1, 0, 0, 0, 32, 32, 8, 255)
        body += vendor.ljust(_round(len(vendor)), b"\0") + screen
        client.sendall(struct.pack("=BxHHH", 1, 11, 0, len(body) // 4) + body)
        return True

    def _answer(self, opcode: int, detail: int, body: bytes) -> tuple[int, bytes, bytes]:
        """Second byte, fixed part and rest of the reply."""
        names = [NAME] if self.extension else []
        if opcode == 98:
            (length,) = struct.unpack_from("=H", body)
            there = body[4 : 4 + length] in names
            return 0, struct.pack("=BBBB", there, OPCODE if there else 0, 0, 0), b""
        if opcode == 99:
            listed = b"".join(bytes([len(name)]) + name for name in names)
            return len(names), b"", listed.ljust(_round(len(listed)), b"\0")
        if opcode == 101:
            return 1, b"", bytes(4 * body[1])
        if opcode == 43:
            return 0, b"", b""
        if opcode != OPCODE or not self.extension:
            raise _Error(BAD_REQUEST)
        if detail == COUNT:
            (kind,) = struct.unpack("=I", body)
            return 0, struct.pack("=I", {GPU: len(self.cards), COOLER: len(self.coolers)}.get(kind, 0)), b""
        number, kind, _, attribute = struct.unpack_from("=HHII", body)
        failure = self.failures.get((attribute, number)) if detail not in (QUERY_STRING, QUERY_BINARY) else None
        if failure:
            raise _Error(failure)
        targets = {GPU: self.cards, COOLER: self.coolers}.get(kind, [])
        if number >= len(targets):
            raise _Error(BAD_MATCH)
        absent = failure == ABSENT
        if detail == SET:
            (value,) = struct.unpack_from("=i", body, 12)
            self.sets.append((kind, number, attribute, value))
            done = not absent and self._set(kind, number, attribute, value)
            return 0, struct.pack("=I", done), b""
        if detail == QUERY:
            found = None if absent else self._get(kind, number, attribute)
            return 0, struct.pack("=Ii", found is not None, found or 0), b""
        if detail == QUERY_RANGE:
            if (kind, attribute) != (COOLER, LEVEL) or absent:
                return 0, b"", b""
            return 0, struct.pack("=Iiii", 1, 4, *self.coolers[number].plant.duty_range), b""
        return self._answer_data(detail, kind, number, attribute)

    def _answer_data(self, detail: int, kind: int, number: int, attribute: int) -> tuple[int, bytes, bytes]:
        if kind != GPU:
            raise _Error(BAD_MATCH)
        card = self.cards[number]
        data = None
        if detail == QUERY_STRING:
            text = {PRODUCT: card.info.name, UUID: card.info.uuid if self.uuids else None}.get(attribute)
            data = None if text is None else text.encode() + b"\0"
        elif detail == QUERY_BINARY and attribute == COOLERS_OF_GPU:
            mine = [i for i, owner in enumerate(self.coolers) if owner is card]
            data = struct.pack(f"={1 + len(mine)}I", len(mine), *mine)
        elif detail != QUERY_BINARY:
            raise _Error(BAD_REQUEST)
        if data is None:
            return 0, b"", b""
        return 0, struct.pack("=II", 1, len(data)), data.ljust(_round(len(data)), b"\0")

    def _get(self, kind: int, number: int, attribute: int) -> int | None:
        if kind == GPU:
            card = self.cards[number]
            domain, bus, device_function = card.info.pci.split(":")
            device, function = device_function.split(".")
            return {
                TEMPERATURE: card.read().temperature_c,
                SLOWDOWN: card.plant.slowdown_c,
                PCI_DOMAIN: int(domain, 16),
                PCI_BUS: int(bus, 16),
                PCI_DEVICE: int(device, 16),
                PCI_FUNCTION: int(function, 16),
                MANUAL: (card.manual_percent is not None) if self.coolbits else None,
            }.get(attribute)
        fan = self.coolers[number].read().fans[0]
        target = self.levels.get(number, fan.target_percent) if fan.manual else fan.target_percent
        return {CURRENT_LEVEL: fan.speed_percent, LEVEL: target, RPM: fan.speed_rpm}.get(attribute)

    def _set(self, kind: int, number: int, attribute: int, value: int) -> bool:
        """Whether the attribute was set. The plant has one speed for all fans of a card: the lowest level."""
        if (kind, attribute) == (GPU, MANUAL) and self.coolbits:
            card = self.cards[number]
            if not value:
                card.release()
            elif card.manual_percent is None:
                card.set_duty(round(card.speed_percent))
                for cooler, owner in enumerate(self.coolers):
                    if owner is card:
                        self.levels[cooler] = round(card.speed_percent)
            return True
        if (kind, attribute) == (COOLER, LEVEL):
            card = self.coolers[number]
            low, high = card.plant.duty_range
            if not low <= value <= high:
                raise _Error(BAD_VALUE)
            if card.manual_percent is None:
                return False
            self.levels[number] = value
            card.set_duty(
                min(self.levels.get(i, card.manual_percent) for i, owner in enumerate(self.coolers) if owner is card)
            )
            return True
        return False


def _listen(numbers: Iterable[int]) -> tuple[socket.socket, int]:
    folder = Path("/tmp/.X11-unix")
    if not folder.is_dir():
        folder.mkdir()
        folder.chmod(0o1777)
    for number in numbers:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(folder / f"X{number}"))
        except OSError:
            listener.close()
            continue
        listener.listen(16)
        return listener, number
    raise RuntimeError("no display is free")


def _write_authority(path: Path, number: int, cookie: bytes) -> None:
    """As a display manager writes it: for this host and this display (family 256, local)."""
    fields = [socket.gethostname().encode(), b"%d" % number, b"MIT-MAGIC-COOKIE-1", cookie]
    path.write_bytes(struct.pack(">H", 256) + b"".join(struct.pack(">H", len(f)) + f for f in fields))
    os.chmod(path, 0o600)


def _exactly(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = client.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _round(length: int) -> int:
    return length + -length % 4
