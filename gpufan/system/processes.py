"""The processes of the box, as /proc shows them. One that may not be read, or that ends meanwhile, is left out."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpufan.system.files import read_file

PROC = Path("/proc")


def is_alive(pid: int) -> bool:
    """Whether a process exists and has not ended. One that has ended stays in /proc until its parent asks for it."""
    try:
        _, _, fields = read_file(PROC / str(pid) / "stat").rpartition(b") ")  # its name may contain anything
    except OSError:
        return False
    return fields[:1] not in (b"Z", b"X")


@dataclass(frozen=True)
class Process:
    """A process and its command. Threads of the kernel, which have no command, are left out."""

    folder: Path
    """Its folder in /proc."""
    words: tuple[str, ...]

    @property
    def pid(self) -> int:
        """Process number."""
        return int(self.folder.name)

    @property
    def parent(self) -> int | None:
        """Number of the process that started it; None if that is unknown."""
        with suppress(OSError):
            if found := re.search(rb"^PPid:\s*(\d+)$", read_file(self.folder / "status"), re.MULTILINE):
                return int(found[1])
        return None

    @property
    def is_roots(self) -> bool:
        """Whether it runs as root."""
        with suppress(OSError):
            return self.folder.stat().st_uid == 0
        return False

    def has_open(self, prefix: str) -> bool:
        """Whether it has a file open whose path begins with `prefix`."""
        with suppress(OSError):
            for link in (self.folder / "fd").iterdir():
                with suppress(OSError):  # closed meanwhile
                    if str(link.readlink()).startswith(prefix):
                        return True
        return False


def processes(proc: Path = PROC) -> Iterator[Process]:
    """Every process, sorted by number. A read of /proc may hang while the process hangs in a call to a driver."""
    for folder in sorted(proc.glob("[0-9]*"), key=lambda folder: int(folder.name)):
        with suppress(OSError):
            words = read_file(folder / "cmdline").decode("utf-8", "replace").split("\0")
            if words := [word for word in words if word]:
                yield Process(folder, tuple(words))
