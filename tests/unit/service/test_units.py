"""The unit files, and the shell commands in them."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gpufan.errors import InputError
from gpufan.service.units import COMPANIONS, unit_files

SCRIPT = "/opt/gpufan/release_fans.py"
CONFIG = "/etc/gpufan/config.toml"


def service(python: str = "/usr/bin/python3", script: str = SCRIPT) -> str:
    """Text of the unit gpufan.service."""
    (text,) = unit_files(python, script, CONFIG).values()
    return text


def drop_in(**needs: Any) -> str:
    """Text of the drop-in of a box that `needs` these. The unit is as everywhere."""
    texts = unit_files("/usr/bin/python3", SCRIPT, CONFIG, **needs)
    assert texts.pop("/etc/systemd/system/gpufan.service") == service()
    return texts["/etc/systemd/system/gpufan.service.d/box.conf"]


@pytest.mark.parametrize("xserver", [False, True])
def test_unit_files_contain_no_template_syntax(xserver: bool):
    needs = {"xserver": xserver, "hwmon_folders": ["/sys/devices/a"] * (not xserver)}
    texts = unit_files("/opt/gpufan/bin/python3", SCRIPT, CONFIG, companions=COMPANIONS, **needs)
    assert len(texts) == 2 + xserver + len(COMPANIONS)
    for text in texts.values():
        assert "{" not in text
        assert text.endswith("\n")
        assert "\n\n\n" not in text


def test_the_drop_in_has_only_what_this_box_needs():
    over_x = drop_in(xserver=True)
    assert "\nWants=gpufan-xserver.service\n" in over_x
    assert "ReadWritePaths" not in over_x
    with_chips = drop_in(hwmon_folders=["/sys/devices/a", "/sys/devices/b 1"])
    assert with_chips.endswith('\nReadWritePaths=-/sys/devices/a\nReadWritePaths=-"/sys/devices/b 1"\n')
    assert "xserver" not in with_chips


def test_the_drop_in_sets_the_cookie_file_of_an_x_server():
    for cookie, line in (("/run/x/:0", "XAUTHORITY=/run/x/:0"), ("/run/my x", '"XAUTHORITY=/run/my x"')):
        assert f"\nEnvironment={line}\n" in drop_in(xauthority=cookie)


@pytest.mark.parametrize("odd", ["\n", "\r", "\x1b", "\0"])
def test_a_cookie_file_with_a_control_character_in_its_path_is_refused(odd: str):
    with pytest.raises(InputError, match="control character"):
        drop_in(xauthority=f"/x{odd}ExecStart=/bin/evil")


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/usr/bin/python3", "/usr/bin/python3"),
        ("/opt/my env/bin/python3", '"/opt/my env/bin/python3"'),
        ("/opt/100%/python3", "/opt/100%%/python3"),
        ('/opt/a"b\\c/python3', '"/opt/a\\"b\\\\c/python3"'),
    ],
)
def test_the_interpreter_is_quoted_as_one_word_of_a_unit(path: str, word: str):
    assert f"\nExecStart={word} -I -m gpufan run --config {CONFIG}\n" in service(path)


def run(text: str, key: str, path: str = "/usr/bin:/bin") -> "subprocess.CompletedProcess[str]":
    """Run the last command `key` of a unit, as systemd would."""
    line = re.findall(rf"^{key}=[-+]*(.*)$", text, re.MULTILINE)[-1]
    words = shlex.split(line.replace("%%", "%").replace("$$", "$"))
    return subprocess.run(words, env={"PATH": path}, capture_output=True, text=True, check=False)


@pytest.fixture
def odd_folder(tmp_path: Path) -> Path:
    """With a program `sleep` that does not wait."""
    folder = tmp_path / "my %h $HOME 'n"
    folder.mkdir()
    program(folder / "sleep", "echo sleep $1")
    return folder


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_with_a_working_interpreter_the_service_starts_and_ends_with_it(odd_folder: Path):
    python = program(odd_folder / "python", '[ "$2" = -c ] || echo "$@"')
    text = service(str(python), str(odd_folder / "release.py"))
    assert run(text, "ExecStartPre").returncode == 0
    assert run(text, "ExecStopPost").stdout == f"-I -m gpufan restore --taken --config {CONFIG}\n"


@pytest.mark.parametrize("script", [None, "echo 'No module named gpufan' >&2; exit 1"])
def test_without_a_working_interpreter_the_start_waits_and_another_python_gives_the_fans_back(
    odd_folder: Path, script: str | None
):
    python = odd_folder / "python"
    if script is not None:
        program(python, script)
    release = odd_folder / "release.py"
    release.write_text("import sys\nprint(sys.flags.isolated, sys.argv[1:])\nsys.exit(3)")
    text = service(str(python), str(release))
    start = run(text, "ExecStartPre", f"{odd_folder}:/usr/bin:/bin")
    assert (start.returncode, start.stdout) == (1, "sleep 55\n")
    assert start.stderr == "gpufan cannot start, since its Python does not work any more: install gpufan again\n"
    stop = run(text, "ExecStopPost")
    assert (stop.returncode, stop.stdout) == (3, "1 ['/run/gpufan/taken.json']\n")


def test_the_device_node_of_every_card_is_made_if_there_is_a_program_for_it(tmp_path: Path):
    for number, minor in enumerate((0, 2, 11)):
        (tmp_path / f"gpus/{number}").mkdir(parents=True)
        (tmp_path / f"gpus/{number}/information").write_text(f"Model: \t\t X\nDevice Minor: \t {minor}\n")
    text = service().replace("/proc/driver/nvidia/gpus", str(tmp_path / "gpus"))
    text = text.replace("PATH=/usr/sbin:/usr/bin:/sbin:/bin", f"PATH={tmp_path}:/usr/bin:/bin")
    text = text.replace("\nExecStartPre=/bin/sh", "\n# ")  # only the first remains
    without = run(text, "ExecStartPre")
    assert (without.returncode, without.stdout, without.stderr) == (0, "", "")
    program(tmp_path / "nvidia-modprobe", "echo $@")
    assert run(text, "ExecStartPre").stdout == "-c 255 -c 0\n-c 0\n-c 2\n-c 11\n"
