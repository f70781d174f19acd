"""What a process costs, from outside: processor time, memory, wakeups, open files. A group counts as one."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """What a group of processes has used so far, and holds now."""

    cpu_s: float
    """User and system time, children that have ended included."""
    wakeups: int
    """Voluntary context switches of all threads that live."""
    rss_mb: float
    pss_mb: float
    """Resident memory, pages that n processes share counted as 1/n."""
    descriptors: int


def usage(groups: Iterable[int]) -> Usage:
    """Usage of all processes in the process groups `groups`."""
    wanted = set(groups)
    total = Usage(0, 0, 0, 0, 0)
    for folder in _PROC.iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):  # it has just ended
                fields = _fields(folder)
                if int(fields[2]) in wanted:
                    total = Usage(*map(sum, zip(total, _usage(folder, fields), strict=True)))
    return total


def _fields(folder: Path) -> list[str]:
    """What stands in stat (proc(5)) from the state on; the name before it may hold spaces."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def _usage(folder: Path, fields: list[str]) -> Usage:
    ended_children_s = (int(fields[13]) + int(fields[14])) * _TICK_S
    return Usage(
        cpu_s(int(folder.name)) + ended_children_s,
        sum(_number(task / "status", "voluntary_ctxt_switches") for task in (folder / "task").iterdir()),
        _number(folder / "status", "VmRSS") / 1024,
        _number(folder / "smaps_rollup", "Pss") / 1024,
        len(os.listdir(folder / "fd")),
    )


def cpu_s(pid: int) -> float:
    """Processor time of all threads of `pid`, those that have ended included, to the nanosecond."""
    return time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3), which Python does not offer


def _number(file: Path, name: str) -> int:
    """The number behind `name:`; 0 where there is none, as for the memory of a zombie."""
    for line in file.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0
