"""The running systemd, by way of `systemctl`; and the links below /etc that say what it starts."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from gpufan.errors import GpufanError

UNIT_FOLDER = Path("/etc/systemd/system")
BOOTED = Path("/run/systemd/system")
QUERY_TIMEOUT_S = 4.0
"""For an answer that needs nothing to be done, where somebody waits for it, s."""
TIMEOUT_S = 120.0
"""For everything else that another program does for us, s. systemd itself gives a unit 90 s to start or to stop."""


def is_running() -> bool:
    """Whether systemd is process 1 here (sd_booted(3))."""
    return BOOTED.is_dir() and shutil.which("systemctl") is not None


def run_program(command: Sequence[str], limit_s: float | None = None) -> "subprocess.CompletedProcess[str]":
    """Run `command`, which may print whatever bytes it likes, for `limit_s` seconds at most, or `TIMEOUT_S`.

    Raises GpufanError where it cannot be run, or takes longer.
    """
    limit_s = TIMEOUT_S if limit_s is None else limit_s
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=limit_s)
    except OSError as error:
        raise GpufanError(f"{command[0]} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise GpufanError(f"{_without_options(command)} has not answered for {limit_s:g} s") from None


def _without_options(command: Sequence[str]) -> str:
    return " ".join(word for word in command if not word.startswith("-"))


def systemctl(*arguments: str, limit_s: float | None = None) -> str:
    """Output of `systemctl`. Raises GpufanError with what it complained of, or as `ask`."""
    command = ["systemctl", "--no-pager", "--no-ask-password", *arguments]
    done = run_program(command, limit_s)
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split()) or f"it ended with {done.returncode}"
        raise GpufanError(f"{_without_options(command)} failed: {words}")
    return done.stdout


def unit_properties(unit: str, *keys: str, limit_s: float | None = None) -> dict[str, str]:
    """Properties `keys` of `unit`; those that systemd does not know are empty. Raises GpufanError as `systemctl`."""
    return parse_properties(systemctl("show", unit, f"--property={','.join(keys)}", limit_s=limit_s), keys)


def journal_lines(unit: str, lines: int, since: str | None = None) -> list[str]:
    """The last lines that `unit` wrote, since a time as journalctl takes it; none where they may not be read."""
    command = ["journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={lines}"]
    command += [] if since is None else [f"--since={since}"]
    command.append(f"_SYSTEMD_UNIT={unit}")
    try:
        done = run_program(command, QUERY_TIMEOUT_S)
    except GpufanError:
        return []
    return [line.removeprefix("gpufan: ") for line in done.stdout.splitlines()]


def parse_properties(text: str, keys: tuple[str, ...]) -> dict[str, str]:
    """Properties in `text`, as `systemctl show` prints those of one unit."""
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key: found.get(key, "") for key in keys}


def quoted(text: str) -> str:
    """`text` as a word of a unit file, see systemd.service(5) and systemd.unit(5)."""
    text = text.replace("%", "%%")
    if not re.search(r"[\s\"'\\;]", text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def stop_and_disable(unit: str) -> None:
    """Stop and disable `unit`, if there is one. Raises GpufanError."""
    if unit_properties(unit, "LoadState")["LoadState"] == "loaded":
        systemctl("stop", unit)
        systemctl("disable", "--quiet", unit)


class DisabledUnit(msgspec.Struct, frozen=True):
    """A unit that is put aside, as it was before."""

    unit: str
    active: bool
    links: dict[str, str]
    """Symbolic links that make systemd start it, path by path with what each points to."""

    @classmethod
    def of(cls, unit: str) -> "DisabledUnit":
        """`unit` as it is now."""
        active = unit_properties(unit, "ActiveState")["ActiveState"] in ("active", "activating", "reloading")
        return cls(unit, active, links_to(unit))

    @property
    def is_in_use(self) -> bool:
        """Whether there is anything to put aside."""
        return self.active or bool(self.links)

    def stop(self) -> None:
        """Stop it now. Raises GpufanError."""
        if self.active:
            systemctl("stop", self.unit)

    def disable(self) -> None:
        """Keep it from being started at boot. Raises GpufanError."""
        # Not `systemctl disable`: where a package made the links, `enable` would not make the same ones again.
        for path in self.links:
            Path(path).unlink(missing_ok=True)
        systemctl("daemon-reload")

    def enable(self) -> None:
        """Make the links again. One that somebody made anew meanwhile stays. Raises OSError or GpufanError."""
        for path, target in self.links.items():
            if not os.path.lexists(path):
                Path(path).parent.mkdir(exist_ok=True)
                Path(path).symlink_to(target)
        systemctl("daemon-reload")

    def start(self) -> None:
        """Start it, if it ran. Raises GpufanError."""
        if self.active:
            systemctl("start", self.unit)


def links_to(unit: str, folder: Path = UNIT_FOLDER) -> dict[str, str]:
    """Links below `folder` that stand for `unit`: its aliases, and its places among what a target wants."""
    return {
        str(path): str(path.readlink())
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() and path.readlink().name == unit
    }
