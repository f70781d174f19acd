"""Listens on an address, and runs the application in uvicorn until a signal arrives.

uvicorn was chosen because it is small (h11 and click are all it needs), pure Python, and maintained by the people who
maintain Starlette. `connections` adds the limits that it lacks.
"""

import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import uvicorn

from gpufan.errors import GpufanError, InputError
from gpufan.web.connections import Crowd, WatchedProtocol
from gpufan.web.links import host_and_port

HEADER_BYTES = 16384
"""The header of a request may have this many bytes at most. A browser sends about 1 KB."""
THREADS = 16
"""At most this many answers are computed at the same time."""


def listen_socket(listen: tuple[str, int]) -> socket.socket:
    """Return a socket that listens on the host and the port in `listen`. An empty host means all addresses.

    Raises InputError if the host is unknown, GpufanError if the port cannot be used.
    """
    host, port = listen
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: the text cannot be a name
        raise InputError(f"--listen: there is no host {host[:60]}") from error
    family, *_, address = found[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise GpufanError(
            f"cannot listen on {host_and_port(listen)}: {error.strerror}; choose another address with --listen"
        ) from error
    return listener


class ServerThreads(ThreadPoolExecutor):
    """The threads in which answers are computed. The end of the server does not wait for them."""

    def __init__(self) -> None:
        super().__init__(THREADS, "answer")
        self._running = 0

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        """Call `function` in a thread."""
        future = super().submit(function, *arguments, **keywords)
        self._running += 1
        future.add_done_callback(self._count_down)
        return future

    def _count_down(self, _future: Future[Any]) -> None:
        self._running -= 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Cancel the calls that have not begun, and do not wait for the others."""
        super().shutdown(wait=False, cancel_futures=True)

    def end_process_if_busy(self) -> None:
        """End this process if a thread still runs, since Python would wait for the thread."""
        if self._running > 0:
            sys.stdout.flush()
            os._exit(0)


class PageServer(uvicorn.Server):
    """A server that ends within a second, also while browsers receive events."""

    def __init__(self, application: Any, on_end: Callable[[], Awaitable[None]]) -> None:
        """`application` is an ASGI application. `on_end` is awaited when the server begins to end."""
        crowd = Crowd()
        self._crowd = crowd
        self._on_end = on_end

        class Protocol(WatchedProtocol):
            pass

        Protocol.crowd = crowd
        super().__init__(
            uvicorn.Config(
                application,
                loop="asyncio",
                http=Protocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=4,
                timeout_graceful_shutdown=0,
                h11_max_incomplete_event_size=HEADER_BYTES,
            )
        )
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # the application reports its errors itself

    def end_at_signals(self) -> None:
        """End at SIGINT, SIGTERM and SIGHUP, and raise nothing: an exception would end a task, and be printed.

        A signal that is ignored already, such as SIGHUP under nohup, stays ignored.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda _number, _frame: self.end())

    def end(self) -> None:
        """Make the server end soon."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams of events, then all other answers after a tenth of a second, then all connections."""
        await self._on_end()
        await super().shutdown(sockets)
        self._crowd.close_all()
