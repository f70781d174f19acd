"""Find what an install affects: other fan controllers, the display manager, users at the screen, containers."""

import re
import subprocess
from argparse import ArgumentError, ArgumentParser
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpufan.core.curve import Curve
from gpufan.core.fan_programs import BOARD_FANS, OTHERS, started_program
from gpufan.errors import GpufanError, InputError
from gpufan.system.files import read_text_or_empty
from gpufan.system.processes import PROC, processes
from gpufan.system.systemctl import QUERY_TIMEOUT_S, run_program, systemctl, systemctl_show

_CONTAINER = re.compile(r"docker|containerd|libpod|podman|crio|kubepods|lxc")


@dataclass(frozen=True)
class ServiceCommand:
    """A service unit, and the words of the command that the service runs."""

    unit: str
    words: tuple[str, ...]

    def runs(self, programs: Iterable[str]) -> str | None:
        """Return the first of `programs` that the command starts; None if the command starts none of them.

        `programs` are names of programs. A program may also be a script that an interpreter runs.
        """
        return started_program(self.words, programs, self.unit)


def display_manager() -> str | None:
    """Return the unit name of the display manager; None if the box has no display manager. Raises GpufanError."""
    state = systemctl_show("display-manager.service", "Id", "LoadState", limit_s=QUERY_TIMEOUT_S)
    return state["Id"] if state["LoadState"] == "loaded" else None


def commands_of_services() -> list[ServiceCommand]:
    """Return the command of every loaded service, as systemd shows it. Raises GpufanError."""
    text = systemctl("show", "--type=service", "--all", "--property=Id,ExecStart", "*", limit_s=QUERY_TIMEOUT_S)
    return parse_commands_of_services(text)


def parse_commands_of_services(text: str) -> list[ServiceCommand]:
    r"""Return the command of each service in `text`, the output of `systemctl show`.

    >>> parse_commands_of_services("Id=a.service\nExecStart={ path=/bin/a ; argv[]=/bin/a -x ; ignore_errors=no }\n")
    [ServiceCommand(unit='a.service', words=('/bin/a', '-x'))]
    """
    found = []
    for block in text.split("\n\n"):
        unit = re.search(r"^Id=(.+)$", block, re.MULTILINE)
        command = re.search(r"^ExecStart=\{.*?argv\[\]=(.*?) ;", block, re.MULTILINE)
        if unit and command:
            found.append(ServiceCommand(unit[1], tuple(command[1].split())))
    return found


def coolgpus_curve(words: Sequence[str]) -> tuple[Curve | None, float | None]:
    """Return the fan curve and the hysteresis (°C) of a coolgpus command.

    `words` are the words of the command. A value that the command does not set is None. Raises InputError if the
    options of the command are not valid.

    >>> curve, hysteresis_c = coolgpus_curve(("coolgpus", "--temp", "17", "84", "--speed", "15", "99", "--hyst", "3"))
    >>> str(curve), hysteresis_c
    ('17:15,84:99', 3.0)
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--temp", nargs="+")
    parser.add_argument("--speed", nargs="+")
    parser.add_argument("--hyst", type=float)
    try:
        options, _ = parser.parse_known_args(words)
    except ArgumentError as error:
        raise InputError(f"coolgpus has wrong options, {error}: give a curve with --curve") from None
    if options.temp is None and options.speed is None:
        return None, options.hyst
    temperatures, speeds = options.temp or ["55", "80"], options.speed or ["30", "99"]  # coolgpus' own defaults
    if len(temperatures) != len(speeds):
        raise InputError(
            f"coolgpus has {len(temperatures)} temperatures and {len(speeds)} speeds: give a curve with --curve"
        )
    return Curve.parse(",".join(map(":".join, zip(temperatures, speeds, strict=True)))), options.hyst


def people_at_the_screen() -> list[str]:
    """Return the names of the users who have a graphical session.

    The list is empty if logind does not answer.
    """
    try:
        text = _ask_loginctl("list-sessions", "--no-legend")
        sessions = [line.split()[0] for line in text.splitlines() if line.strip()]
        found = [_ask_loginctl("show-session", name, "-p", "Name", "-p", "Type", "-p", "Class") for name in sessions]
    except (GpufanError, subprocess.SubprocessError):
        return []
    people = set()
    for session in found:
        values = dict(line.split("=", 1) for line in session.splitlines() if "=" in line)
        if values.get("Type") in ("x11", "wayland", "mir") and values.get("Class") == "user":
            people.add(values.get("Name", "somebody"))
    return sorted(people)


def _ask_loginctl(*arguments: str) -> str:
    """Run `loginctl` with `arguments`, and return its output.

    Raises CalledProcessError if `loginctl` fails, GpufanError if `loginctl` cannot be run or does not end in time.
    """
    done = run_program(["loginctl", "--no-pager", *arguments], QUERY_TIMEOUT_S)
    done.check_returncode()
    return done.stdout


def containers_with_gpus(proc: Path = PROC) -> int:
    """Return the number of processes that run in a container and use a card. `proc` is the folder /proc."""
    return sum(
        _CONTAINER.search(read_text_or_empty(process.folder / "cgroup")) is not None and process.has_open("/dev/nvidia")
        for process in processes(proc)
    )


def conflict_notes(service_commands: Sequence[ServiceCommand], channels: Sequence[str] = ()) -> list[str]:
    """Return a warning for each service that may set the same fans, and a warning if containers use cards.

    `service_commands` are the commands of all loaded services. `channels` are the names of the fans of the motherboard
    that the service will set. The install may take cards away from running containers.
    """
    notes = []
    for command in service_commands:
        if program := command.runs(OTHERS):
            notes.append(f"{command.unit} runs: make sure that {OTHERS[program]} leaves the cards' fans alone")
        if channels and (program := command.runs(BOARD_FANS)):
            name = BOARD_FANS[program]
            notes.append(f"{command.unit} is installed: make sure that {name} leaves {', '.join(channels)} alone")
    if count := containers_with_gpus():
        processes = "1 process in a container uses" if count == 1 else f"{count} processes in containers use"
        notes.append(
            f"{processes} a card: the install runs `systemctl daemon-reload`, which on some set-ups takes cards"
            " away from running containers"
        )
    return notes
