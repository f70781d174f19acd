"""Names the command that runs this gpufan, also after `sudo`, which searches for programs in fewer folders."""

import re
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
    """Return the message `text` with commands that run this gpufan, in place of `gpufan` and `sudo gpufan`.

    `run this with sudo` becomes the command of this process after `sudo`. Its options are left out, because they may
    contain a secret.
    """
    if "`" not in text and "run this with sudo" not in text:
        return text
    command, program = own_command(), Path(sys.argv[0])
    if command == "gpufan" or program.name != "gpufan":
        return text
    words = []
    for word in sys.argv[1:]:
        if word.startswith("-"):
            words.append("...")
            break
        words.append(word)
    again = " ".join(["sudo", command, *words])
    if not _finds(program):
        text = text.replace("`gpufan ", f"`{command} ")
    text = re.sub(r"(`sudo (?:\w+=\w+ )?)gpufan ", lambda match: f"{match[1]}{command} ", text)
    return text.replace("run this with sudo", f"run `{again}`")


def _finds(program: Path, path: str | None = None) -> bool:
    """Whether `gpufan` is `program` in a search of the folders `path`; with None in those of this process."""
    found = shutil.which("gpufan", path=path)
    return found is not None and Path(found).resolve() == program.resolve()
