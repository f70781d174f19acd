"""What systemctl and journalctl print, and the links of a unit."""

import os
from pathlib import Path

import pytest

from gpufan.system import systemctl


def test_output_that_is_no_text_is_decoded_with_replacement_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for program in ("systemctl", "journalctl"):
        (tmp_path / program).write_text("#!/bin/sh\n" + r'printf "Id=\377x\n"' + "\n")
        (tmp_path / program).chmod(0o755)
    assert systemctl.unit_properties("x", "Id") == {"Id": "\ufffdx"}
    assert systemctl.journal_lines("x", 1) == ["Id=\ufffdx"]


def test_links_of_a_unit_are_its_aliases_and_where_it_is_wanted(tmp_path: Path):
    (tmp_path / "graphical.target.wants").mkdir()
    (tmp_path / "display-manager.service").symlink_to("/lib/systemd/system/lightdm.service")
    (tmp_path / "graphical.target.wants/lightdm.service").symlink_to("/lib/systemd/system/lightdm.service")
    (tmp_path / "graphical.target.wants/other.service").symlink_to("/lib/systemd/system/other.service")
    (tmp_path / "lightdm.service").write_text("[Service]\n")
    assert systemctl.links_to("lightdm.service", tmp_path) == {
        str(tmp_path / "display-manager.service"): "/lib/systemd/system/lightdm.service",
        str(tmp_path / "graphical.target.wants/lightdm.service"): "/lib/systemd/system/lightdm.service",
    }
