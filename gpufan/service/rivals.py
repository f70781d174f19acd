"""What is on this box that a service has to do with: display manager, rivals, people at the screen, containers."""

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gpufan.core.curve import Curve
from gpufan.errors import GpufanError, InputError
from gpufan.system.systemctl import QUERY_TIMEOUT_S, run_program, systemctl, unit_properties

RIVALS = {"coolgpus", "nvfancontrol", "nfancurve", "chnvml", "nvidia-fan-control", "nvidia_fan_control.py"}
"""Programs that do nothing but set the fans of NVIDIA cards."""

OTHERS = {
    "lactd": "LACT",
    "coolercontrold": "CoolerControl",
    "fan2go": "fan2go",
    "tuxclockerd": "TuxClocker",
    "gwe": "GreenWithEnvy",
}
"""Programs that may set them among other things, which must not be stopped for that."""

_NFANCURVE_SCRIPT = "temp.sh"
"""What nfancurve is started by: a name that others use too."""

_CONTAINER = re.compile(r"docker|containerd|libpod|podman|crio|kubepods|lxc")


@dataclass(frozen=True)
class Service:
    """A unit and the command that it runs."""

    unit: str
    words: tuple[str, ...]

    def runs(self, programs: Iterable[str]) -> str | None:
        """The first of `programs` that the command is, itself or as a script."""
        names = {Path(word).name for word in self.words[:3]}
        if _NFANCURVE_SCRIPT in names and any("nfancurve" in name for name in (self.unit, *self.words[:3])):
            names.add("nfancurve")
        return next((program for program in programs if program in names), None)


def display_manager() -> str | None:
    """The unit that `display-manager.service` stands for, by its own name."""
    state = unit_properties("display-manager.service", "Id", "LoadState", limit_s=QUERY_TIMEOUT_S)
    return state["Id"] if state["LoadState"] == "loaded" else None


def services() -> list[Service]:
    """Every service that systemd has loaded, with its command."""
    text = systemctl("show", "--type=service", "--all", "--property=Id,ExecStart", "*")
    return parse_services(text)


def parse_services(text: str) -> list[Service]:
    r"""Read what `systemctl show` prints of many units.

    >>> parse_services("Id=a.service\nExecStart={ path=/bin/a ; argv[]=/bin/a -x ; ignore_errors=no }\n")
    [Service(unit='a.service', words=('/bin/a', '-x'))]
    """
    found = []
    for block in text.split("\n\n"):
        unit = re.search(r"^Id=(.+)$", block, re.MULTILINE)
        command = re.search(r"^ExecStart=\{.*?argv\[\]=(.*?) ;", block, re.MULTILINE)
        if unit and command:
            found.append(Service(unit[1], tuple(command[1].split())))
    return found


def coolgpus_curve(words: tuple[str, ...]) -> tuple[Curve | None, float | None]:
    """Curve and hysteresis in °C that a command of coolgpus asks for; None for what it leaves out.

    Raises InputError where it makes no curve.

    >>> curve, hysteresis_c = coolgpus_curve(("coolgpus", "--temp", "17", "84", "--speed", "15", "99", "--hyst", "3"))
    >>> str(curve), hysteresis_c
    ('17:15,84:99', 3.0)
    """
    options: dict[str, list[str]] = {}
    values: list[str] = []
    for word in words:
        if word.startswith("--"):
            name, _, value = word.partition("=")
            values = options.setdefault(name, [value] if value else [])
        else:
            values.append(word)
    hysteresis = options.get("--hyst")
    temperatures = options.get("--temp", ["55", "80"])
    speeds = options.get("--speed", ["30", "99"])
    curve = None
    if "--temp" in options or "--speed" in options:
        if len(temperatures) != len(speeds):
            raise InputError(
                f"coolgpus has {len(temperatures)} temperatures and {len(speeds)} speeds: give a curve with --curve"
            )
        curve = Curve.parse(",".join(f"{t}:{d}" for t, d in zip(temperatures, speeds, strict=True)))
    try:
        return curve, float(hysteresis[0]) if hysteresis else None
    except ValueError:
        raise InputError(f"coolgpus has --hyst {hysteresis}: give a curve with --curve") from None


def people_at_the_screen() -> list[str]:
    """Names of those who are logged in graphically; none where there is no logind to ask."""
    try:
        text = _loginctl("list-sessions", "--no-legend")
        sessions = [line.split()[0] for line in text.splitlines() if line.strip()]
        found = [_loginctl("show-session", name, "-p", "Name", "-p", "Type", "-p", "Class") for name in sessions]
    except (GpufanError, subprocess.SubprocessError):
        return []
    people = set()
    for session in found:
        values = dict(line.split("=", 1) for line in session.splitlines() if "=" in line)
        if values.get("Type") in ("x11", "wayland", "mir") and values.get("Class") == "user":
            people.add(values.get("Name", "somebody"))
    return sorted(people)


def _loginctl(*arguments: str) -> str:
    done = run_program(["loginctl", "--no-pager", *arguments], QUERY_TIMEOUT_S)
    done.check_returncode()
    return done.stdout


def containers_with_gpus(proc: Path = Path("/proc")) -> int:
    """Number of processes in containers that have a card open."""
    count = 0
    for folder in proc.glob("[0-9]*"):
        try:
            if _CONTAINER.search((folder / "cgroup").read_text()) and _has_card_open(folder):
                count += 1
        except OSError:  # it ended meanwhile
            continue
    return count


def _has_card_open(folder: Path) -> bool:
    return any(str(link.readlink()).startswith("/dev/nvidia") for link in (folder / "fd").iterdir())
