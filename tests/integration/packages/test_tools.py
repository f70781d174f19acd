"""gpufan as pipx and uv install it: the command that sudo finds, and what the doctor says of the installation."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from gpufan import __version__
from tests.doubles import require
from tests.integration.packages import SOURCE, packages

pytestmark = pytest.mark.slow

UV = SOURCE / ".envs/package/bin/uv"


@pytest.fixture(scope="module", params=["pipx", "uv"])
def installed(request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    """The tool, and the home of a user who has installed gpufan with it."""
    (wheel,) = packages().glob("*.whl")
    if request.param == "uv":
        command = [UV, "tool", "install", "-q", "--python", sys.executable, wheel]
        if not UV.exists():
            command[0] = require("uv", "uv")
    else:
        pytest.importorskip("pipx")
        command = [sys.executable, "-m", "pipx", "install", "-q", "--python", sys.executable, str(wheel)]
    # Not a folder of pytest: those are for their owner, and the user nobody must find gpufan.
    with TemporaryDirectory(prefix="gpufan-test-") as name:
        home = Path(name)
        done = subprocess.run(command, env=environment(home), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        subprocess.run(["chmod", "-R", "go+rX", home], check=True)
        yield request.param, home


def environment(home: Path) -> dict[str, str]:
    """That of the user; the folder for programs is on the PATH, as both tools ask for."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "XDG_", "COVERAGE"))}
    return kept | {"HOME": str(home), "PATH": f"{home}/.local/bin:/usr/bin:/bin"}


def gpufan(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run gpufan as the user's shell does, as somebody who is not root."""
    # The Python of these tests may lie where only root can read.
    reads = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    as_nobody = ("setpriv", "--reuid=65534", "--clear-groups", *reads) if os.geteuid() == 0 else ()
    command = [*as_nobody, "sh", "-c", 'exec gpufan "$@"', "sh", *words]
    return subprocess.run(command, env=environment(home), capture_output=True, text=True, check=False, timeout=60)


def test_the_user_is_told_the_line_that_sudo_can_run(installed: tuple[str, Path]) -> None:
    _, home = installed
    done = gpufan(home, "install-service", "--target", "75")
    assert done.returncode == 1
    assert "run `sudo $(command -v gpufan) install-service ...`" in done.stderr
    done = gpufan(home, "status", "--runtime-dir", str(home / "none"))
    assert "start it with `sudo $(command -v gpufan) run`" in done.stderr


def test_the_doctor_says_how_it_was_installed(installed: tuple[str, Path]) -> None:
    tool, home = installed
    said = " ".join(gpufan(home, "doctor").stdout.split())
    assert f"gpufan {__version__} from {tool}, {home}/.local/share/{tool}/" in said


def test_an_extra_that_is_missing_comes_with_the_line_of_the_tool(installed: tuple[str, Path]) -> None:
    tool, home = installed
    said = gpufan(home, "exporter").stderr
    line = {"pipx": "pipx install --force", "uv": "uv tool install --force"}[tool]
    assert f"{line} 'gpufan[metrics]'" in said
