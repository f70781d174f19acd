"""The command of the README's section "Try it" on fresh boxes, without a network."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.packages import SOURCE
from tests.integration.systemd.fresh import SUITES
from tests.integration.systemd.rig import WHEELS, Rig
from tests.integration.systemd.test_package import apt, state

pytestmark = pytest.mark.systemd

CLONE = Path("/srv/clone")


def first_command() -> str:
    """The first command of the README, with a simulation that waits for no clock."""
    found = re.search(r"^```sh\n(.*?)\n```", (SOURCE / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert found
    assert found[1].count(" --time-scale 60 ") == 1
    return found[1].replace(" --time-scale 60 ", " --time-scale max ")


def clone(folder: Path) -> Path:
    """A copy of what a clone has of gpufan, without its tests."""
    copy = folder / CLONE.name
    for name in ("gpufan", "systemd", "templates"):
        shutil.copytree(SOURCE / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(SOURCE / name, copy)
    return copy


@pytest.mark.parametrize("suite", SUITES)
def test_the_first_command_of_the_readme_shows_two_cards_on_a_fresh_box(
    suite: str, boot_fresh: Callable[..., Rig], tmp_path: Path
):
    rig = boot_fresh(suite, clone(tmp_path))
    apt(rig, "install", "python3-venv")
    rig.run("chown", "-R", "1000:1000", str(CLONE))
    before = state(rig)
    user = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")
    pip = ("PIP_NO_INDEX=1", f"PIP_FIND_LINKS={WHEELS}")
    shown = rig.run(*user, "env", f"HOME={CLONE}", *pip, "sh", "-c", f"cd {CLONE} && {first_command()}")
    assert shown.stderr == ""
    assert "GTX 1080 Ti" in shown.stdout
    # It touches nothing else of the box, and no card.
    changed = {name for name, about in state(rig).items() if before.get(name) != about}
    assert {name for name in changed if not name.startswith(f"{CLONE}/"[1:])} == set()
    assert rig.double.log() == []
