"""A clock that only the test advances, for a real process: every clock and every wait of its C library follows it.

So hours of a daemon with threads pass in minutes, and a busy machine delays the test without making the daemon late.
"""

import hashlib
import mmap
import os
import subprocess
import tempfile
import time
from pathlib import Path

from tests.doubles import require

SOURCE = Path(__file__).with_name("clock.c")
FLAGS = ("-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread")
WAITS = 128


_ELAPSED, _MONOTONIC, _REALTIME, _WAITS = range(4)
"""Places in the shared file of 64-bit numbers: times in ns, then a thread and its limit for each wait (clock.c)."""


def build() -> Path:
    """Compile the library, once for each version of the source."""
    digest = hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:16]
    library = Path(tempfile.gettempdir()) / f"gpufan-nvml-{os.getuid()}" / digest / "libclock.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        draft = library.with_suffix(f".{os.getpid()}")
        command = [require("cc", "gcc"), *FLAGS, str(SOURCE), "-o", str(draft)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        draft.replace(library)
    return library


class TestClock:
    """The clock of all processes that have `environment()`. It starts at the present time and stands still."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self._library = build()
        self._path = folder / "clock"
        with self._path.open("w+b") as file:
            file.truncate(8 * (_WAITS + 2 * WAITS))
            self._shared = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
        self._shared[_MONOTONIC] = time.monotonic_ns()
        self._shared[_REALTIME] = time.time_ns()

    def environment(self) -> dict[str, str]:
        """Environment variables that put another process on this clock."""
        return {"LD_PRELOAD": str(self._library), "GPUFAN_CLOCK_DOUBLE": str(self._path)}

    @property
    def now_s(self) -> float:
        """Time since the start, s."""
        return self._shared[_ELAPSED] / 1e9

    @property
    def wall_time(self) -> str:
        """The wall clock of a process on this clock: hours, minutes and seconds."""
        return time.strftime("%T", time.localtime((self._shared[_REALTIME] + self._shared[_ELAPSED]) / 1e9))

    def since_start_s(self, monotonic_ns: int) -> float:
        """A time of CLOCK_MONOTONIC as a process on this clock reads it, in s since the start."""
        return (monotonic_ns - self._shared[_MONOTONIC]) / 1e9

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass for every process on this clock."""
        self._shared[_ELAPSED] += round(seconds * 1e9)

    def forget_ended(self) -> None:
        """Free the places of threads that were killed while they waited."""
        for place in range(_WAITS, len(self._shared), 2):
            if (thread := self._shared[place]) and not os.path.exists(f"/proc/{thread}"):
                self._shared[place] = 0

    def settle(self, pid: int, timeout_s: float = 10.0) -> bool:
        """Wait until no thread of process `pid` has anything to do at the present time.

        False if the process has ended. Raises TimeoutError if a thread is busy for `timeout_s` seconds of real time.
        """
        end_s = time.monotonic() + timeout_s
        calm = 0
        while calm < 2:
            busy = self._busy(pid)
            if busy is None:
                return False
            calm = 0 if busy else calm + 1
            if calm < 2:
                time.sleep(0.0002)
            if time.monotonic() > end_s:
                raise TimeoutError(f"process {pid} is busy for {timeout_s:g} s")
        return True

    def _busy(self, pid: int) -> bool | None:
        """Whether a thread of `pid` runs, or waits for a time that has come; None if the process has ended."""
        waits = self._shared[_WAITS:].tolist()
        until_ns = dict(zip(waits[::2], waits[1::2], strict=True))
        try:
            threads = os.listdir(f"/proc/{pid}/task")
            for thread in threads:
                with open(f"/proc/{pid}/task/{thread}/stat") as file:
                    state = file.read().rpartition(")")[2].split()[0]
                if state in "ZX":  # this thread has ended
                    if len(threads) == 1:
                        return None
                    continue
                limit_ns = until_ns.get(int(thread))
                sleeps = state == "S" if limit_ns is None else limit_ns > self._shared[_ELAPSED]
                if not sleeps and state not in "tT":
                    return True
        except (FileNotFoundError, ProcessLookupError):
            return None if not os.path.exists(f"/proc/{pid}") else True
        return False
