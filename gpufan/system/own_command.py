"""Names the command that runs this gpufan, also after `sudo`, which searches for programs in fewer folders."""

import shutil
import sys
from pathlib import Path

_SUDO_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The folders in which sudo searches a program on Debian (secure_path in sudoers(5))."""


def own_command() -> str:
    """Return the command that runs this gpufan. It works in a shell, also after `sudo`.

    It is `gpufan` if sudo finds this gpufan, and `$(command -v gpufan)` if only the user's shell finds it, as after an
    install with pipx or uv. Else it has the path of the program.
    """
    program = Path(sys.argv[0])
    if program.name != "gpufan":
        return f"{sys.executable} -m gpufan"
    if not program.is_file() or _finds(program, _SUDO_PATH):
        return "gpufan"
    return "$(command -v gpufan)" if _finds(program) else str(program.absolute())


def with_own_command(text: str) -> str:
    """Return the message `text` with a command that sudo finds, where `text` says `sudo gpufan` or `with sudo`.

    Options are left out of the command, because they may contain a secret.
    """
    command = own_command()
    if command == "gpufan" or Path(sys.argv[0]).name != "gpufan":
        return text
    words = []
    for word in sys.argv[1:]:
        if word.startswith("-"):
            words.append("...")
            break
        words.append(word)
    again = " ".join(["sudo", command, *words])
    return text.replace("run this with sudo", f"run `{again}`").replace("`sudo gpufan ", f"`sudo {command} ")


def _finds(program: Path, path: str | None = None) -> bool:
    """Whether `gpufan` is `program` in a search of the folders `path`; with None in those of this process."""
    found = shutil.which("gpufan", path=path)
    return found is not None and Path(found).resolve() == program.resolve()
