"""The unit files."""

import sys

import pytest

from gpufan.errors import InputError
from gpufan.service import root_copy
from gpufan.service.units import COMPANIONS, unit_files


@pytest.mark.parametrize("xserver", [False, True])
def test_unit_files_contain_no_template_syntax(xserver: bool):
    command = "/opt/gpufan/bin/python3 -I -m gpufan"
    units = unit_files(command, "/etc/gpufan/config.toml", xserver=xserver, companions=COMPANIONS)
    assert len(units) == 1 + xserver + len(COMPANIONS)
    for text in units.values():
        assert "{" not in text
        assert text.endswith("\n")
        assert "\n\n\n" not in text


def test_the_unit_sets_the_cookie_file_of_an_x_server():
    for cookie, line in (("/run/x/:0", "XAUTHORITY=/run/x/:0"), ("/run/my x", '"XAUTHORITY=/run/my x"')):
        (text,) = unit_files("/usr/bin/gpufan", "/etc/gpufan/config.toml", xauthority=cookie).values()
        assert f"\nEnvironment={line}\n" in text


@pytest.mark.parametrize("odd", ["\n", "\r", "\x1b", "\0"])
def test_a_cookie_file_with_a_control_character_in_its_path_is_refused(odd: str):
    with pytest.raises(InputError, match="control character"):
        unit_files("/usr/bin/gpufan", "/etc/gpufan/config.toml", xauthority=f"/x{odd}ExecStart=/bin/evil")


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("/usr/bin/python3", "/usr/bin/python3"),
        ("/opt/my env/bin/python3", '"/opt/my env/bin/python3"'),
        ("/opt/100%/python3", "/opt/100%%/python3"),
        ('/opt/a"b\\c/python3', '"/opt/a\\"b\\\\c/python3"'),
    ],
)
def test_the_interpreter_is_quoted_as_one_word_of_a_unit(path: str, word: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", path)
    assert root_copy.command(copied=False) == f"{word} -I -m gpufan"
