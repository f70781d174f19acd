"""The stream of events over real sockets: a browser that does not receive costs little, and delays no other."""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from gpufan.web import connections
from gpufan.web.connections import Connection
from gpufan.web.live import Daemon, DaemonState, Live, Moment, Recent, SnapshotWatch
from gpufan.web.routes import Routes
from gpufan.web.server import PageServer, listen_socket
from tests.unit.builders import snapshot_at

REQUEST = b"GET /api/events HTTP/1.1\r\nhost: page\r\n\r\n"


class Stream:
    """The events of a box, and two browsers: one receives each event, the other none until `rest`."""

    def __init__(self, live: Live, routes: Routes, reader: asyncio.StreamReader, stalled: socket.socket) -> None:
        self.routes = routes
        self.published = 0
        self.is_paused = asyncio.Event()
        """Whether data waits for the browser that does not receive."""
        self._live = live
        self._reader = reader
        self._stalled = stalled

    async def publish(self) -> None:
        """Publish an event of 20 KB, and let a browser receive it."""
        self.published += 1
        text = f"event {self.published}."
        daemon = Daemon(DaemonState.RUNNING, text)
        await self._live.publish(Moment(snapshot_at(float(self.published), cards=40), daemon))
        await asyncio.wait_for(self._reader.readuntil(text.encode()), 10)

    async def publish_until_data_waits(self) -> None:
        while not self.is_paused.is_set():
            await self.publish()

    async def rest(self) -> AsyncIterator[bytes]:
        """What the other browser receives now, until the stream ends."""
        loop = asyncio.get_running_loop()
        while data := await asyncio.wait_for(loop.sock_recv(self._stalled, 65536), 10):
            yield data


@asynccontextmanager
async def streaming(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stream]:
    """Serve events to two browsers."""
    loop = asyncio.get_running_loop()
    live = Live(SnapshotWatch(Path("/nonexistent"), lambda: None, time.monotonic), lambda: "", Recent())
    box, assets = (SimpleNamespace(live=live), None)
    routes = Routes(box, assets)  # type: ignore[arg-type]  # the stream needs no more of them
    server = PageServer(Starlette(routes=[Route("/api/events", routes.events)]), live.end)
    with listen_socket(("127.0.0.1", 0)) as listener, socket.socket() as stalled:
        address = listener.getsockname()
        serving = asyncio.ensure_future(server.serve([listener]))
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.setblocking(False)
        await loop.sock_connect(stalled, address)
        await loop.sock_sendall(stalled, REQUEST)
        reader, writer = await asyncio.open_connection(*address, limit=2**20)
        writer.write(REQUEST)
        stream = Stream(live, routes, reader, stalled)
        of_stalled = stalled.getsockname()
        pause = Connection.pause_writing

        def note_pause(self: Connection) -> None:
            pause(self)
            assert self._transport is not None
            if self._transport.get_extra_info("peername") == of_stalled:
                stream.is_paused.set()

        monkeypatch.setattr(Connection, "pause_writing", note_pause)
        yield stream
        server.end()
        writer.close()
        await serving


def run(monkeypatch: pytest.MonkeyPatch, test: Callable[[Stream], Awaitable[Any]]) -> Any:
    async def in_loop() -> Any:
        async with streaming(monkeypatch) as stream:
            return await test(stream)

    return asyncio.run(in_loop())


def test_a_browser_that_stalls_delays_no_other_and_then_receives_the_newest_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def stall_and_go_on(stream: Stream) -> tuple[bytes, int]:
        await stream.publish_until_data_waits()
        for _ in range(100):
            await stream.publish()
        data = b""
        async for part in stream.rest():
            data += part
            if f"event {stream.published}.".encode() in data:
                break
        return data, stream.published

    data, published = run(monkeypatch, stall_and_go_on)
    numbers = [int(number) for number in re.findall(rb"event (\d+)\.", data)]
    assert numbers[-1] == published > 100
    assert len(numbers) < 20
    assert len(data) < 300_000


def test_a_browser_that_receives_nothing_is_cut_off_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "RECEIVE_S", 0.2)

    async def wait_for_the_end(stream: Stream) -> int:
        await stream.publish_until_data_waits()
        while stream.routes.streams > 1:
            await stream.publish()
        await stream.publish()
        return stream.routes.streams

    assert run(monkeypatch, wait_for_the_end) == 1
