"""Other programs that set the fans of NVIDIA cards: their names, and the search for them in a command line."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

RIVALS = {"coolgpus", "nvfancontrol", "nfancurve", "chnvml", "nvidia-fan-control", "nvidia_fan_control.py"}
"""Programs whose only task is to set the fans of NVIDIA cards."""

OTHERS = {
    "lactd": "LACT",
    "coolercontrold": "CoolerControl",
    "fan2go": "fan2go",
    "tuxclockerd": "TuxClocker",
    "gwe": "GreenWithEnvy",
}
"""Programs that set fans and have other tasks too. The values are their names for people.

Because of these other tasks, an install of gpufan does not stop them.
"""

BOARD_FANS = {
    "fancontrol": "fancontrol",
    "thinkfan": "thinkfan",
    "nbfc_service": "NBFC",
    "i8kmon": "i8kmon",
    "mbpfan": "mbpfan",
    "fan2go": "fan2go",
    "coolercontrold": "CoolerControl",
}
"""Programs that set fans on headers of the motherboard. The values are their names for people.

They matter only if gpufan is to set such fans too.
"""

READERS = {"nvidia-smi", "nvidia-persistenced", "nv-hostengine", "dcgm-exporter", "nvtop"}
"""Programs that open cards but never set fans."""

_NFANCURVE_SCRIPT = "temp.sh"
"""The name of the script of nfancurve. Scripts of other programs have this name too."""

_INTERPRETERS = re.compile(r"(?:python|perl|bash|dash|sh)[\d.]*")


def started_program(words: Sequence[str], programs: Iterable[str], unit: str = "") -> str | None:
    """Return the first of `programs` that a command starts; None if it starts none of them.

    The command may start the program directly, or as a script of an interpreter. `words` are the words of the command.
    `unit` is the name of the systemd unit that has the command; empty if there is none.
    """
    names = {Path(word).name for word in words[:3]}
    if _NFANCURVE_SCRIPT in names and any("nfancurve" in name for name in (unit, *words[:3])):
        names.add("nfancurve")
    return next((program for program in programs if program in names), None)


def fan_program(words: Sequence[str]) -> str | None:
    """Return the program of `RIVALS` or `OTHERS` that a command runs; None if it runs another program.

    `words` are the words of the command. Its arguments count only if its program is an interpreter. So an editor that
    has opened the script of a rival is not a rival.

    >>> fan_program(["/usr/bin/python3", "/usr/bin/coolgpus", "--kill"]), fan_program(["vim", "coolgpus"])
    ('coolgpus', None)
    """
    if not _INTERPRETERS.fullmatch(Path(words[0]).name):
        words = words[:1]
    return started_program(words, sorted({*RIVALS, *OTHERS}))


def board_fan_program(words: Sequence[str]) -> str | None:
    """Return the program of `BOARD_FANS` that a command runs; None if it runs another program.

    >>> board_fan_program(["/bin/bash", "/usr/sbin/fancontrol"]), board_fan_program(["vim", "fancontrol"])
    ('fancontrol', None)
    """
    if not _INTERPRETERS.fullmatch(Path(words[0]).name):
        words = words[:1]
    return started_program(words, BOARD_FANS)


def program_name(words: Sequence[str]) -> str:
    """Return the name of the program that a command runs. If an interpreter runs a script, this is the script.

    `words` are the words of the command.

    >>> program_name(["/usr/bin/python3", "/home/a/train.py", "--fast"]), program_name(["/usr/bin/python3", "-i"])
    ('train.py', 'python3')
    """
    if _INTERPRETERS.fullmatch(Path(words[0]).name) and len(words) > 1 and not words[1].startswith("-"):
        words = words[1:]
    return Path(words[0]).name
