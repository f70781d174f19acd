"""`gpufan web` as a process, and a browser made of plain sockets."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[3]


class Answer:
    """The answer to a request."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1]) if first else 0
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def json(self) -> Any:
        return json.loads(self.body)


class Page:
    """A page that runs."""

    def __init__(self, process: "subprocess.Popen[str]", link: str) -> None:
        self.process = process
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", link)
        assert found is not None, link
        self.port, self.token = int(found[1]), found[2]
        self.host = f"127.0.0.1:{self.port}"
        self.cookie = ""

    def connect(self, timeout_s: float = 10.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)

    def raw(self, data: bytes, timeout_s: float = 10.0) -> bytes:
        """Send bytes, and return everything until the connection is closed."""
        with self.connect(timeout_s) as connection:
            connection.sendall(data)
            return received(connection)

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Make a request as the page itself would, with changed `headers`. An empty value leaves a header out."""
        sent = {"host": self.host, "connection": "close", "cookie": self.cookie}
        if method == "POST":
            sent |= {"origin": f"http://{self.host}", "content-type": "application/json"}
            sent |= {"content-length": str(len(body))}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items() if value)]
        return Answer(self.raw("\r\n".join([*lines, "", ""]).encode("latin-1") + body))

    def get(self, path: str, **headers: Any) -> Answer:
        return self.request("GET", path, **headers)

    def post(self, path: str, content: Any, **headers: Any) -> Answer:
        return self.request("POST", path, json.dumps(content).encode(), **headers)

    def login(self) -> None:
        answer = self.get(f"/?token={self.token}")
        assert answer.status == 303
        self.cookie = answer.headers["set-cookie"].partition(";")[0]

    @contextmanager
    def events(self) -> Iterator["EventStream"]:
        """The stream of events, as a logged-in browser receives it."""
        with self.connect() as connection:
            head = f"GET /api/events HTTP/1.1\r\nhost: {self.host}\r\ncookie: {self.cookie}\r\n\r\n"
            connection.sendall(head.encode())
            yield EventStream(connection)

    def end(self, number: int = signal.SIGINT) -> None:
        """Send a signal, and wait for the end of the process."""
        self.process.send_signal(number)
        self.process.wait(10)


class EventStream:
    """Reads events from a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._data = b""

    def next(self) -> Any:
        """The content of the next event `now`."""
        while (found := re.search(rb"event: now\ndata: (.*)\n\n", self._data)) is None:
            received_now = self.connection.recv(65536)
            assert received_now, "the stream has ended"
            self._data += received_now
        self._data = self._data[found.end() :]
        return json.loads(found[1])

    def wait_for(self, state: str, limit_s: float) -> Any:
        """The first event with this state of the daemon. It must come within `limit_s`."""
        return self.wait_until(lambda event: event["daemon"]["state"] == state, limit_s)

    def wait_until(self, is_wanted: Callable[[Any], bool], limit_s: float) -> Any:
        """The first event that is wanted. It must come within `limit_s`."""
        end_s = time.monotonic() + limit_s
        while not is_wanted(event := self.next()):
            assert time.monotonic() < end_s, event
        return event


def received(connection: socket.socket) -> bytes:
    """Everything until the connection is closed."""
    data = b""
    try:
        while part := connection.recv(65536):
            data += part
    except ConnectionResetError:
        pass
    return data


@contextmanager
def running_page(
    *arguments: str, listen: str = "127.0.0.1:0", before: Sequence[str] = (), env: dict[str, str] | None = None
) -> Iterator[Page]:
    """Run `gpufan web` with `arguments` on a free port or at `listen`, and log in."""
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "gpufan", "web", "--listen", listen, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, **(env or {})},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("open "):
            raise AssertionError((line, process.communicate()))
        page = Page(process, line.removeprefix("open ").strip())
        page.login()
        yield page
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=10)
        finally:
            process.kill()


class Terminal:
    """A page in a terminal of its own, as after `sudo gpufan web`."""

    def __init__(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.master, slave = pty.openpty()

        def own_the_terminal() -> None:
            os.setgroups([0, 4, 27])
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "gpufan", "web", "--listen", "127.0.0.1:0", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=own_the_terminal,
            cwd=REPOSITORY,
            env={**os.environ, **(env or {})},
            text=True,
        )
        os.close(slave)
        self.output = ""
        self.page = Page(self.process, self.line_with("open "))
        self.page.login()

    def line_with(self, begin: str) -> str:
        """Wait for a line that begins with `begin`, and return the rest of it."""
        while True:
            for line in self.output.splitlines():
                if line.startswith(begin) and f"{line}\r\n" in self.output:
                    return line.removeprefix(begin)
            assert select.select([self.master], [], [], 20)[0], self.output
            self.output += os.read(self.master, 4096).decode()

    def child(self) -> int:
        """The number of the process that speaks HTTP."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        assert len(children) == 1
        return int(children[0])

    def close(self) -> None:
        """Close the terminal, as when the connection is lost."""
        os.close(self.master)
        self.master = -1


@contextmanager
def terminal(*arguments: str, env: dict[str, str] | None = None) -> Iterator[Terminal]:
    found = Terminal(*arguments, env=env)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.wait()
        if found.master >= 0:
            os.close(found.master)
