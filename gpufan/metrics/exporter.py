"""Publish the metrics: over HTTP, or in a file for node_exporter. Their values come from `collector`."""

import io
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, MetricsHandler, generate_latest

from gpufan import __version__
from gpufan.errors import GpufanError, InputError
from gpufan.metrics.collector import registry
from gpufan.system.files import remove_unsynced, replace_unsynced

CLIENT_TIMEOUT_S = 5.0
"""For a client to send its request, and again to receive the answer, s."""
CLIENTS = 32
"""Clients that are served at the same time."""
CROWD_S = 1.0
"""While there are more clients, all that are served are disconnected if none of them is done within this time, s."""
_REQUEST_BYTES = 16384
"""For a request with its headers; Prometheus sends about 300 bytes."""

_log = logging.getLogger(__name__)


class _Handler(MetricsHandler):
    timeout = CLIENT_TIMEOUT_S
    server_version = f"gpufan/{__version__}"
    sys_version = ""

    def setup(self) -> None:
        """Read the request. Raises OSError if it is too slow or too long; http.server would accept 6 MB of headers."""
        super().setup()
        self.rfile = io.BytesIO(_read_request(self.connection, self.timeout))
        self.connection.settimeout(self.timeout)

    def do_GET(self) -> None:
        if urlsplit(self.path).path == "/metrics":
            super().do_GET()
        else:
            self.send_error(404, explain="The metrics are at /metrics.")


def _read_request(connection: socket.socket, timeout_s: float) -> bytes:
    """The request up to its empty line. Raises OSError if it is too slow or too long."""
    end_s = time.monotonic() + timeout_s
    request = b""
    while b"\r\n\r\n" not in request:
        left_s = end_s - time.monotonic()
        if left_s <= 0 or len(request) >= _REQUEST_BYTES:
            raise TimeoutError
        connection.settimeout(left_s)
        received = connection.recv(_REQUEST_BYTES - len(request))
        if not received:
            break
        request += received
    return request


# Not prometheus_client.start_http_server: it serves every path, waits for slow clients without limit and asks the name
# service for the name of this machine, which may take long.
class Server(ThreadingHTTPServer):
    """An HTTP server with a thread for each of at most `CLIENTS` clients."""

    request_queue_size = 128  # with the usual 5, a client of a crowd would have to try again a second later

    def __init__(self, listen: tuple[str, int], metrics: CollectorRegistry) -> None:
        """`listen` is host and port. Raises InputError for an unknown host, GpufanError for a port that is in use."""
        self._free = threading.Semaphore(CLIENTS)
        self._connections: set[socket.socket] = set()
        host, port = listen
        try:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (socket.gaierror, UnicodeError) as error:  # UnicodeError: the text can be no name
            raise InputError(f"--listen: there is no host {host[:60]}") from error
        self.address_family, *_, address = found[0]
        try:
            super().__init__(address, _Handler.factory(metrics))  # type: ignore[arg-type]  # IPv6 has four parts
        except OSError as error:
            raise GpufanError(
                f"cannot listen on {_url_host(listen)}: {error.strerror}; choose another address with --listen"
            ) from error

    def server_bind(self) -> None:
        """Bind without a request to the name service, which http.server would make."""
        TCPServer.server_bind(self)

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]  # TCP
        """Serve a client in a thread of its own, as soon as fewer than `CLIENTS` are served."""
        if not self._free.acquire(timeout=CROWD_S):
            for connection in self._connections.copy():
                with suppress(OSError):  # the client is gone already
                    connection.shutdown(socket.SHUT_RDWR)
            self._free.acquire()
        self._connections.add(request)
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._forget(request)
            raise

    def process_request_thread(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Serve a client in the thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def _forget(self, request: socket.socket) -> None:
        self._connections.discard(request)
        self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Report nothing: a client may disconnect at any time."""


def serve(listen: tuple[str, int], snapshot_path: Path, say: Callable[[str], None]) -> None:
    """Serve the metrics of a snapshot until a signal. Raises InputError or GpufanError as `Server`."""
    with Server(listen, registry(snapshot_path)) as server, _until_a_signal():
        port = server.socket.getsockname()[1]  # the system has chosen it if 0 was asked for
        say(f"metrics at http://{_url_host((listen[0] or 'localhost', port))}/metrics")
        server.serve_forever()


def write_textfile(file: Path, snapshot_path: Path) -> None:
    """Write the metrics of a snapshot to `file` once. Raises GpufanError."""
    try:
        replace_unsynced(file, generate_latest(registry(snapshot_path)))
    except OSError as error:
        raise GpufanError(f"{file} cannot be written: {error.strerror}; choose another --textfile") from error


def keep_textfile(file: Path, snapshot_path: Path, interval_s: float) -> None:
    """Write the metrics of a snapshot to `file` again and again until a signal.

    A failed write is logged and tried again. After the signal the file is removed, since nobody updates it any more.
    """
    has_failed = False
    with _until_a_signal():
        while True:
            try:
                write_textfile(file, snapshot_path)
                has_failed = False
            except GpufanError as error:
                if not has_failed:
                    _log.warning("%s; it is tried again", error)
                has_failed = True
            time.sleep(interval_s)
    with suppress(OSError):
        remove_unsynced(file)


def _url_host(listen: tuple[str, int]) -> str:
    """Host and port as in a URL: `127.0.0.1:10835`, `[::1]:10835`."""
    host, port = listen
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextmanager
def _until_a_signal() -> Iterator[None]:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        yield
