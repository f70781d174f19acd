"""An X server of our own, for drivers that let fans be set only over X: no screen, no input, no terminal.

It keeps clear of everything else. Its display is a number from 90 up that nobody uses, because display managers count
on finding the low ones free; -displayfd makes Xorg do without a lock file, so nothing but a socket shows it. It opens
no network port, leaves the virtual terminal where it is (-novtswitch -sharevts), and lets in only who has its cookie.
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

from gpufan.errors import DriverError
from gpufan.xorg.authority import write_cookie
from gpufan.xorg.client import Connection, Display, socket_path
from gpufan.xorg.log import why

_NUMBERS = range(90, 190)
_STOP_LIMIT_S = 5.0
"""For the server to end when asked to; it takes 0.03 s."""

_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
"""Run in the child before Xorg. The kernel signals a child when the thread that made it ends, not the process, so the
server is started from the thread that watches it for life. (A preexec_fn would do the same, but is not safe where
there are other threads.)"""


class HeadlessServer:
    """Keeps one X server running from `start` to `stop`: when it dies, it is started again after a while.

    Until then `display` raises, which is how a card whose fans are out of our hands comes to be reported as such.
    """

    def __init__(
        self,
        config: str,
        folder: Path,
        program: str = "Xorg",
        ready_limit_s: float = 30.0,
        retry_s: tuple[float, float] = (1.0, 60.0),
    ) -> None:
        """`config` is the text of its xorg.conf; it, cookie and log go into `folder`, which is made if need be.

        After the server died it is started again after the first of `retry_s`, in seconds, then after twice that each
        time, up to the second. A server that lived longer than the second counts as sound.
        """
        self._config = config
        self._folder = folder
        self._program = program
        self._ready_limit_s = ready_limit_s
        self._retry_s = retry_s
        self._cookie = os.urandom(16)  # as `secrets` would, which loads OpenSSL for it
        self._changed = threading.Condition()
        self._state: Display | str | None = None
        """Where the server is, or why there is none; None before the first try has come to an end."""
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="x server", daemon=True)

    @property
    def log(self) -> Path:
        """What the server wrote; that of the start before ends in `.old`."""
        return self._folder / "Xorg.log"

    def display(self) -> Display:
        """Where to connect. Raises DriverError, saying why, while there is no server."""
        with self._changed:
            if isinstance(self._state, Display):
                return self._state
            raise DriverError(self._state or "the X server is not ready yet")

    def begin(self) -> None:
        """Start without waiting; twice is harmless."""
        with self._changed:
            if self._keeper.ident is None:
                self._keeper.start()

    def start(self) -> None:
        """Start, and return when a client has connected. Raises DriverError when the first try fails."""
        self.begin()
        with self._changed:
            self._changed.wait_for(lambda: self._state is not None)
            state = self._state
        if isinstance(state, str):
            self.stop()
            raise DriverError(state)

    def stop(self) -> None:
        """End the server, and wait for that as long as makes sense; twice is harmless."""
        with self._changed:
            self._stopping.set()
            process = self._process
        if process is not None:
            _end(process)
        if self._keeper.is_alive():
            self._keeper.join(_STOP_LIMIT_S)

    def __enter__(self) -> "HeadlessServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _keep(self) -> None:
        """Life of the thread that has the server as its child."""
        first_s, last_s = self._retry_s
        wait_s = first_s
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                display, process = self._launch()
                self._tell(display)
                status = process.wait()
                _clear(display.number)
                problem = f"the X server on {display} has died ({_ended(status)})"
            except Exception as error:  # whatever it is: with this thread the server would end for good
                problem = str(error)
            if time.monotonic() - began_s > last_s:
                wait_s = first_s
            if self._state is not None:
                problem += f"; it is started again {wait_s:g} s later"
            self._tell(problem)
            self._stopping.wait(wait_s)
            wait_s = min(2 * wait_s, last_s)
        self._tell("the X server is stopped")

    def _tell(self, state: Display | str) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()

    def _launch(self) -> tuple[Display, "subprocess.Popen[bytes]"]:
        """Start the server on a free display and wait until a client can connect. Raises DriverError or OSError."""
        program = shutil.which(self._program)
        if program is None:
            raise DriverError(f"no {self._program} here: install the X server (Debian: xserver-xorg-core)")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._folder / "xorg.conf").write_text(self._config)
        authority = self._folder / "Xauthority"
        write_cookie(authority, self._cookie)
        for number in _NUMBERS:
            if _in_use(number):
                continue
            if self.log.exists():
                self.log.replace(self.log.with_suffix(".log.old"))
            display = Display(number, authority)
            process = self._spawn(program, display)
            if process is not None:
                return display, process
        raise DriverError(f"no display from :{_NUMBERS[0]} to :{_NUMBERS[-1]} is free: remove stale /tmp/.X11-unix/X*")

    def _spawn(self, program: str, display: Display) -> "subprocess.Popen[bytes] | None":
        """Start the server on `display`; None if somebody else was faster to take that. Raises DriverError."""
        ready, told = os.pipe()
        with os.fdopen(ready, "rb"), (self._folder / "Xorg.out").open("wb") as output:
            with os.fdopen(told, "wb"), self._changed:
                if self._stopping.is_set():
                    raise DriverError("the X server is stopped")
                self._process = process = subprocess.Popen(
                    [
                        sys.executable,
                        "-ISc",
                        _DIE_WITH_PARENT,
                        str(os.getpid()),
                        program,
                        *self._options(display, told),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[told],
                    # Ctrl-C at our terminal must not end it: the fans are given back through it first.
                    start_new_session=True,
                )
            problem = self._unready(ready, display)
        if problem is None:
            return process
        _end(process)
        text = self._wrote()
        if "Cannot establish any listening sockets" in text:
            return None
        raise DriverError(f"the X server did not start: {why(text) or problem + f', see {self.log}'}")

    def _options(self, display: Display, told: int) -> list[str]:
        files = ["-config", f"{self._folder}/xorg.conf", "-auth", str(display.authority), "-logfile", str(self.log)]
        # Without -noreset Xorg 21.1 hangs on SIGTERM once a client has left.
        quiet = ["-noreset", "-nolisten", "tcp", "-novtswitch", "-sharevts"]
        return [str(display), "-displayfd", str(told), *files, *quiet]

    def _unready(self, ready: int, display: Display) -> str | None:
        """Wait for the server; what is wrong with it, or None once a client has connected."""
        if not select.select([ready], [], [], self._ready_limit_s)[0]:
            return f"it was not ready after {self._ready_limit_s:g} s"
        if not os.read(ready, 1):
            return "it ended at once"
        try:
            Connection(display).close()
        except DriverError as error:
            return str(error)
        return None

    def _wrote(self) -> str:
        """Standard error and log of the server, in that order."""
        text = ""
        for path in (self._folder / "Xorg.out", self.log):
            with contextlib.suppress(OSError):
                text += path.read_text(errors="replace")
        return text


def _in_use(number: int) -> bool:
    """Whether an X server, alive or dead, has left its mark on a display."""
    return os.path.lexists(socket_path(number)) or os.path.lexists(f"/tmp/.X{number}-lock")


def _clear(number: int) -> None:
    """Remove what a server that was killed leaves, or the next one would take another number each time.

    By now the number may be somebody else's: nobody listens on a socket of the dead.
    """
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        try:
            probe.settimeout(1.0)
            probe.connect(socket_path(number))
        except ConnectionRefusedError:
            Path(socket_path(number)).unlink()


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a driver that hangs can hold even that up
            process.wait(_STOP_LIMIT_S)


def _ended(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"
