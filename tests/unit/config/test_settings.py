"""The settings in effect: which source wins, what `gpufan config` says of it, and which file is read."""

import csv
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gpufan.cli import options as cli_options
from gpufan.cli.main import cli
from gpufan.config.schema import DEFAULTS, RUN_KEYS, CardTable, RunKeys
from gpufan.config.settings import Settings, Source
from gpufan.config.toml_text import parse_settings_text, render_settings_text
from gpufan.core.card_settings import CardSettings
from gpufan.core.curve import Curve
from gpufan.core.quiet_hours import QuietHours
from gpufan.errors import InputError
from gpufan.gpu.simulated import PROFILES, WORKLOADS, SimulatedBox

CARD = SimulatedBox(PROFILES["dual-1080ti"], WORKLOADS["idle"]).gpus[1].info
STEEP = Curve.parse("50:40")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def command(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def settings(text: str, **options: object) -> Settings:
    file, tables = parse_settings_text(text.encode())
    return Settings(Path("config.toml"), file, tables, RunKeys(**options))


def test_a_required_file_must_exist(file: Path) -> None:
    with pytest.raises(InputError, match=f"{file}: no such file"):
        Source(file, required=True).read()
    with pytest.raises(InputError, match=f"{file.parent}: cannot be read: Is a directory"):
        Source(file.parent, required=False).read()


def test_without_a_file_the_built_in_settings_are_in_effect(file: Path) -> None:
    read = Source(file, required=False).read()
    assert read.path is None
    assert read.for_card(CARD) == CardSettings(target_c=78)
    assert read.run_settings() == ((), "auto", None, 1.0, False, None)


def test_command_line_overrides_table_overrides_file_overrides_built_in() -> None:
    text = "hold_s = 1\nhysteresis_c = 1\nmin_duty_percent = 31\n[[gpu]]\nmatch = 1\nhold_s = 2\nhysteresis_c = 2"
    assert settings(text, hold_s=3.0).for_card(CARD) == CardSettings(
        hold_s=3, hysteresis_c=2, min_duty_percent=31, target_c=DEFAULTS.target_c
    )


def test_a_later_matching_table_overrides_an_earlier_one_key_by_key() -> None:
    two = '[[gpu]]\nmatch = "GTX"\nhold_s = 1\nhysteresis_c = 1\n[[gpu]]\nmatch = 1\nhold_s = 2'
    found = settings(two).for_card(CARD)
    assert (found.hold_s, found.hysteresis_c) == (2, 1)


@pytest.mark.parametrize(
    "match", [CARD.uuid, CARD.uuid[:12].upper(), "41:00.0", "PCI:65:0:0", "1", "gtx 1080", "GTX*Ti", "108? Ti", "*"]
)
def test_a_table_matches_by_uuid_address_index_and_name_pattern(match: str) -> None:
    found = Settings(tables=(CardTable(match=match, hold_s=7.0),)).for_card(CARD)
    assert found.hold_s == 7


@pytest.mark.parametrize("match", ["GPU-", "0a:00.0", "0", "RTX", "1080[ ]Ti", " ", "1080?Ti?"])
def test_a_table_for_another_card_changes_nothing_and_is_reported(match: str) -> None:
    found = Settings(Path("f"), tables=(CardTable(match=match, hold_s=7.0),))
    assert found.for_card(CARD).hold_s == DEFAULTS.hold_s
    assert found.unmatched_tables([CARD]) == [f'f: [[gpu]] 1: match = "{match}" matches no card here']


def test_a_missing_neighbour_is_reported() -> None:
    found = Settings(
        Path("f"), RunKeys(neighbours=("GTX 1080 Ti", "nobody")), (CardTable(match=CARD.index, neighbours=(7,)),)
    )
    assert found.unmatched_tables([CARD]) == [
        'f: neighbours: "nobody" matches no card here',
        "f: neighbours: 7 matches no card here",
    ]


def test_every_index_is_reported() -> None:
    tables = (CardTable(match="1", neighbours=("GTX", 7)), CardTable(match="GPU-12345678"), CardTable(match="08:00.0"))
    found = Settings(Path("f"), RunKeys(gpus=(0, "GTX", "2"), neighbours=("0a:00.0",)), tables)
    cards = [
        line.removesuffix(" may be the index of another card after a reboot: use the card's UUID")
        for line in found.index_warnings()
    ]
    assert cards == ["f: gpus: 0", 'f: gpus: "2"', 'f: [[gpu]] 1: match = "1"', "f: neighbours: 7"]
    assert Settings(Path("f"), RunKeys(gpus=("GTX",)), tables[1:]).index_warnings() == []


def test_a_card_that_does_not_answer_matches_no_table() -> None:
    silent = dataclasses.replace(CARD, uuid="", pci="", name="card that does not answer")
    found = Settings(tables=(CardTable(match=CARD.uuid, hold_s=7.0), CardTable(match=CARD.pci, hold_s=8.0)))
    assert found.for_card(silent).hold_s == DEFAULTS.hold_s


def test_an_index_needs_no_quotes() -> None:
    found = settings("gpus = [1]\n[[gpu]]\nmatch = 1\nhold_s = 7")
    assert found.run_settings().gpus == ("1",)
    assert found.for_card(CARD).hold_s == 7


@pytest.mark.parametrize(
    ("text", "options", "follows"),
    [
        ("", {}, "target 78 °C"),
        ("hold_s = 7", {}, "target 78 °C"),
        ("target_c = 75", {}, "target 75 °C"),
        ('curve = "50:30"', {}, "curve 50:30"),
        ('target_c = 75\ncurve = "50:30"', {}, "target 75 °C"),
        ("", {"curve": STEEP}, "curve 50:40"),
        ("target_c = 75", {"curve": STEEP}, "curve 50:40"),
        ('curve = "50:30"', {"curve": STEEP}, "curve 50:40"),
        ('curve = "50:30"', {"target_c": 70.0}, "target 70 °C"),
        ("", {"target_c": 70.0, "curve": STEEP}, "target 70 °C"),
        ('[[gpu]]\nmatch = 1\ncurve = "50:30"', {}, "curve 50:30"),
        ('[[gpu]]\nmatch = 0\ncurve = "50:30"', {}, "target 78 °C"),
        ('curve = "50:30"\n[[gpu]]\nmatch = 1\nhold_s = 7', {}, "curve 50:30"),
        ('curve = "50:30"\n[[gpu]]\nmatch = 1\ntarget_c = 75', {}, "target 75 °C"),
        ('target_c = 75\n[[gpu]]\nmatch = 1\ncurve = "50:30"', {}, "curve 50:30"),
        ('[[gpu]]\nmatch = 1\ntarget_c = 75\n[[gpu]]\nmatch = "GTX"\ncurve = "50:30"', {}, "curve 50:30"),
        ('[[gpu]]\nmatch = 1\ncurve = "50:30"', {"target_c": 70.0}, "target 70 °C"),
    ],
)
def test_a_curve_replaces_a_weaker_target_and_a_target_a_curve(
    text: str, options: dict[str, Any], follows: str
) -> None:
    assert str(settings(text, **options).for_card(CARD)) == follows


def test_show_says_whether_a_target_or_a_curve_is_followed(file: Path) -> None:
    def shown(text: str) -> list[str]:
        file.write_text(text)
        lines = command("config", "show", "--config", file).output.splitlines()
        return [" ".join(line.split()) for line in lines if line.startswith(("  target_c", "  curve"))]

    assert shown("") == ["target_c 78 built-in", "curve none, the target is held built-in"]
    assert shown('curve = "50:30"') == ["target_c none, the curve is followed file", 'curve "50:30" file']
    assert shown('curve = "50:30"\n[[gpu]]\nmatch = 1\ntarget_c = 75')[2:] == [
        "target_c 75 [[gpu]] 1",
        "curve none, the target is held [[gpu]] 1",
    ]


def test_check_reports_the_mistake_or_that_there_is_none(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(render_settings_text())
    assert command("config", "check", "--config", file).output == f"{file}: no mistake found\n"
    file.write_text("hold = 1")
    assert isinstance(command("config", "check", "--config", file).exception, InputError)
    monkeypatch.setattr(cli_options, "DEFAULT_PATH", file.with_name("none"))
    assert command("config", "check").output == (
        f"{file.with_name('none')}: no such file, so the built-in settings are in effect\n"
    )


def test_show_prints_every_setting_and_its_origin(file: Path) -> None:
    file.write_text('hysteresis_c = 4\n[[gpu]]\nmatch = "1080"\nhold_s = 30')
    lines = [line.split() for line in command("config", "show", "--config", file).output.splitlines()]
    every, table = lines[: lines.index([])], lines[lines.index([]) :]
    assert ["file:", str(file)] in every
    everyone = [line for line in table if "[[gpu]]" not in line][: len(RUN_KEYS) + 2]
    assert ["hysteresis_c", "4", "file"] in everyone
    assert ["hold_s", "120", "built-in"] in everyone
    assert ["gpus", "all", "built-in"] in everyone
    assert ["hold_s", "30", "[[gpu]]", "1"] in table
    assert ["hysteresis_c", "4", "file"] in table[len(everyone) :]


def test_show_of_a_key_also_prints_its_meaning(file: Path) -> None:
    file.write_text('hysteresis_c = 4\n[[gpu]]\nmatch = "1080"\nhold_s = 30')
    said = command("config", "show", "--config", file, "interval_s", "min_duty_percent").output
    assert re.search(r"^  min_duty_percent  the card's own, or 30 if that is under 20 +built-in$", said, re.MULTILINE)
    assert "\ninterval_s: Seconds from one reading to the next. From 0.1 to 5.\n" in said
    assert "hysteresis_c" not in said
    assert "hold" not in command("config", "show", "--config", file, "interval_s").output
    refused = command("config", "show", "hold")
    assert refused.exit_code == 2
    assert "hold_s" in refused.output


def test_a_simulation_reads_no_file_except_one_that_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("hold = 1")
    monkeypatch.setattr(cli_options, "DEFAULT_PATH", file)
    quick = ("run", "--simulate", "--duration", "1s", "--time-scale", "max")
    assert command(*quick).exit_code == 0
    assert isinstance(command(*quick, "--config", file).exception, InputError)


def test_a_given_option_overrides_the_file_and_a_default_does_not(file: Path) -> None:
    file.write_text("min_duty_percent = 77\ngpus = [1]")
    quick = ("run", "--simulate", "--dry-run", "--duration", "1s", "--time-scale", "max", "--config", file)
    assert "1 GTX 1080 Ti: 77 %" in command(*quick).output
    assert "0 GTX 1080 Ti: 66 %" in command(*quick, "--min-duty", "66", "--gpu", "0").output


def test_a_run_warns_of_an_option_for_curves_where_no_curve_is_followed(file: Path) -> None:
    file.write_text('[[gpu]]\nmatch = "RTX"\ncurve = "50:30"')
    quick = ("run", "--simulate", "--hold", "5", "--duration", "1s", "--time-scale", "max")
    warning = "hold_s has no effect: it is for a curve, and a target is held\n"
    assert warning in command(*quick).output
    assert warning not in command(*quick, "--curve", "50:30").output
    assert warning not in command(*quick, "--config", file).output


def test_an_error_about_many_mistakes_names_the_command_that_shows_all(file: Path) -> None:
    file.write_text("a = 1\nb = 1\nc = 1\nd = 1")
    output = str(command("run", "--simulate", "--config", file).exception)
    assert output.endswith(f"and 1 more: see `gpufan config check --config {file}`")


def test_an_error_about_a_missing_card_names_the_file(file: Path) -> None:
    file.write_text("gpus = [7]")
    result = command("run", "--simulate", "--duration", "1s", "--config", file)
    assert str(result.exception).startswith(f"{file}: gpus: 7: no such card; this box has 0 GTX 1080 Ti")


NIGHT = '[[quiet]]\nfrom = "22:00"\nto = "07:00"\nmax_duty_percent = 50\n'


def test_quiet_hours_are_those_of_every_card_in_the_order_of_the_file() -> None:
    text = NIGHT + 'days = ["fri", "sun"]\n[[gpu]]\nmatch = 0\n[[quiet]]\nfrom = "12:30"\nto = "24:00"\ntarget_c = 75'
    assert settings(text).for_card(CARD).quiet_hours == (
        QuietHours(22 * 60, 7 * 60, frozenset({4, 6}), 50, None),
        QuietHours(12 * 60 + 30, 24 * 60, frozenset(range(7)), None, 75.0),
    )


@pytest.mark.parametrize("option", [{"target_c": 70.0}, {"curve": Curve.parse("50:30")}])
def test_a_target_or_curve_of_the_command_line_overrides_the_target_of_quiet_hours(option: dict[str, object]) -> None:
    read = settings(f'{NIGHT}target_c = 80\n[[quiet]]\nfrom = "12:00"\nto = "13:00"\ntarget_c = 75', **option)
    assert [(hours.max_duty_percent, hours.target_c) for hours in read.for_card(CARD).quiet_hours] == [(50, None)]


def test_config_show_shows_quiet_hours(file: Path) -> None:
    file.write_text(NIGHT + 'days = ["fri", "sat"]')
    assert command("config", "show", "--config", file).output.endswith(
        """
[[quiet]] 1, every card
  from              "22:00"         [[quiet]] 1
  to                "07:00"         [[quiet]] 1
  days              ["fri", "sat"]  [[quiet]] 1
  max_duty_percent  50              [[quiet]] 1
"""
    )


def test_quiet_hours_begin_and_end_in_a_simulated_night(file: Path, tmp_path: Path) -> None:
    file.write_text('curve = "0:90"\n' + NIGHT.replace("07:00", "00:20"))
    rows = tmp_path / "rows.csv"
    arguments = ["--simulate", "1080ti", "--workload", "idle", "--config", file, "--duration", "21m", "--interval", 5]
    done = command("run", *arguments, "--time-scale", "max", "--record", rows, "--runtime-dir", tmp_path)
    assert done.exit_code == 0
    with rows.open() as lines:
        duties = [(float(row["time_s"]), row["duty_percent"]) for row in csv.DictReader(lines)]
    by_night = {duty for seconds, duty in duties if seconds < 1200}
    assert (by_night, {duty for seconds, duty in duties if seconds >= 1200}) == ({"50"}, {"90"})
