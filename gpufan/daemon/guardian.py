"""The guardian: a child process that gives the fans back if gpufan is killed and no service manager does so.

The guardian is a shell: a waiting shell needs 0.3 MB of memory, a Python process 5 MB. The shell waits for input from a
pipe. Only gpufan has the other end of the pipe, so the pipe ends when gpufan dies. If a thread of a killed gpufan still
hangs in the driver, the pipe stays open. But the main thread has died then, and the kernel sends the guardian a signal.
"""

import ctypes
import logging
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from gpufan.errors import NoAnswer
from gpufan.gpu import release_fans
from gpufan.system.background import call_with_timeout
from gpufan.system.paths import SNAPSHOT

_log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1

_SHELL = "/bin/sh"

# $1: the Python interpreter, $2: the file behind it, if $1 is a link, $3: the record, $4: the number of our process,
# $5: the snapshot. File 3 is the script, which stays open: gpufan may be removed from the disk while it runs.
_SCRIPT = """
trap '' HUP INT QUIT TERM TSTP TTIN TTOU ALRM USR2 PIPE
trap : USR1
echo gpufan-guardian >/proc/$$/comm
echo ready 2>/dev/null
exec >&2
read -r word
[ "$word" = end ] && exit
if [ "$word" = again ]; then
    exec 2>/dev/null
    read -r word
fi
trap '' USR1
for python in "$1" "$2" /usr/bin/python3; do "$python" -I -S -c '' 2>/dev/null && break; done
if [ -e "$3" ] && "$python" -I -S - "$3" <&3; then
    rm -f "$5"
    echo "gpufan: process $4 has ended; its guardian has given the fans back to the driver"
fi
"""
"""`read` returns without a word when the pipe ends, or at the signal USR1.

If `ready` comes after `_READY_LIMIT_S`, nobody reads it. `2>/dev/null` then hides the error of the shell.

The word `end` means that all fans were given back. The word `again` means that some fans were not given back, and that
gpufan has reported them already.
"""

_READY_LIMIT_S = 1.0
"""Time limit for the guardian to be ready, s. It usually needs 0.002 s."""

_OOM_SCORE = Path("/proc/self/oom_score_adj")
_OOM_ADJUST = b"-500"


@contextmanager
def guardian(record: Path) -> Iterator[None]:
    """Run a guardian during the block, for the cards in the file `record`. Only the main thread may call this.

    If the record still exists at the end of the block, the guardian waits until this process ends. Then it tries to
    give the fans back. If it succeeds, it removes the record and the snapshot, since both are no longer true.
    """
    with _guard_against_oom_killer():
        try:
            pid, pipe = _start_guardian(record)
        except OSError as error:
            _log.warning("no guardian: %s; if gpufan is killed, run `sudo gpufan restore`", error)
            yield
            return
        try:
            yield
        finally:
            _end_guardian(pid, pipe, record)


def _start_guardian(record: Path) -> tuple[int, int]:
    """Start a guardian for the cards in the file `record`. Raises OSError if it does not start.

    Returns the process number of the guardian, and the end of the pipe into which this process writes.
    """
    pythons = [sys.executable, os.path.realpath(sys.executable)]
    arguments = [*pythons, str(record), str(os.getpid()), str(record.with_name(SNAPSHOT))]
    prctl = ctypes.CDLL(None).prctl
    script = os.open(release_fans.__file__, os.O_RDONLY)
    read_end, write_end = os.pipe()
    ready, ready_write = os.pipe()
    pid = os.fork()
    if pid == 0:  # nothing here may need a lock: another thread may have held it at the fork
        try:
            os.setsid()  # Ctrl-C and a terminal that closes signal the process group
            prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
            os.dup2(read_end, 0)
            os.dup2(ready_write, 1)
            os.dup2(script, 3)
            os.set_inheritable(3, True)  # if `script` is 3 already, dup2 does not do this
            os.execv(_SHELL, ["sh", "-c", _SCRIPT, "sh", *arguments])
        finally:
            os._exit(127)
    for end in (read_end, ready_write, script):
        os.close(end)
    # Before it is ready, the signal at our death would end it.
    ended = select.select([ready], [], [], _READY_LIMIT_S)[0] and not os.read(ready, 1)
    os.close(ready)
    if ended:
        os.close(write_end)
        os.waitpid(pid, 0)
        raise OSError(f"{_SHELL} does not start")
    return pid, write_end


def _end_guardian(pid: int, pipe: int, record: Path) -> None:
    """End the guardian. If the file `record` still exists, the guardian stays until this process ends.

    `pid` is the process number of the guardian. `pipe` is our end of the pipe to it.
    """
    with suppress(OSError):  # somebody has killed it
        if record.exists():
            os.write(pipe, b"again\n")
            return  # the pipe ends with this process; until then a call that hangs may still set fans
        os.write(pipe, b"end\n")
    os.close(pipe)
    with suppress(NoAnswer, ChildProcessError):
        call_with_timeout(0.5, partial(os.waitpid, pid, 0))


@contextmanager
def _guard_against_oom_killer() -> Iterator[None]:
    """During the block, ask the kernel to end other processes before gpufan when memory is short.

    Without root this has no effect.
    """
    before = None
    with suppress(OSError):
        before = _OOM_SCORE.read_bytes()
        if int(before) > int(_OOM_ADJUST):
            _OOM_SCORE.write_bytes(_OOM_ADJUST)
    try:
        yield
    finally:
        if before is not None:
            with suppress(OSError):
                _OOM_SCORE.write_bytes(before)
