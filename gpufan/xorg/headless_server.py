"""Start and stop our own X server, for drivers that can set fans only over X.

The server needs no monitor, no input devices and no terminal. It does not disturb other X servers. Its display number
is the first free number from 90 up, because display managers expect low numbers to be free. If another server takes
that number first, Xorg chooses a number itself. With -displayfd Xorg neither writes nor reads lock files, so only a
socket shows that a number is used. The server opens no network port, does not switch the virtual terminal (-novtswitch
-sharevts), and accepts only clients that have the server's cookie.
"""

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from gpufan.errors import DriverError
from gpufan.xorg.authority import write_cookie
from gpufan.xorg.client import Connection, Display, display_socket_path
from gpufan.xorg.headless_config import LAYOUT
from gpufan.xorg.server_log import find_cause_in_log

_NUMBERS = range(90, 59_536)
"""Display numbers to try. A higher number would have no TCP port."""
_STOP_LIMIT_S = 5.0
"""Time limit for the end of the server after SIGTERM, s. The server usually ends within 0.03 s."""

_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
"""Program of the child process. The program makes Xorg end with the parent thread, and then becomes Xorg.

When the thread that started the child process ends, the kernel sends SIGTERM to Xorg. So the thread that waits for the
end of Xorg also starts Xorg. A preexec_fn could do the same, but is not safe in a process with threads.
"""


