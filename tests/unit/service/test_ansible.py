"""The files of `gpufan deploy ansible`; integration/systemd runs the playbook."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gpufan.cli.main import cli
from gpufan.config.schema import NOTHING
from gpufan.config.toml_text import parse_settings_text
from gpufan.errors import InputError
from gpufan.service.ansible import FILES
from gpufan.system.resources import resource
from tests.doubles import require


def deploy(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["deploy", "ansible", "--output", str(folder), *options])


def test_playbook_role_inventory_and_settings_are_written(tmp_path: Path) -> None:
    assert deploy(tmp_path / "new").exit_code == 0
    for name in (*FILES, "inventory.ini"):
        assert (tmp_path / "new" / name).read_bytes() == resource(f"templates/ansible/{name}").read_bytes()
    assert parse_settings_text((tmp_path / "new/config.toml").read_bytes()) == (NOTHING, ())


def test_every_file_of_the_templates_is_written(tmp_path: Path) -> None:
    root = resource("templates/ansible/playbook.yml").parent
    there = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert there == {*FILES, "inventory.ini"}


def test_files_that_the_user_changed_are_replaced_only_with_force(tmp_path: Path) -> None:
    deploy(tmp_path)
    for name in ("inventory.ini", "config.toml", "playbook.yml"):
        (tmp_path / name).write_text("mine")
    refused = deploy(tmp_path)
    assert isinstance(refused.exception, InputError)
    assert re.search(r"playbook.yml would be overwritten: add --force", str(refused.exception))
    assert (tmp_path / "playbook.yml").read_text() == "mine"
    deploy(tmp_path, "--force")
    assert (tmp_path / "playbook.yml").read_text() != "mine"
    assert [(tmp_path / name).read_text() for name in ("inventory.ini", "config.toml")] == ["mine", "mine"]


def test_an_inventory_that_is_a_link_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "inventory.ini").symlink_to("not/here/yet")
    assert deploy(tmp_path, "--force").exit_code == 0
    assert (tmp_path / "inventory.ini").is_symlink()


@pytest.mark.slow
def test_ansible_lint_accepts_the_playbook(tmp_path: Path) -> None:
    programs = Path(sys.executable).parent
    path = f"{programs}:{os.environ['PATH']}"
    lint = shutil.which("ansible-lint", path=path) or require("ansible-lint", "ansible-lint")
    deploy(tmp_path)
    environment = {**os.environ, "PATH": path, "ANSIBLE_HOME": str(tmp_path / "home"), "NO_COLOR": "1"}
    done = subprocess.run(
        [lint, "--offline", "--strict", "--profile", "production"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
