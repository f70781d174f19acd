"""Limits of each connection and of all connections together: time, number and amount.

uvicorn has a limit on the size of a header, but none on the time in which a header must arrive, and none on the time
in which a client must receive an answer. Its limit on the number of connections refuses new ones, so silent
connections could lock everyone out. So a protocol of uvicorn is extended here. It overrides only methods that
`asyncio.Protocol` defines, so that it also works with later versions of uvicorn. hypercorn has a limit on the time of
a header, but neither of the other two. aiohttp has no such limit.
"""

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_S = 5.0
"""The header of a request must arrive within this time after the connection or the last answer, s."""
RECEIVE_S = 10.0
"""A client must receive waiting data within this time, s. The data that waits is less than 100 KiB."""
WAITING_BYTES = 16384
"""About this many bytes of a stream of events wait in the kernel for a client. Linux doubles the number."""
CONNECTIONS = 100
"""At most this many connections exist. A further one closes the oldest connection that has not logged in."""


class Crowd:
    """All connections, the oldest first."""

    def __init__(self, limit: int = CONNECTIONS) -> None:
        self._limit = limit
        self._connections: dict[Connection, None] = {}

    def add(self, connection: "Connection") -> None:
        """Add a new connection. If there are too many, close the oldest connection that has not logged in."""
        self._connections[connection] = None
        if len(self._connections) > self._limit:
            strangers = (each for each in self._connections if not each.is_known)
            next(strangers, connection).close()

    def remove(self, connection: "Connection") -> None:
        """Forget a connection that is closed."""
        self._connections.pop(connection, None)

    def close_all(self) -> None:
        """Close all connections at once."""
        for connection in list(self._connections):
            connection.close()


class Connection:
    """Watches one connection. The application calls `begin_request` and `end_request`, the protocol the rest."""

    def __init__(self, crowd: Crowd) -> None:
        self.is_known = False
        """Whether a browser that has logged in has made a request over this connection."""
        self._crowd = crowd
        self._transport: asyncio.Transport | None = None
        self._request_timer: asyncio.TimerHandle | None = None
        self._receive_timer: asyncio.TimerHandle | None = None

    def open(self, transport: asyncio.Transport) -> None:
        """Begin to watch. The first request must arrive soon."""
        self._transport = transport
        self._crowd.add(self)
        self.end_request()

    def close(self) -> None:
        """Close the connection without waiting for the client."""
        self.forget()
        if self._transport is not None:
            self._transport.abort()

    def forget(self) -> None:
        """End the watch, since the connection is closed."""
        self._crowd.remove(self)
        self.begin_request()
        self.resume_writing()

    def begin_request(self) -> None:
        """Note that the header of a request has arrived."""
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def end_request(self) -> None:
        """Note that the request is answered. The next request must arrive soon."""
        self.begin_request()
        if self._transport is not None and not self._transport.is_closing():
            self._request_timer = asyncio.get_running_loop().call_later(REQUEST_S, self.close)

    def limit_waiting_data(self) -> None:
        """Let only little data wait for the client.

        Without this, the kernel stores megabytes for a client that does not receive its events. So the server would
        notice the client half an hour later, and the client would then receive old events.
        """
        if self._transport is not None:
            self._transport.set_write_buffer_limits(0)
            connected = self._transport.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WAITING_BYTES)

    def pause_writing(self) -> None:
        """Note that data waits for the client. The client must receive it soon."""
        self.resume_writing()
        self._receive_timer = asyncio.get_running_loop().call_later(RECEIVE_S, self.close)

    def resume_writing(self) -> None:
        """Note that the client has received data."""
        if self._receive_timer is not None:
            self._receive_timer.cancel()
            self._receive_timer = None


class WatchedProtocol(H11Protocol):
    """A connection of uvicorn that is watched. `crowd` is set in a subclass."""

    crowd: Crowd

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        """Pass the watch of the connection to the application, in `scope["state"]`."""
        self.watch = Connection(self.crowd)
        super().__init__(config, server_state, {**app_state, "connection": self.watch}, _loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in H11Protocol
        """Begin to watch the connection."""
        super().connection_made(transport)
        self.watch.open(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the watch."""
        self.watch.forget()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Send no more data until the client has received some. The connection is closed if that takes too long."""
        self.watch.pause_writing()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Send data again: the client has received some."""
        self.watch.resume_writing()
        super().resume_writing()