class HeadlessServer:
    """Our own X server. It runs from the call of `start` to the call of `stop`.

    If the server dies, it is started again after a wait. While the server does not run, `display` raises DriverError,
    and gpufan cannot reach the fans of the cards that need this server.
    """

    def __init__(
        self,
        config: str,
        folder: Path,
        program: str = "Xorg",
        ready_limit_s: float = 30.0,
        retry_s: tuple[float, float] = (1.0, 60.0),
    ) -> None:
        """Prepare the server, but do not start it. `config` is the text of xorg.conf.

        The files xorg.conf, cookie and log are written to `folder`, which is created. `program` is the name of Xorg.
        `ready_limit_s` is the time limit for one start, s.

        `retry_s` is the shortest and the longest wait before the server is started again, s. The wait doubles with each
        start. If the server has run for longer than the longest wait, the next wait is the shortest wait again.
        """
        self._config = config
        self._folder = folder
        self._authority = folder / "Xauthority"
        self._program = program
        self._ready_limit_s = ready_limit_s
        self._retry_s = retry_s
        self._cookie = os.urandom(16)  # `secrets` would load OpenSSL for the same
        self._changed = threading.Condition()
        self._state: Display | str | None = None
        """The display, or a text that says why the server does not run. None until the first start has ended."""
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="x server", daemon=True)

    @property
    def log(self) -> Path:
        """The path of the log of the server. The log of the previous start is `Xorg.log.old` in the same folder."""
        return self._folder / "Xorg.log"

    def display(self) -> Display:
        """Return the display of the server. Raises DriverError, with the reason, if the server does not run."""
        with self._changed:
            if isinstance(self._state, Display):
                return self._state
            raise DriverError(self._state or "the X server is not ready yet")

    def begin(self) -> None:
        """Start the server in a thread, and return at once. A second call does nothing."""
        with self._changed:
            if self._thread.ident is None:
                self._thread.start()

    def start(self) -> None:
        """Start the server, and wait until a client can connect. Raises DriverError if the first start fails."""
        self.begin()
        with self._changed:
            self._changed.wait_for(lambda: self._state is not None)
            state = self._state
        if isinstance(state, str):
            self.stop()
            raise DriverError(state)

    def stop(self) -> None:
        """End the server, and wait a few seconds at most until the server has ended. A second call is harmless."""
        with self._changed:
            self._stopping.set()
            process = self._process
        if process is not None:
            _end_server(process)
        if self._thread.is_alive():
            self._thread.join(_STOP_LIMIT_S)

    def __enter__(self) -> "HeadlessServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        """Start the server, and wait for the end of the server. Repeat this until `stop` is called."""
        first_s, last_s = self._retry_s
        wait_s = first_s
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                display, process = self._launch()
                self._set_state(display)
                status = process.wait()
                _remove_stale_socket(display.number)
                problem = f"the X server on {display} has died ({_how_server_ended(status)})"
            except Exception as error:  # of any kind: without this thread the server would never start again
                problem = str(error)
            if time.monotonic() - began_s > last_s:
                wait_s = first_s
            if self._state is not None:
                problem += f"; it is started again {wait_s:g} s later"
            self._set_state(problem)
            self._stopping.wait(wait_s)
            wait_s = min(2 * wait_s, last_s)
        self._set_state("the X server is stopped")

    def _set_state(self, state: Display | str) -> None:
        """Store `state`, and wake all threads that wait for it.

        `state` is the display, or a text that says why the server does not run.
        """
        with self._changed:
            self._state = state
            self._changed.notify_all()

    def _launch(self) -> tuple[Display, "subprocess.Popen[bytes]"]:
        """Start the server on a free display, and wait until a client can connect.

        Returns the display and the process of the server. Raises DriverError or OSError if the start fails.
        """
        program = shutil.which(self._program)
        if program is None:
            raise DriverError(f"no {self._program} here: install the X server (Debian: xserver-xorg-core)")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._folder / "xorg.conf").write_text(self._config)
        write_cookie(self._authority, self._cookie)
        free = next((number for number in _NUMBERS if not os.path.lexists(display_socket_path(number))), None)
        for number in (free, None):
            if self.log.exists():
                self.log.replace(self.log.with_suffix(".log.old"))
            started = self._spawn(program, number)
            if started is not None:
                return started
        raise DriverError("no display is free: remove stale sockets /tmp/.X11-unix/X*")

    def _spawn(self, program: str, number: int | None) -> "tuple[Display, subprocess.Popen[bytes]] | None":
        """Start the server on the display `number`, and wait until a client can connect.

        If `number` is None, the server chooses the display. Returns the display and the process of the server. Returns
        None if another server uses the display. Raises DriverError if the start fails for another reason.
        """
        ready, ready_write = os.pipe()
        child = [sys.executable, "-ISc", _DIE_WITH_PARENT, str(os.getpid())]
        with os.fdopen(ready, "rb") as ready_file, (self._folder / "Xorg.out").open("wb") as output:
            with os.fdopen(ready_write, "wb"), self._changed:
                if self._stopping.is_set():
                    raise DriverError("the X server is stopped")
                self._process = process = subprocess.Popen(
                    [*child, program, *self._options(number, ready_write)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[ready_write],
                    # Ctrl-C in the terminal must not end the server: gpufan needs it to give the fans back.
                    start_new_session=True,
                )
            started = self._wait_until_ready(ready_file)
        if isinstance(started, Display):
            return started, process
        _end_server(process)
        text = self._output()
        if "Cannot establish any listening sockets" in text:
            return None
        raise DriverError(f"the X server did not start: {find_cause_in_log(text) or started + f', see {self.log}'}")

    def _options(self, number: int | None, ready_write: int) -> list[str]:
        """Return the command-line options of Xorg for the display `number`.

        If `number` is None, Xorg chooses the display. When Xorg is ready, it writes the display number to the file
        descriptor `ready_write`.
        """
        config = ["-config", f"{self._folder}/xorg.conf", "-layout", LAYOUT]
        files = ["-auth", str(self._authority), "-logfile", str(self.log)]
        # Without -noreset Xorg 21.1 hangs on SIGTERM once a client has left.
        quiet = ["-noreset", "-nolisten", "tcp", "-novtswitch", "-sharevts"]
        display = [] if number is None else [f":{number}"]
        return [*display, "-displayfd", str(ready_write), *config, *files, *quiet]

    def _wait_until_ready(self, ready: IO[bytes]) -> Display | str:
        """Wait until a client can connect. Returns the display, or a text that says why the server is not ready.

        `ready` is the pipe to which the server writes its display number.
        """
        if not select.select([ready], [], [], self._ready_limit_s)[0]:
            return f"it was not ready after {self._ready_limit_s:g} s"
        number = ready.readline()
        if not number:
            return "it ended at once"
        display = Display(int(number), self._authority)
        try:
            Connection(display).close()
        except DriverError as error:
            return str(error)
        return display

    def _output(self) -> str:
        """Return the standard output and standard error of the server, followed by its log."""
        text = ""
        for path in (self._folder / "Xorg.out", self.log):
            with contextlib.suppress(OSError):
                text += path.read_text(errors="replace")
        return text


def _remove_stale_socket(number: int) -> None:
    """Remove the socket of a killed server, so that the next server can use the display `number` again.

    If another server listens on the socket by now, do not remove the socket.
    """
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        try:
            probe.settimeout(1.0)
            probe.connect(display_socket_path(number))
        except ConnectionRefusedError:
            Path(display_socket_path(number)).unlink()


def _end_server(process: "subprocess.Popen[bytes]") -> None:
    """Terminate the server. If the server does not end within `_STOP_LIMIT_S`, kill the server."""
    process.terminate()
    try:
        process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a driver that hangs can delay even SIGKILL
            process.wait(_STOP_LIMIT_S)


def _how_server_ended(status: int) -> str:
    """Describe how the server ended: with an exit status, or by a signal. `status` is the return code of Popen."""
    return f"exit status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"
