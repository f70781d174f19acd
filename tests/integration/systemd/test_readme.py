"""The two commands of the README on fresh boxes, without a network: "Try it", and "Develop and test"."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.packages import SOURCE
from tests.integration.systemd.fresh import SUITES, TEST_WHEELS, wheels_for_tests
from tests.integration.systemd.rig import WHEELS, Rig
from tests.integration.systemd.test_package import apt, state

pytestmark = pytest.mark.systemd

CLONE = Path("/srv/clone")
BootFresh = Callable[..., Rig]


def commands() -> list[str]:
    """The commands of the README in blocks of their own: each is one line."""
    return re.findall(r"^```sh\n(.+)\n```$", (SOURCE / "README.md").read_text(), re.MULTILINE)


def clone(folder: Path) -> Path:
    """A copy of the files of this clone that git does not ignore."""
    copy = folder / CLONE.name
    names = (SOURCE / ".gitignore").read_text().replace("/", "").split()
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns(".git", *names))
    return copy


def run_as_user(rig: Rig, command: str, wheels: Path) -> subprocess.CompletedProcess[str]:
    """Run `command` in the clone as its owner, who is not root. pip finds only `wheels`."""
    rig.run("chown", "-R", "1000:1000", str(CLONE))
    user = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")
    environment = (f"HOME={CLONE}", "PIP_NO_INDEX=1", f"PIP_FIND_LINKS={wheels}")
    return rig.run(*user, "env", *environment, "sh", "-c", f"cd {CLONE} && {command}", check=False, timeout_s=900.0)


@pytest.mark.parametrize("suite", SUITES)
def test_the_first_command_of_the_readme_shows_two_cards_on_a_fresh_box(
    suite: str, boot_fresh: BootFresh, tmp_path: Path
):
    command = commands()[0]
    assert command.count(" --time-scale 60 ") == 1
    rig = boot_fresh(suite, clone(tmp_path))
    apt(rig, "install", "python3-venv")
    before = state(rig)
    shown = run_as_user(rig, command.replace(" --time-scale 60 ", " --time-scale max "), WHEELS)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "GTX 1080 Ti" in shown.stdout
    # It touches nothing else of the box, and no card.
    changed = {name for name, about in state(rig).items() if before.get(name) != about}
    assert {name for name in changed if not Path("/", name).is_relative_to(CLONE)} == set()
    assert rig.double.log() == []


@pytest.mark.parametrize("suite", SUITES)
def test_the_second_command_of_the_readme_checks_the_code_on_a_fresh_box(
    suite: str, boot_fresh: BootFresh, tmp_path: Path
):
    command = commands()[-1]
    assert command == ".ci/test"
    rig = boot_fresh(suite, clone(tmp_path), layers=[wheels_for_tests()])
    apt(rig, "install", "python3-venv")
    # The tests of one room only: all of them take minutes.
    done = run_as_user(rig, f"{command} tests/unit/hwmon", TEST_WHEELS)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    for line in ("All checks passed!", "Success: no issues found", " 0 broken", " passed"):
        assert line in said
