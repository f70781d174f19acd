"""Query and control systemd through `systemctl`, read its journal, and run other programs with a time limit."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from gpufan.errors import GpufanError

UNIT_FOLDER = Path("/etc/systemd/system")
BOOTED = Path("/run/systemd/system")
QUERY_TIMEOUT_S = 4.0
"""Time limit for a query while a person waits, s."""
TIMEOUT_S = 120.0
"""Default time limit for a program, s. systemd itself gives a unit 90 s to start or to stop."""


def systemd_is_running() -> bool:
    """Whether systemd runs this box (see sd_booted(3)), and `systemctl` is installed."""
    return BOOTED.is_dir() and shutil.which("systemctl") is not None


def run_program(command: Sequence[str], limit_s: float | None = None) -> "subprocess.CompletedProcess[str]":
    """Run `command` for at most `limit_s` seconds (default `TIMEOUT_S`). Return its exit status and its output.

    Bytes of the output that are not valid text are replaced. Raises GpufanError if the program cannot be run, or does
    not end in time. A program that fails raises no error.
    """
    limit_s = TIMEOUT_S if limit_s is None else limit_s
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=limit_s)
    except OSError as error:
        raise GpufanError(f"{command[0]} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise GpufanError(f"{_command_without_options(command)} has not answered for {limit_s:g} s") from None


def program_output(*command: str | Path) -> str:
    """Run a program and return its output. `command` is the program and its arguments.

    Raises GpufanError if the program fails or does not end in time.
    """
    done = run_program([str(word) for word in command])
    if done.returncode != 0:
        raise GpufanError(f"{' '.join(map(str, command))} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _command_without_options(command: Sequence[str]) -> str:
    """Return `command` without its options, as text for a message."""
    return " ".join(word for word in command if not word.startswith("-"))


def systemctl(*arguments: str, limit_s: float | None = None) -> str:
    """Run `systemctl` with `arguments`, and return its output.

    Raises GpufanError if `systemctl` fails, or does not end within `limit_s` seconds (default `TIMEOUT_S`).
    """
    command = ["systemctl", "--no-pager", "--no-ask-password", *arguments]
    done = run_program(command, limit_s)
    if done.returncode != 0:
        complaint = " ".join((done.stderr or done.stdout).split()) or f"exit status {done.returncode}"
        raise GpufanError(f"{_command_without_options(command)} failed: {complaint}")
    return done.stdout


def systemctl_show(unit: str, *keys: str, limit_s: float | None = None) -> dict[str, str]:
    """Return the values of the properties `keys` of `unit`. Raises GpufanError.

    The value of a property that systemd does not know is empty. `limit_s` is the time limit in seconds (default
    `TIMEOUT_S`).
    """
    text = systemctl("show", unit, f"--property={','.join(keys)}", limit_s=limit_s)
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key: found.get(key, "") for key in keys}


def journal_lines(unit: str, count: int, since: str | None = None) -> list[str]:
    """Return the last `count` lines of `unit` in the journal; no lines if the journal cannot be read.

    If `since` is given, lines before this time are left out. `since` has the notation of journalctl.
    """
    command = ["journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={count}"]
    command += [] if since is None else [f"--since={since}"]
    command.append(f"_SYSTEMD_UNIT={unit}")
    try:
        done = run_program(command, QUERY_TIMEOUT_S)
    except GpufanError:
        return []
    return [line.removeprefix("gpufan: ") for line in done.stdout.splitlines()]


def systemctl_stop_and_disable(unit: str) -> None:
    """Stop and disable `unit` if it exists, even if its unit file has an error. Raises GpufanError."""
    state = systemctl_show(unit, "LoadState", "UnitFileState")
    if state["LoadState"] != "not-found":
        systemctl("stop", unit)
    if state["UnitFileState"].startswith("enabled"):
        systemctl("disable", "--quiet", unit)
