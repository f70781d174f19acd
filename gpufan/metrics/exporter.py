"""Publishes the metrics that `collector` makes, either over HTTP or in a text file for node_exporter."""

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
from gpufan.metrics.collector import metrics_registry
from gpufan.system.files import remove_unsynced, replace_unsynced

CLIENT_TIMEOUT_S = 5.0
"""A client must send its request within this time, and then receive the answer within this time again, s."""
CLIENTS = 32
"""At most this many clients are served at the same time."""
CROWD_S = 1.0
"""While `CLIENTS` clients are served, a new client waits for at most this time, s.

If no served client ends within this time, all served clients are disconnected.
"""
_REQUEST_BYTES = 16384
"""A request with its headers may have at most this many bytes. Prometheus sends about 300 bytes."""

_log = logging.getLogger(__name__)


class _ExporterHandler(MetricsHandler):
    """Answers the request of one client."""

    timeout = CLIENT_TIMEOUT_S
    server_version = f"gpufan/{__version__}"
    sys_version = ""

    def setup(self) -> None:
        """Read the request. Raises OSError if the request arrives too slowly or is too long.

        http.server would accept 6 MB of headers.
        """
        super().setup()
        self.rfile = io.BytesIO(_read_http_request(self.connection, self.timeout))
        self.connection.settimeout(self.timeout)

    def do_GET(self) -> None:
        if urlsplit(self.path).path == "/metrics":
            super().do_GET()
        else:
            self.send_error(404, explain="The metrics are at /metrics.")


def _read_http_request(connection: socket.socket, timeout_s: float) -> bytes:
    """Receive an HTTP request, at least up to the empty line after its headers, and return it.

    If the client disconnects, the result is what has arrived. Raises OSError if the request takes longer than
    `timeout_s` seconds or is too long.
    """
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
class ExporterServer(ThreadingHTTPServer):
    """An HTTP server for at most `CLIENTS` clients at the same time. Each client has its own thread."""

    request_queue_size = 128  # with the usual 5, a client of a crowd would have to try again a second later

    def __init__(self, listen: tuple[str, int], metrics: CollectorRegistry) -> None:
        """Listen on the host and the port in `listen`. An empty host means all addresses of this machine.

        The clients receive `metrics`. Raises InputError if the host is unknown, GpufanError if the port cannot be used.
        """
        self._free = threading.Semaphore(CLIENTS)
        self._connections: set[socket.socket] = set()
        host, port = listen
        try:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (socket.gaierror, UnicodeError) as error:  # UnicodeError: the text can be no name
            raise InputError(f"--listen: there is no host {host[:60]}") from error
        self.address_family, *_, address = found[0]
        try:
            super().__init__(address, _ExporterHandler.factory(metrics))  # type: ignore[arg-type]  # IPv6 has four parts
        except OSError as error:
            raise GpufanError(
                f"cannot listen on {_listen_host_port(listen)}: {error.strerror}; choose another address with --listen"
            ) from error

    def server_bind(self) -> None:
        """Bind the socket to its address. http.server would also ask the name service for the name of this machine."""
        TCPServer.server_bind(self)

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]  # TCP
        """Wait until fewer than `CLIENTS` clients are served. Then start a thread that serves this client."""
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
        """Serve the client. This method runs in the thread of the client."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def _forget(self, request: socket.socket) -> None:
        """Note that the client is not served any more, so that another client can be served."""
        self._connections.discard(request)
        self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Report nothing: a client may disconnect at any time."""


def serve_metrics(listen: tuple[str, int], snapshot_path: Path, say: Callable[[str], None]) -> None:
    """Serve the metrics of the snapshot over HTTP until a signal arrives.

    `listen` is the host and the port. `say` prints the line with the address. Raises InputError if the host is unknown,
    GpufanError if the port cannot be used.
    """
    with ExporterServer(listen, metrics_registry(snapshot_path)) as server, _export_until_signal():
        port = server.socket.getsockname()[1]  # the system has chosen it if 0 was asked for
        say(f"metrics at http://{_listen_host_port((listen[0] or 'localhost', port))}/metrics")
        server.serve_forever()


def write_metrics_textfile(file: Path, snapshot_path: Path) -> None:
    """Write the metrics of the snapshot to `file` once. Raises GpufanError if `file` cannot be written."""
    try:
        replace_unsynced(file, generate_latest(metrics_registry(snapshot_path)))
    except OSError as error:
        raise GpufanError(f"{file} cannot be written: {error.strerror}; choose another --textfile") from error


def update_metrics_textfile(file: Path, snapshot_path: Path, interval_s: float) -> None:
    """Write the metrics of the snapshot to `file` every `interval_s` seconds until a signal arrives.

    A failed write is logged and tried again. After the signal, `file` is removed, since nobody updates it any more.
    """
    has_failed = False
    with _export_until_signal():
        while True:
            try:
                write_metrics_textfile(file, snapshot_path)
                has_failed = False
            except GpufanError as error:
                if not has_failed:
                    _log.warning("%s; it is tried again", error)
                has_failed = True
            time.sleep(interval_s)
    with suppress(OSError):
        remove_unsynced(file)


def _listen_host_port(listen: tuple[str, int]) -> str:
    """Return host and port as in a URL: `127.0.0.1:10835`, `[::1]:10835`."""
    host, port = listen
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextmanager
def _export_until_signal() -> Iterator[None]:
    """End the `with` block without an error when Ctrl-C or SIGTERM arrives."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        yield
