"""What systemctl and journalctl print, and what ends a unit."""

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
    assert systemctl.systemctl_show("x", "Id") == {"Id": "\ufffdx"}
    assert systemctl.journal_lines("x", 1) == ["Id=\ufffdx"]


@pytest.mark.parametrize(
    ("load", "file_state", "commands"),
    [
        ("loaded", "enabled", ["stop x.service", "disable --quiet x.service"]),
        ("loaded", "disabled", ["stop x.service"]),
        ("bad-setting", "enabled", ["stop x.service", "disable --quiet x.service"]),
        ("masked", "masked", ["stop x.service"]),
        ("not-found", "", []),
    ],
)
def test_a_unit_is_stopped_whatever_has_happened_to_its_files(
    load: str, file_state: str, commands: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    script = tmp_path / "systemctl"
    script.write_text(
        f'#!/bin/sh\nshift 2\n[ $1 != show ] || exec printf "LoadState={load}\\nUnitFileState={file_state}\\n"\n'
        f'echo "$@" >>{tmp_path}/commands\n'
    )
    script.chmod(0o755)
    (tmp_path / "commands").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    systemctl.systemctl_stop_and_disable("x.service")
    assert (tmp_path / "commands").read_text().splitlines() == commands
