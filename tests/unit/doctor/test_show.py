"""How the report of the doctor looks on a terminal."""

import io

import msgspec
import pytest
from rich.console import Console

from gpufan.doctor.findings import Report, ok, problem, warning
from gpufan.doctor.show import print_report


def shown(report: Report, width: int = 80, encoding: str = "utf-8", **options: object) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    print_report(report, Console(file=file, width=width, highlight=False, **options))
    file.flush()
    return file.buffer.getvalue().decode(encoding)


LONG = "sudo systemctl stop gpufan; sudo /opt/somewhere/gpufan doctor --try-fans; sudo systemctl start gpufan; ls"
PATH = f"/a{'/folder' * 20}"
FINDINGS = (
    ok("driver", f"{'word ' * 30}{PATH}"),
    warning("rights", "few", LONG),
    msgspec.structs.replace(problem("fans", "stuck", "a", "b"), card=11),
)


def test_texts_are_wrapped_but_commands_and_paths_are_not() -> None:
    lines = shown(Report.of("1", 0.0, FINDINGS)).splitlines()
    assert all(len(line) <= 80 for line in lines if LONG not in line and PATH not in line)
    assert sum(PATH in line for line in lines) == 1
    assert sum(LONG in line for line in lines) == 1
    assert lines[-1] == "1 problem and 1 warning, 1 ok."


def test_the_last_line_says_that_all_is_well() -> None:
    assert shown(Report.of("1", 0.0, [ok("driver", "x")] * 3)).splitlines()[-1] == "All is well: 3 checks."


def test_commands_too_long_for_their_column_start_further_left() -> None:
    report = Report.of("1", 0.0, (warning("display", "x", "sudo true", "sudo " + "a" * 60),))
    assert [line.index("sudo") for line in shown(report).splitlines() if "sudo" in line] == [6, 6]
    assert [line.index("sudo") for line in shown(report, 120).splitlines() if "sudo" in line] == [28, 28]


def test_each_level_has_a_symbol_and_a_word() -> None:
    text = shown(Report.of("1", 0.0, FINDINGS))
    assert "✓ ok " in text and "! warning " in text and "✗ problem " in text


def test_an_ascii_terminal_gets_ascii_symbols() -> None:
    text = shown(Report.of("1", 0.0, FINDINGS), encoding="ascii")
    assert "+ ok " in text and "x problem " in text and "?" not in text


def test_only_a_terminal_that_wants_colours_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report.of("1", 0.0, FINDINGS)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" not in shown(report)
    assert "\x1b[1;31m" in shown(report, force_terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;31m" not in shown(report, force_terminal=True)
