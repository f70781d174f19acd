"""Find other programs that set fans or use the cards: rivals, autostarts of nvidia-settings, X servers."""

import re
from collections.abc import Iterator
from pathlib import Path

from gpufan.doctor.facts import Rival, XServer
from gpufan.doctor.root_folder import below_root, text_of
from gpufan.service import conflicts

_INTERPRETERS = re.compile(r"(?:python|perl|bash|dash|sh)[\d.]*")
_SERVICE_OF = re.compile(r"/system\.slice/(?:.*/)?([^/\n]+\.service)$", re.MULTILINE)
_FAN_SETTING = re.compile(r"GPUFanControlState=1|GPUTargetFanSpeed", re.IGNORECASE)
_SWITCHED_OFF = re.compile(r"^(Hidden=true|X-GNOME-Autostart-enabled=false)$", re.MULTILINE)


def rivals() -> tuple[Rival, ...]:
    """The running programs that set fans."""
    found = []
    for folder, words in _processes():
        if program := _rival_program(words):
            unit = _SERVICE_OF.search(text_of(folder / "cgroup"))
            name, exclusive = conflicts.OTHERS.get(program, program), program in conflicts.RIVALS
            found.append(Rival(name, unit[1] if unit else None, int(folder.name), exclusive))
    return tuple(found)


def x_servers(runtime_folder: Path) -> tuple[XServer, ...]:
    """The running X servers. Those of gpufan have files in `runtime_folder`."""
    found = []
    for folder, words in _processes():
        if Path(words[0]).name in ("Xorg", "X"):
            display = next((word for word in words[1:] if re.fullmatch(r":\d+", word)), None)
            ours = any(word.startswith(str(runtime_folder)) for word in words)
            found.append(XServer(int(folder.name), display, ours))
    return tuple(found)


def _processes() -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Folder in /proc and command of each process, by process number."""
    for folder in sorted(below_root("/proc").glob("[0-9]*"), key=lambda folder: int(folder.name)):
        words = tuple(word for word in text_of(folder / "cmdline").split("\0") if word)
        if words:  # an empty command is a kernel thread, or has ended
            yield folder, words


def _rival_program(words: tuple[str, ...]) -> str | None:
    """The name of the rival that a command runs; None if it runs none.

    Arguments count only after an interpreter: an editor that has opened the script of a rival is not a rival.
    """
    if not _INTERPRETERS.fullmatch(Path(words[0]).name):
        words = words[:1]
    return conflicts.Service("", words).runs(sorted({*conflicts.RIVALS, *conflicts.OTHERS}))


def autostarts() -> tuple[str, ...]:
    """Files that start nvidia-settings at the login to a desktop, if its command or its settings set fans."""
    homes = [*below_root("/home").glob("*"), below_root("/root")]
    loads_fans = any(_FAN_SETTING.search(text_of(home / ".nvidia-settings-rc")) for home in homes)
    folders = [below_root("/etc/xdg/autostart"), *(home / ".config/autostart" for home in homes)]
    return tuple(str(path) for folder in folders for path in _autostarts_in(folder, loads_fans))


def _autostarts_in(folder: Path, loads_fans: bool) -> Iterator[Path]:
    try:
        paths = sorted(folder.glob("*.desktop"))
    except OSError:  # another user's home
        return
    for path in paths:
        text = text_of(path)
        command = re.search(r"^Exec=(.*nvidia-settings.*)$", text, re.MULTILINE)
        if command and not _SWITCHED_OFF.search(text) and (loads_fans or _FAN_SETTING.search(command[1])):
            yield path
