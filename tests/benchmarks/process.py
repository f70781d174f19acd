"""Processor time, memory, threads, wakeups and open files of process groups, read from /proc."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """Resources of a group of processes: used so far, or held now."""

    cpu_s: float
    """User and system time, including children that have ended."""
    wakeups: int
    """Voluntary context switches of all running threads."""
    rss_mb: float
    pss_mb: float
    """Resident memory; a page that n processes share counts as 1/n."""
    descriptors: int
    threads: int


def usage(groups: Iterable[int]) -> Usage:
    """Usage of all processes in the process groups `groups`."""
    wanted = set(groups)
    total = Usage(0, 0, 0, 0, 0, 0)
    for folder in _PROC.iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):  # it has just ended
                fields = _fields(folder)
                if int(fields[2]) in wanted:
                    total = Usage(*map(sum, zip(total, _usage(folder, fields), strict=True)))
    return total


def _fields(folder: Path) -> list[str]:
    """The fields of stat (proc(5)) from the state on; the name before them may contain spaces."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def _usage(folder: Path, fields: list[str]) -> Usage:
    tasks = list((folder / "task").iterdir())
    ended_children_s = (int(fields[13]) + int(fields[14])) * _TICK_S
    return Usage(
        cpu_s(int(folder.name)) + ended_children_s,
        sum(_number(task / "status", "voluntary_ctxt_switches") for task in tasks),
        _number(folder / "status", "VmRSS") / 1024,
        _number(folder / "smaps_rollup", "Pss") / 1024,
        len(os.listdir(folder / "fd")),
        len(tasks),
    )


def cpu_s(pid: int) -> float:
    """Processor time of all threads of `pid`, those that have ended included, to the nanosecond."""
    return time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3), which Python does not offer


def _number(file: Path, name: str) -> int:
    """The number after `name:`; 0 if there is none, as for the memory of a zombie."""
    for line in file.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0
