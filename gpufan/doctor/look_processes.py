"""Finds other programs that set fans or use the cards: rivals, autostarts of nvidia-settings, X servers."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gpufan.core.fan_programs import BOARD_FANS, OTHERS, RIVALS, board_fan_program, fan_program
from gpufan.daemon import snapshot_file
from gpufan.daemon.rivals import likely_rival
from gpufan.doctor.facts import Rival, XServer
from gpufan.doctor.root_folder import below_root
from gpufan.errors import GpufanError
from gpufan.system.files import read_text_or_empty
from gpufan.system.processes import PROC, processes

_SERVICE_OF = re.compile(r"/system\.slice/(?:.*/)?([^/\n]+\.service)$", re.MULTILINE)
_FAN_SETTING = re.compile(r"GPUFanControlState=1|GPUTargetFanSpeed", re.IGNORECASE)
_SWITCHED_OFF = re.compile(r"^(Hidden=true|X-GNOME-Autostart-enabled=false)$", re.MULTILINE)


def look_for_rivals() -> tuple[Rival, ...]:
    """Return the running programs, other than gpufan, that set fans."""
    found = []
    for process in processes(below_root(PROC)):
        board_program = board_fan_program(process.words)
        if program := fan_program(process.words) or board_program:
            unit = _SERVICE_OF.search(read_text_or_empty(process.folder / "cgroup"))
            name = OTHERS.get(program) or BOARD_FANS.get(program, program)
            exclusive, of_board = program in RIVALS, board_program is not None
            found.append(Rival(name, unit[1] if unit else None, process.pid, exclusive, of_board))
    return tuple(found)


def look_for_other_setter(snapshot: Path) -> str:
    """Return the name of the program that may set fans besides gpufan. Returns an empty text if there is none.

    This process does not count, and neither does the gpufan that wrote the file `snapshot`.
    """
    ours = {os.getpid()}
    with suppress(GpufanError):
        ours.add(snapshot_file.read_snapshot(snapshot).pid)
    return likely_rival(ours, below_root(PROC))


def look_for_x_servers(runtime_folder: Path) -> tuple[XServer, ...]:
    """Return the running X servers. If the files of a server are in `runtime_folder`, gpufan started the server."""
    found = []
    for process in processes(below_root(PROC)):
        words = process.words
        if Path(words[0]).name in ("Xorg", "X"):
            display = next((word for word in words[1:] if re.fullmatch(r":\d+", word)), None)
            ours = any(word.startswith(str(runtime_folder)) for word in words)
            found.append(XServer(process.pid, display, ours))
    return tuple(found)


def look_for_autostarts() -> tuple[str, ...]:
    """Return the files that start nvidia-settings at the login to a desktop, so that nvidia-settings sets fans."""
    homes = [*below_root("/home").glob("*"), below_root("/root")]
    loads_fans = any(_FAN_SETTING.search(read_text_or_empty(home / ".nvidia-settings-rc")) for home in homes)
    folders = [below_root("/etc/xdg/autostart"), *(home / ".config/autostart" for home in homes)]
    return tuple(str(path) for folder in folders for path in _look_for_autostarts_in(folder, loads_fans))


def _look_for_autostarts_in(folder: Path, loads_fans: bool) -> Iterator[Path]:
    """Yield the files in `folder` that start nvidia-settings so that it sets fans.

    `loads_fans` says whether the saved settings that nvidia-settings loads set fans. If they do, each file that starts
    nvidia-settings is yielded. Otherwise a file is yielded only if the command in it sets fans.
    """
    try:
        paths = sorted(folder.glob("*.desktop"))
    except OSError:  # another user's home
        return
    for path in paths:
        text = read_text_or_empty(path)
        command = re.search(r"^Exec=(.*nvidia-settings.*)$", text, re.MULTILINE)
        if command and not _SWITCHED_OFF.search(text) and (loads_fans or _FAN_SETTING.search(command[1])):
            yield path
