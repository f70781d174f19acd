"""Where the metrics go: over HTTP to whoever asks, or into a file for node_exporter."""

import signal
import socket
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
from gpufan.system.files import ReplacedFile

PATIENCE_S = 5.0
"""A client that sends or takes nothing for so long is hung up on, s."""


class _Handler(MetricsHandler):
    timeout = PATIENCE_S
    server_version = f"gpufan/{__version__}"
    sys_version = ""

    def do_GET(self) -> None:
        if urlsplit(self.path).path != "/metrics":
            self.send_error(404, explain="The metrics are at /metrics.")
            return
        super().do_GET()


class Server(ThreadingHTTPServer):
    """A thread for each client, so that none waits for another."""

    request_queue_size = 128  # so many at once are not left to try again a second later

    def __init__(self, listen: tuple[str, int], metrics: CollectorRegistry) -> None:
        """Raises InputError for a host that is none, GpufanError where the port cannot be had."""
        host, port = listen
        try:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (socket.gaierror, UnicodeError) as error:  # the latter: what can be no name at all
            raise InputError(f"--listen: there is no host {host[:60]}") from error
        self.address_family, *_, address = found[0]
        try:
            super().__init__(address, _Handler.factory(metrics))  # type: ignore[arg-type]  # IPv6 has four parts
        except OSError as error:
            raise GpufanError(
                f"cannot listen on {written(listen)}: {error.strerror}; choose another with --listen"
            ) from error

    def server_bind(self) -> None:
        """Bind without asking the name service who we are, as http.server would."""
        TCPServer.server_bind(self)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is nothing to report."""


def serve(listen: tuple[str, int], path: Path, tell: Callable[[str], None]) -> None:
    """Serve the metrics of the snapshot in `path` until a signal. Raises InputError or GpufanError as `Server`."""
    with Server(listen, registry(path)) as server, _until_a_signal():
        port = server.socket.getsockname()[1]  # which may have been left to the system, as 0
        tell(f"metrics at http://{written((listen[0] or 'localhost', port))}/metrics")
        server.serve_forever()


def write_textfile(file: Path, path: Path, every_s: float | None, complain: Callable[[str], None]) -> None:
    """Write the metrics of the snapshot in `path` to `file`, every `every_s` seconds until a signal, or once.

    A write that fails is told to `complain` and tried again; one that was to be the only one raises GpufanError. After
    a signal the file is removed, so that it is not taken for what is true.
    """
    metrics = registry(path)
    replaced = ReplacedFile(file)
    if every_s is None:
        try:
            replaced.replace(generate_latest(metrics))
        except OSError as error:
            raise GpufanError(f"{file} cannot be written: {error.strerror}") from error
        return
    failed = False
    with _until_a_signal():
        while True:
            try:
                replaced.replace(generate_latest(metrics))
                failed = False
            except OSError as error:
                if not failed:
                    complain(f"{file} cannot be written: {error.strerror}; trying on")
                failed = True
            time.sleep(every_s)
    with suppress(OSError):
        replaced.remove()


def written(listen: tuple[str, int]) -> str:
    """The address as in a URL: `127.0.0.1:10835`, `[::1]:10835`."""
    host, port = listen
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextmanager
def _until_a_signal() -> Iterator[None]:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        yield
