"""Read the processes of the box from /proc.

A process that has ended, or that cannot be read, is left out.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpufan.system.files import read_file

PROC = Path("/proc")


def process_is_alive(pid: int) -> bool:
    """Whether the process with the number `pid` runs.

    A process that has ended is not alive. Such a process may stay in /proc until its parent process reads the exit
    status.
    """
    try:
        _, _, fields = read_file(PROC / str(pid) / "stat").rpartition(b") ")  # its name may contain anything
    except OSError:
        return False
    return fields[:1] not in (b"Z", b"X")


@dataclass(frozen=True)
class Process:
    """A process and the words of its command."""

    folder: Path
    """The folder of the process in /proc."""
    words: tuple[str, ...]

    @property
    def pid(self) -> int:
        """The process number."""
        return int(self.folder.name)

    @property
    def parent(self) -> int | None:
        """The number of the parent process; None if it is unknown."""
        with suppress(OSError):
            if found := re.search(rb"^PPid:\s*(\d+)$", read_file(self.folder / "status"), re.MULTILINE):
                return int(found[1])
        return None

    @property
    def runs_as_root(self) -> bool:
        """Whether the process runs as root; False if this is unknown."""
        with suppress(OSError):
            return self.folder.stat().st_uid == 0
        return False

    def has_open(self, prefix: str) -> bool:
        """Whether the process has opened a file whose path begins with `prefix`.

        False if the open files of the process cannot be read.
        """
        with suppress(OSError):
            for link in (self.folder / "fd").iterdir():
                with suppress(OSError):  # closed meanwhile
                    if str(link.readlink()).startswith(prefix):
                        return True
        return False


def processes(proc: Path = PROC) -> Iterator[Process]:
    """Return every process that has a command, sorted by number. Threads of the kernel have no command.

    `proc` is the folder /proc. A read of /proc may hang while a process hangs in a call to a driver.
    """
    for folder in sorted(proc.glob("[0-9]*"), key=lambda folder: int(folder.name)):
        with suppress(OSError):
            words = read_file(folder / "cmdline").decode("utf-8", "replace").split("\0")
            if words := [word for word in words if word]:
                yield Process(folder, tuple(words))
